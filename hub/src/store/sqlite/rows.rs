//! Many rows in one statement, bound as they are.
//! Each statement is a round trip to the connection's thread: a table and a delta have one.
//! Must never make a statement of each number of rows: the connection keeps those it has prepared.
//! Read next: `store/sqlite/delivery/commit.rs`.

use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

/// Rows of one statement at most.
const ROWS_PER_STATEMENT: usize = 64;

/// Runs `{before} (VALUES …) {after}` for all rows. The rows' columns are `column1`, `column2`, …
/// Rows are filled up to a power of two with rows of NULL; `bind` binds every column as an
/// `Option`, and the statement takes no row whose first column is NULL.
pub(super) async fn execute<T>(
    connection: &mut SqliteConnection,
    before: &'static str,
    rows: &[T],
    bind: impl Fn(&mut Separated<'_, Sqlite, &'static str>, Option<&T>),
    after: &'static str,
) -> Result<(), sqlx::Error> {
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let mut statement = values(before, rows, &bind, after);
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// The same for a query of one column.
pub(super) async fn select_scalars<T, C: FromIterator<String>>(
    connection: &mut SqliteConnection,
    before: &'static str,
    rows: &[T],
    bind: impl Fn(&mut Separated<'_, Sqlite, &'static str>, Option<&T>),
    after: &'static str,
) -> Result<C, sqlx::Error> {
    let mut found: Vec<String> = Vec::new();
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let mut statement = values(before, rows, &bind, after);
        let query = statement.build_query_scalar();
        found.extend(query.fetch_all(&mut *connection).await?);
    }
    Ok(found.into_iter().collect())
}

/// The statement for rows that fit into one.
fn values<T>(
    before: &'static str,
    rows: &[T],
    bind: impl Fn(&mut Separated<'_, Sqlite, &'static str>, Option<&T>),
    after: &'static str,
) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::<Sqlite>::new(before);
    let count = rows.len().next_power_of_two();
    let filled = rows.iter().map(Some).chain(std::iter::repeat(None));
    statement.push(" (");
    statement.push_values(filled.take(count), |mut row, of| bind(&mut row, of));
    statement.push(") ");
    statement.push(after);
    statement
}

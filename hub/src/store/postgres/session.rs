//! One piece of work on a connection: a read, or a transaction that the owner's epoch fences.
//! Between the roles and the pool; the roles write `retried!` around each piece.
//! Must never write for a municipality without its fence in the same transaction, nor give a
//! connection back on which anything is under way.
//! Read next: `store/postgres/publish.rs`.
//!
//! ```text
//!   BEGIN; SELECT … FROM owners … FOR SHARE  ──▶  statements  ──▶  COMMIT
//!   └ one round trip; `own` waits for it, and what comes behind a new epoch finds no row
//! ```

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::{Query, QueryScalar};
use sqlx::{AssertSqlSafe, Executor, FromRow, Postgres};
use tokio::time::{Instant, sleep, timeout};

use super::PgStore;
use super::pool::{Pool, Taken};
use crate::event::Municipality;
use crate::limits::{STORE_ANSWER_WITHIN, STORE_RETRY_BASE, STORE_RETRY_MAX, STORE_RETRY_WITHIN};
use crate::store::StoreError;

/// Reading committed rows is what the fence rests on, whatever the database's default is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// An instance that freezes between two statements must not keep others from taking over, nor one
/// that waits for a lock keep its place in the queue for ever.
const PATIENCE: &str = "; SET LOCAL idle_in_transaction_session_timeout TO '3s'; \
     SET LOCAL lock_timeout TO '5s'";
const BEGIN_READ: &str = "BEGIN READ ONLY";

/// Why a piece of work failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The driver or the database.
    Sql(sqlx::Error),
    /// Nothing came back in time; what was sent may still take effect.
    Unanswered,
    /// The seam's own answer: nothing to try again.
    Answer(StoreError),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// Another epoch owns what is named.
    pub(super) fn fenced(name: &str) -> Self {
        Self::Answer(StoreError::Fenced(name.to_owned()))
    }

    /// True when the next try may find another connection, server or turn.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Unanswered => true,
            Self::Answer(_) => false,
            Self::Sql(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| passes(&code))
            }
            Self::Sql(error) => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::WorkerCrashed
            ),
        }
    }

    fn into_error(self, action: &'static str) -> StoreError {
        let source: Box<dyn std::error::Error + Send + Sync> = match self {
            Self::Answer(error) => return error,
            Self::Unanswered => "the database gave no answer in time".into(),
            Self::Sql(error) => {
                let code = error.as_database_error().and_then(|error| error.code());
                if code.as_deref() == Some(DISK_FULL) {
                    let source = Box::new(error);
                    return StoreError::Full { action, source };
                }
                Box::new(error)
            }
        };
        StoreError::Backend { action, source }
    }
}

const DISK_FULL: &str = "53100";

/// Codes of PostgreSQL that say nothing against the statement itself: connection exceptions,
/// shutdown and start of the server, too many connections, a server that became a standby, a
/// transaction that was left alone for too long, and those that lost against others.
fn passes(code: &str) -> bool {
    code.starts_with("08")
        || code.starts_with("57P")
        || ["53300", "25006", "25P03", "40001", "40P01", "55P03"].contains(&code)
}

/// How often and how long one operation is tried.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    pool: &'a Pool,
    action: &'static str,
    until: Instant,
    wait: Duration,
}

impl<'a> Tries<'a> {
    pub(super) fn new(pool: &'a Pool, action: &'static str) -> Self {
        Self {
            pool,
            action,
            until: Instant::now() + STORE_RETRY_WITHIN,
            wait: STORE_RETRY_BASE,
        }
    }

    /// One try, which must answer in time.
    pub(super) async fn one<T>(
        &self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        match timeout(STORE_ANSWER_WITHIN, work).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Unanswered),
        }
    }

    /// Waits for the next try, or gives up.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<(), StoreError> {
        if !trouble.passes() {
            return Err(trouble.into_error(self.action));
        }
        self.pool.forget_idle();
        if Instant::now() + self.wait >= self.until {
            return Err(trouble.into_error(self.action));
        }
        tracing::debug!(
            ?trouble,
            action = self.action,
            "the database is asked again"
        );
        sleep(self.wait).await;
        self.wait = (self.wait * 2).min(STORE_RETRY_MAX);
        Ok(())
    }
}

/// Does a piece of work, again when the connection or the server went away meanwhile: whatever is
/// written here may be done twice. The work is an `async` block that ends in `Ok::<_, Trouble>`.
macro_rules! retried {
    ($store:expr, $action:expr, $work:expr) => {{
        let mut tries = $crate::store::postgres::session::Tries::new(&$store.pool, $action);
        loop {
            match tries.one($work).await {
                Ok(answer) => break Ok(answer),
                Err(trouble) => {
                    if let Err(error) = tries.again(trouble).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
pub(super) use retried;

/// A connection for one piece of work. Dropped before its end it is closed, and the server undoes
/// what was begun.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pool: &'a Pool,
    /// There until the end.
    taken: Option<Taken>,
    /// Statements are kept by the server for the next time; behind a pooler the next one may be
    /// another server.
    keeps_statements: bool,
    in_transaction: bool,
}

impl Session<'_> {
    /// A statement for this connection.
    pub(super) fn query<'q>(&self, sql: &'static str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(sql).persistent(self.keeps_statements)
    }

    /// The same for the first column.
    pub(super) fn scalar<'q, O>(
        &self,
        sql: &'static str,
    ) -> QueryScalar<'q, Postgres, O, PgArguments>
    where
        (O,): for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(sql).persistent(self.keeps_statements)
    }

    /// Commits what was begun and gives the connection back.
    pub(super) async fn end(mut self) -> Result<(), Trouble> {
        if self.in_transaction {
            self.execute("COMMIT").await?;
        }
        if let Some(taken) = self.taken.take() {
            self.pool.put(taken);
        }
        Ok(())
    }
}

/// Why a session has its connection for as long as anybody can reach it.
const TAKEN: &str = "a session has its connection until its end";

impl Deref for Session<'_> {
    type Target = PgConnection;

    #[expect(
        clippy::expect_used,
        reason = "only `end` takes it, and nobody has it afterwards"
    )]
    fn deref(&self) -> &PgConnection {
        &self.taken.as_ref().expect(TAKEN).connection
    }
}

impl DerefMut for Session<'_> {
    #[expect(
        clippy::expect_used,
        reason = "only `end` takes it, and nobody has it afterwards"
    )]
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.taken.as_mut().expect(TAKEN).connection
    }
}

impl PgStore {
    async fn session(&self) -> Result<Session<'_>, Trouble> {
        Ok(self.session_on(self.pool.take().await?))
    }

    fn session_on(&self, taken: Taken) -> Session<'_> {
        Session {
            pool: &self.pool,
            taken: Some(taken),
            keeps_statements: !self.behind_pooler,
            in_transaction: false,
        }
    }

    /// A connection to read with. Behind a pooler it has a transaction, which alone keeps a
    /// statement and its execution on one server.
    pub(super) async fn read(&self) -> Result<Session<'_>, Trouble> {
        let mut session = self.session().await?;
        if self.behind_pooler {
            session.execute(BEGIN_READ).await?;
            session.in_transaction = true;
        }
        Ok(session)
    }

    /// A transaction without a fence: for what belongs to no municipality, and for the owners.
    pub(super) async fn begin(&self) -> Result<Session<'_>, Trouble> {
        let (session, _) = self.begin_with("").await?;
        Ok(session)
    }

    /// The same for leases, which wait for nobody else's work.
    pub(super) async fn begin_kept(&self) -> Result<Session<'_>, Trouble> {
        let session = self.session_on(self.pool.take_kept().await?);
        let (session, _) = Self::begin_on(session, "").await?;
        Ok(session)
    }

    /// The same for statements over arrays, of which each keeps one plan: planned for the length of
    /// each array they would cost more to plan than to run. The plan follows the indexes, whatever
    /// size the tables had when it was made.
    pub(super) async fn begin_planned(&self) -> Result<Session<'_>, Trouble> {
        let keep = "; SET LOCAL plan_cache_mode TO force_generic_plan; \
             SET LOCAL enable_seqscan TO off; SET LOCAL enable_hashjoin TO off; \
             SET LOCAL enable_mergejoin TO off";
        let (session, _) = self.begin_with(keep).await?;
        Ok(session)
    }

    /// A transaction for a municipality, fenced by the epoch under which this store owns it.
    pub(super) async fn write(&self, m: &Municipality) -> Result<Session<'_>, Trouble> {
        let Some(epoch) = self.owned.epoch_to_write_under(m)? else {
            return self.begin().await;
        };
        let fence = format!(
            "; SELECT 1 FROM owners WHERE municipality = '{m}' AND epoch = {epoch} FOR SHARE"
        );
        let (session, found) = self.begin_with(&fence).await?;
        if found == 0 {
            return Err(Trouble::fenced(m.as_str()));
        }
        Ok(session)
    }

    /// Every commit waits for as much as the database is set to, whatever its `Durability`: a store
    /// that may take back its last commits must end together with its hub, which reads the log's
    /// tail when it starts, and this database may end alone.
    ///
    /// Begins with one round trip; returns the rows that a further statement in it gave.
    async fn begin_with(&self, further: &str) -> Result<(Session<'_>, usize), Trouble> {
        let session = self.session().await?;
        Self::begin_on(session, further).await
    }

    async fn begin_on<'a>(
        mut session: Session<'a>,
        further: &str,
    ) -> Result<(Session<'a>, usize), Trouble> {
        let statements = format!("{BEGIN}{PATIENCE}{further}");
        session.in_transaction = true;
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        let rows = statements.fetch_all(&mut *session).await?;
        Ok((session, rows.len()))
    }
}

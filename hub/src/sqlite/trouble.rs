//! What an error of SQLite says about the disk: full, failing, or nothing.
//! Between the statements of log and store and their own errors.
//! Must never let the process live on after a failed write or sync: what the system's cache then
//! holds is not what the disk has, and an acknowledgement on it would be a lie.
//! Read next: `log/sqlite.rs`, `store/sqlite.rs`.

/// Exit status of a hub that stopped itself because the disk failed.
pub const EXIT_DISK_FAILED: i32 = 5;

/// Primary result codes of SQLite.
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOT_A_DATABASE: u32 = 26;
/// The shared index of a write-ahead log could not grow: a full disk says it this way.
const INDEX_CANNOT_GROW: u32 = 4_874;

/// SQLite's result code with its extension; 0 when the error is none of SQLite's.
fn code(error: &sqlx::Error) -> u32 {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// True when SQLite found that a file does not hold what was written.
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    [CORRUPT, NOT_A_DATABASE].contains(&(code(error) & 0xff))
}

/// True when there was no room on the disk. The transaction has written nothing.
pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    let code = code(error);
    code & 0xff == FULL || code == INDEX_CANNOT_GROW
}

/// Ends the process when the disk failed; the restart reads again what the disk has, and decides.
pub(crate) fn must_not_be_io(what: &str, error: &sqlx::Error) {
    if code(error) & 0xff != IO_ERROR || is_full(error) {
        return;
    }
    tracing::error!(what, %error, "the disk failed; the hub stops itself");
    eprintln!(
        "musubi: the disk failed while {what}: {error}; the hub stopped itself, so that it \
         acknowledges nothing that is not on the disk; check the disk, then start it again"
    );
    std::process::exit(EXIT_DISK_FAILED);
}

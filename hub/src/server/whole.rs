//! Work that goes on to its end when the one who asked for it goes away.
//! Around acts of several steps, at the edges.
//! Must never be used for what a caller may break off at any point.
//! Read next: `server/admin_service.rs`.

use tonic::Code;

use super::status::Failure;

/// Runs an act on a task of its own, so that a call that is broken off leaves no half of it.
///
/// # Errors
/// Those of the act; `NOT_DURABLE` when the hub stops meanwhile.
pub async fn to_its_end<T: Send + 'static>(
    act: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(act).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Failure::new(
            Code::Unavailable,
            "NOT_DURABLE",
            "the hub is stopping; ask again",
        )),
    }
}

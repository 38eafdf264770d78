//! Why a municipality cannot be opened, and the look whether its log and store are of one time.
//! After it was taken, before anything of it is recovered.
//! Must never let a hub go on with a log that lost what the store knows of.
//! Read next: `server/town.rs`.

use thiserror::Error;
use tonic::Code;

use super::status::Failure;
use super::town::Commons;
use crate::event::{Municipality, Stream};
use crate::log::LogError;
use crate::publish::sequencer::PublishError;
use crate::store::StoreError;

/// Why a municipality cannot be opened. Each text is one line for an operator.
#[derive(Debug, Error)]
pub enum OpenTownError {
    /// The log lost records that the store knows of.
    #[error(
        "the log of `{municipality}` lost its end: {stream} positions {from} to {to} were \
         acknowledged and are gone; keep the data folder as it is and restore a backup with \
         `musubi restore`"
    )]
    EndLost {
        /// Whose log.
        municipality: Municipality,
        /// Stream.
        stream: &'static str,
        /// First position that is missing.
        from: u64,
        /// Last position that is missing.
        to: u64,
    },
    /// The log forgot more than the store knows of.
    #[error(
        "the log of `{municipality}` begins with {stream} position {first}, and the store knows of \
         its trimming up to {noted} only: they are not of one time; restore a backup with \
         `musubi restore`"
    )]
    NotOfOneTime {
        /// Whose log.
        municipality: Municipality,
        /// Stream.
        stream: &'static str,
        /// First position of the log.
        first: u64,
        /// First position that the store noted.
        noted: u64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be read, or the municipality is another instance's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be recovered.
    #[error("{}", .0.message)]
    Recovery(Failure),
}

impl From<PublishError> for OpenTownError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => Self::Store(error),
            PublishError::Log(error) => Self::Log(error),
            error => Self::Recovery(error.into()),
        }
    }
}

impl From<OpenTownError> for Failure {
    fn from(error: OpenTownError) -> Self {
        match error {
            OpenTownError::Log(error) => error.into(),
            OpenTownError::Store(error) => error.into(),
            OpenTownError::Recovery(failure) => failure,
            error @ (OpenTownError::EndLost { .. } | OpenTownError::NotOfOneTime { .. }) => {
                Failure::new(Code::DataLoss, "RECORD_DAMAGED", error.to_string())
            }
        }
    }
}

/// The log is written before the store: a store that knows more tells of a log that lost its end.
/// It is trimmed after the store has noted it: a log that begins later is another store's.
///
/// # Errors
/// When one of the two is so, or cannot be read.
pub async fn check_ends(commons: &Commons, m: &Municipality) -> Result<(), OpenTownError> {
    for stream in Stream::ALL {
        let tail = commons.store.committed_tail(m, stream).await?;
        let bounds = commons.log.bounds(m, stream).await?;
        if tail > bounds.next {
            return Err(OpenTownError::EndLost {
                municipality: m.clone(),
                stream: stream.name(),
                from: bounds.next.0,
                to: tail.0 - 1,
            });
        }
        let noted = commons.store.kept_from(m, stream).await?;
        if bounds.first > noted {
            return Err(OpenTownError::NotOfOneTime {
                municipality: m.clone(),
                stream: stream.name(),
                first: bounds.first.0,
                noted: noted.0,
            });
        }
        // A former owner noted it and did not come to trim, or comes too late.
        if noted > bounds.first {
            commons.log.trim(m, stream, noted).await?;
        }
    }
    Ok(())
}

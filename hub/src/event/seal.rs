//! Sealed copies: every stored payload carries the id of the key that opens it.
//! Used wherever a payload is written: log, held, parked.
//! Must never hand bytes to storage without a key id.
//! Read next: `log.rs`.

use thiserror::Error;

/// Id of the seal that leaves bytes as they are.
pub const IDENTITY: &str = "identity";

/// A sealed payload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sealed {
    /// Which key opens it.
    pub key_id: String,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

/// A sealed payload cannot be opened.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no key `{0}` to open a sealed payload; the data folder belongs to a newer version")]
pub struct UnknownKey(pub String);

impl Sealed {
    /// Seals with the identity seal, until keys per (municipality, subject) exist.
    pub fn seal(bytes: Vec<u8>) -> Self {
        Self {
            key_id: IDENTITY.to_owned(),
            bytes,
        }
    }

    /// Opens it.
    pub fn open(self) -> Result<Vec<u8>, UnknownKey> {
        if self.key_id == IDENTITY {
            Ok(self.bytes)
        } else {
            Err(UnknownKey(self.key_id))
        }
    }
}

//! Who calls: tokens mapped to municipality, system and role.
//! Checked at every edge before anything else.
//! Must never tell an unknown token from one without the right.
//! Read next: `server/serve.rs`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use super::status::Failure;
use crate::event::Municipality;

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Publishes for its system.
    Source,
    /// Receives for its system.
    Receiver,
    /// Operates: everything of its municipality.
    Operator,
}

/// A client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// No tokens are configured: the hub listens on loopback only, and everybody may do all.
    Local,
    /// A client with a token.
    Client {
        /// Municipality.
        municipality: Municipality,
        /// 業務ID; empty for an operator.
        system: String,
        /// Role.
        role: Role,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    client: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    /// SHA-256 of the token, in hex: the file itself opens nothing.
    token_sha256: String,
    municipality: String,
    #[serde(default)]
    system: String,
    role: Role,
}

/// Known tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    clients: Option<Arc<HashMap<String, Caller>>>,
}

impl Tokens {
    /// Nobody needs a token.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads a token file.
    ///
    /// # Errors
    /// One line that names the file and what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the token file `{name}`: {error}"))?;
        let file: TokenFile = toml::from_str(&text)
            .map_err(|error| format!("the token file `{name}` is not valid: {}", line(&error)))?;
        let mut clients = HashMap::new();
        for entry in file.client {
            let Some(municipality) = Municipality::parse(&entry.municipality) else {
                let code = entry.municipality;
                return Err(format!("`{name}`: `{code}` is no municipality code"));
            };
            if entry.token_sha256.len() != 64 {
                return Err(format!("`{name}`: token_sha256 must have 64 hex digits"));
            }
            let caller = Caller::Client {
                municipality,
                system: entry.system,
                role: entry.role,
            };
            clients.insert(entry.token_sha256.to_lowercase(), caller);
        }
        Ok(Self {
            clients: Some(Arc::new(clients)),
        })
    }

    /// True when tokens are required.
    pub fn required(&self) -> bool {
        self.clients.is_some()
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a known token.
    pub fn caller<T>(&self, request: &tonic::Request<T>) -> Result<Caller, Failure> {
        let Some(clients) = &self.clients else {
            return Ok(Caller::Local);
        };
        let header = request.metadata().get("authorization");
        let token = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        let digest: String = Sha256::digest(token.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        clients.get(&digest).cloned().ok_or_else(|| {
            Failure::new(
                Code::Unauthenticated,
                "UNAUTHENTICATED",
                "send `authorization: Bearer <token>` with a token of the hub's token file",
            )
        })
    }
}

/// The first line of a parse error.
pub(crate) fn line(error: &toml::de::Error) -> String {
    error
        .to_string()
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

impl Caller {
    /// May it do something for a system of a municipality? Same answer for what does not exist.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn check(&self, m: &Municipality, role: Role, system: &str) -> Result<(), Failure> {
        let allowed = match self {
            Caller::Local => true,
            Caller::Client {
                municipality,
                role: Role::Operator,
                ..
            } => municipality == m,
            Caller::Client {
                municipality,
                system: own,
                role: has,
            } => municipality == m && *has == role && (own == system || role == Role::Operator),
        };
        granted(allowed)
    }

    /// Whether the caller has anything to do with a municipality.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn belongs_to(&self, m: &Municipality) -> Result<(), Failure> {
        granted(match self {
            Caller::Local => true,
            Caller::Client { municipality, .. } => municipality == m,
        })
    }
}

fn granted(allowed: bool) -> Result<(), Failure> {
    if allowed {
        return Ok(());
    }
    Err(Failure::new(
        Code::PermissionDenied,
        "PERMISSION_DENIED",
        "this token gives no right to that; check municipality, system and role in the hub's \
         token file",
    ))
}

/// Reads a municipality code of a request.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub fn municipality(code: &str) -> Result<Municipality, Status> {
    Municipality::parse(code).ok_or_else(|| {
        super::status::invalid(
            "municipality",
            "a municipality is six digits with a right check digit, such as 142042",
        )
        .into()
    })
}

//! The way to the hub for every command: address, municipality, token.
//! Opens one channel and hands out the clients of the hub's services.
//! Must never print the token.
//! Read next: `commands.rs`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use musubi_proto::hub::v1::admin_service_client::AdminServiceClient;
use musubi_proto::hub::v1::event_service_client::EventServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use musubi_hub::doctor::serves;

use crate::failure::{Failure, unreachable_line};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the hub is asked for a sign of life while a call waits.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may owe that sign before the call fails.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Options that every command has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Access {
    /// Address of the hub; of several instances, separated by commas, the first one that answers
    #[arg(
        long,
        global = true,
        env = "MUSUBI_HUB",
        default_value = "http://127.0.0.1:7411",
        value_name = "URL"
    )]
    pub(crate) hub: String,
    /// Municipality: 全国地方公共団体コード, six digits
    #[arg(long, global = true, env = "MUSUBI_MUNICIPALITY", value_name = "CODE")]
    municipality: Option<String>,
    /// File with the token of the caller; not needed on the hub's own machine
    #[arg(long, global = true, env = "MUSUBI_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print one JSON document instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Access {
    /// Access to a hub without a token, for the demo's own hub.
    pub(crate) fn local(hub: String, municipality: &str) -> Self {
        let municipality = Some(municipality.to_owned());
        Self {
            hub,
            municipality,
            token_file: None,
            json: false,
        }
    }

    /// The municipality.
    pub(crate) fn municipality(&self) -> Result<String> {
        let code = self.municipality.clone().ok_or_else(|| {
            Failure::Usage(
                "which municipality? name it with --municipality CODE, or set MUSUBI_MUNICIPALITY"
                    .to_owned(),
            )
        })?;
        if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            let line = format!("--municipality `{code}` is not six digits");
            return Err(Failure::Usage(line).into());
        }
        Ok(code)
    }

    /// The municipality; empty when none is named.
    pub(crate) fn municipality_or_all(&self) -> Result<String> {
        match self.municipality {
            None => Ok(String::new()),
            Some(_) => self.municipality(),
        }
    }

    /// The token's text, when a file is named.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        let text = fs::read_to_string(file)
            .with_context(|| format!("read the token in `{}`", file.display()))
            .map_err(|error| Failure::usage(&error))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// Opens the connection.
    pub(crate) async fn connect(&self) -> Result<Hub> {
        let token = self
            .token()?
            .map(|token| format!("Bearer {token}").parse())
            .transpose()
            .map_err(|_| Failure::Usage("the token has characters that cannot be sent".into()))?;
        let token = Token(token);
        let addresses: Vec<&str> = self.hub.split(',').map(str::trim).collect();
        let mut first = None;
        for address in &addresses {
            let endpoint = Endpoint::from_shared((*address).to_owned())
                .map_err(|_| Failure::Usage(format!("--hub `{address}` is no address")))?
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(CALL_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
            let Ok(channel) = endpoint.connect().await else {
                continue;
            };
            // One that lives and has lost its database is no use while there is another.
            let serves = addresses.len() == 1 || serves(channel.clone()).await;
            let hub = Hub {
                channel,
                token: token.clone(),
                address: (*address).to_owned(),
            };
            if serves {
                return Ok(hub);
            }
            first.get_or_insert(hub);
        }
        if let Some(hub) = first {
            return Ok(hub);
        }
        let line = unreachable_line("the connection", &self.hub);
        Err(Failure::Unreachable(line).into())
    }
}

/// Puts the token on each request.
#[derive(Debug, Clone)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let mut token = token.clone();
            token.set_sensitive(true);
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

/// A channel with a token.
pub(crate) type Authorised = InterceptedService<Channel, Token>;

/// An open connection to a hub.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    channel: Channel,
    token: Token,
    address: String,
}

impl Hub {
    /// Client of the event service.
    pub(crate) fn events(&self) -> EventServiceClient<Authorised> {
        EventServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Client of the admin service.
    pub(crate) fn admin(&self) -> AdminServiceClient<Authorised> {
        AdminServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Turns a refusal into one line about what was asked.
    pub(crate) fn refused(&self, what: impl Into<String>) -> impl FnOnce(Status) -> anyhow::Error {
        let (what, address) = (what.into(), self.address.clone());
        move |status| Failure::from_status(&what, &address, &status).into()
    }
}

//! `musubi adapter`: runs the adapter of one product, beside its product or anywhere else.
//! Joins the product to the hub until it is stopped.
//! Must never start with settings that the adapter does not understand completely.
//! Read next: `serve.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use musubi_adapter_sdk::HubAccess;
use musubi_adapters::host::OpenError;

use super::until_stopped;
use crate::client::Access;
use crate::failure::Failure;
use crate::output::{Table, print, print_json};

/// Adapters.
#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// Run the adapter of a product until it is stopped
    #[command(
        after_help = "The settings are those of the product's adapter, as TOML:
  tsubame  folder, data, instance = tsubame-1 (never change it), poll_ms = 200
  kaede    address, connect_timeout_ms = 2000, request_timeout_ms = 30000, in_flight_max
  ayame    as kaede, and batch_units = 500
  hinoki   folder, tables, file_wait_ms, records_max, batch_units, answer_within_hours, poll_ms, in_flight_max
  momiji   database (sqlite://FILE or postgres://…), poll_ms, in_flight_max, batch_units, connections_max

Examples:
  musubi adapter run --municipality 142042 --product kaede --set address=http://127.0.0.1:8010
  musubi adapter run --municipality 142042 --product hinoki --config hinoki.toml"
    )]
    Run(RunArgs),
    /// List the products that have an adapter
    List,
}

/// Arguments of `musubi adapter run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Product
    #[arg(long, value_name = "NAME")]
    product: String,
    /// File with the settings, as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; a value that is no number, true or false is text
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl AdapterCommand {
    /// The product whose adapter runs, when one does.
    pub(crate) fn product(&self) -> Option<&str> {
        match self {
            Self::Run(args) => Some(&args.product),
            Self::List => None,
        }
    }

    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::Run(args) => run(args, access).await,
            Self::List => list(access),
        }
    }
}

async fn run(args: RunArgs, access: &Access) -> Result<()> {
    let settings = settings(args.config.as_deref(), &args.settings)?;
    let hub = HubAccess {
        endpoint: access.hub.clone(),
        token: access.token()?,
        municipality: access.municipality()?,
    };
    let ran = musubi_adapters::host::run(&args.product, &settings, hub, until_stopped()).await;
    ran.map_err(|error| {
        let error = match args.config {
            Some(_) => error,
            None => without_line(error),
        };
        Failure::usage(&anyhow::Error::new(error)).into()
    })
}

/// Without a file of the user, a line number names nothing that the user has seen.
fn without_line(error: OpenError) -> OpenError {
    match error {
        OpenError::Config { product, problem } => {
            let rest = problem
                .strip_prefix("line ")
                .and_then(|rest| rest.split_once(": "));
            let problem = match rest {
                Some((line, rest)) if line.bytes().all(|b| b.is_ascii_digit()) => rest.to_owned(),
                _ => problem,
            };
            OpenError::Config { product, problem }
        }
        other => other,
    }
}

/// The file's text, with the single settings in front: TOML ends its top level at the first table.
fn settings(config: Option<&Path>, single: &[String]) -> Result<String> {
    let mut text = String::new();
    for setting in single {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--set `{setting}` is not KEY=VALUE")))?;
        text.push_str(&format!("{key} = {}\n", toml_value(value)));
    }
    if let Some(file) = config {
        let settings = fs::read_to_string(file)
            .with_context(|| format!("read the settings in `{}`", file.display()))
            .map_err(|error| Failure::usage(&error))?;
        text.push_str(&settings);
    }
    Ok(text)
}

/// A value as TOML: numbers and booleans as they are, everything else as text.
fn toml_value(value: &str) -> String {
    if value.parse::<i64>().is_ok() || matches!(value, "true" | "false") {
        return value.to_owned();
    }
    // A JSON string is a TOML string.
    serde_json::Value::String(value.to_owned()).to_string()
}

fn list(access: &Access) -> Result<()> {
    let products = musubi_adapters::host::PRODUCTS;
    if access.json {
        let products: Vec<_> = products
            .iter()
            .map(|product| {
                let role = format!("{:?}", product.role).to_ascii_lowercase();
                serde_json::json!({"product": product.name, "system": product.system, "role": role})
            })
            .collect();
        return print_json(&serde_json::json!({ "products": products }));
    }
    let mut table = Table::new(&["PRODUCT", "SYSTEM", "ROLE"]);
    for product in products {
        let role = format!("{:?}", product.role).to_ascii_lowercase();
        table.row(vec![
            product.name.to_owned(),
            product.system.to_owned(),
            role,
        ]);
    }
    print(&table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_settings_become_toml_of_their_kind() {
        let single = [
            "address=http://127.0.0.1:80".to_owned(),
            "poll_ms=50".to_owned(),
        ];
        let text = settings(None, &single).unwrap();
        assert_eq!(text, "address = \"http://127.0.0.1:80\"\npoll_ms = 50\n");
        assert!(settings(None, &["poll".to_owned()]).is_err());
    }

    #[test]
    fn a_line_number_is_left_out_and_nothing_else() {
        let told = |problem| without_line(OpenError::config("kaede", problem)).to_string();
        assert!(told("line 1: missing field `address`").ends_with(": missing field `address`"));
        assert!(told("line of thought: no").ends_with(": line of thought: no"));
    }
}

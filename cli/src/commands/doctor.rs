//! `musubi doctor`: looks at a deployment and says what to change.
//! Asks brokers, database, instances and files themselves; a hub need not run.
//! Must never change anything, nor end with success while something is wrong.
//! Read next: `hub/src/doctor.rs`.

use std::path::PathBuf;

use anyhow::Result;
use musubi_hub::doctor::{Finding, Level, examine, of_folder};
use musubi_hub::server::Config;
use serde_json::json;

use crate::client::Access;
use crate::failure::Failure;
use crate::output::{print, print_json};

/// Arguments of `musubi doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One line for each thing that was looked at; what is not as it should be also \
says what is needed
and what mends it. Ends with 1 when an error was found, and with 0 when there are only warnings.
Nothing is changed.

Examples:
  musubi doctor --config /etc/musubi/cluster.yaml
  musubi doctor --config cluster.yaml --json
  musubi doctor --data /var/lib/musubi"
)]
#[command(group(clap::ArgGroup::new("place").required(true)))]
pub(crate) struct Args {
    /// Configuration file of the hub or of one of its instances
    #[arg(long, value_name = "FILE", group = "place")]
    config: Option<PathBuf>,
    /// Data folder of a hub of one instance, running or not
    #[arg(long, value_name = "DIR", group = "place")]
    data: Option<PathBuf>,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let findings = match (&args.config, &args.data) {
        (Some(file), _) => examine(&Config::read(file).map_err(Failure::Usage)?).await,
        (None, Some(data)) => of_folder(data).await,
        (None, None) => return Err(Failure::Usage("name --config or --data".into()).into()),
    };
    let count = |level| findings.iter().filter(|one| one.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    if access.json {
        print_json(&json!({
            "ok": errors == 0,
            "errors": errors,
            "warnings": warnings,
            "findings": findings,
        }))?;
    } else {
        let lines: String = findings.iter().map(line).collect();
        print(&lines)?;
    }
    match errors {
        0 => Ok(()),
        errors => {
            let looked = findings.len();
            let text = format!("{errors} of {looked} things that were looked at are wrong");
            Err(Failure::Refused(text).into())
        }
    }
}

fn line(finding: &Finding) -> String {
    let Finding {
        level,
        subject,
        found,
        needed,
        mend,
    } = finding;
    let one = match level {
        Level::Ok => format!("ok       {subject}: {found}"),
        Level::Warning => format!("warning  {subject}: {found}; needed: {needed}; mend: {mend}"),
        Level::Error => format!("error    {subject}: {found}; needed: {needed}; mend: {mend}"),
    };
    format!("{}\n", one.replace(['\n', '\r'], " "))
}

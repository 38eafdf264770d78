//! `musubi migrate`: takes an embedded hub's data folder over into a cluster.
//! While the folder's hub is stopped; broken off, it goes on when it is started again.
//! Must never say that it is done before everything was read back and found the same.
//! Read next: `hub/src/migrate.rs`.

use std::path::PathBuf;

use anyhow::Result;
use musubi_hub::migrate::{Migrated, Plan, migrate, plan};
use musubi_hub::server::Config;
use serde_json::json;

use crate::client::Access;
use crate::failure::Failure;
use crate::output;

/// Arguments of `musubi migrate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The hub of the folder must be stopped, and its municipalities must be new in the \
cluster, whose
instances may run meanwhile. Events, cursors, held and parked units, bindings and history are taken
over, read back and compared; until then no instance serves them. Broken off, the command goes on
where it was when it is started again. The folder stays as it is and is marked, so that it is not
served by mistake. The instances need the folder's key of the pseudonyms (`pseudonym_key_file`).

Examples:
  musubi migrate --from /var/lib/musubi --to /etc/musubi/cluster.yaml --dry-run
  musubi migrate --from /var/lib/musubi --to /etc/musubi/cluster.yaml"
)]
pub(crate) struct Args {
    /// Data folder of the embedded hub
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Configuration file of an instance of the cluster
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Say what would be moved, or why it cannot be, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let config = Config::read(&args.to).map_err(Failure::Usage)?;
    let file = args.to.display();
    let Some(cluster) = config.cluster else {
        let text = format!(
            "`{file}` describes no cluster; give the configuration of an instance, with `cluster:`"
        );
        return Err(Failure::Usage(text).into());
    };
    let failed = |error| Failure::usage(&anyhow::Error::new(error));
    if args.dry_run {
        let plan = Box::pin(plan(&args.from, &cluster)).await.map_err(failed)?;
        if access.json {
            return output::print_json(&json!({"ok": true, "plan": plan}));
        }
        print_plan(&plan);
        return Ok(());
    }
    let quiet = access.json;
    let say = move |what: &str| {
        if !quiet {
            println!("moving {what}");
        }
    };
    let moved = Box::pin(migrate(&args.from, &cluster, say)).await;
    let migrated = moved.map_err(failed)?;
    if access.json {
        return output::print_json(&json!({"ok": true, "migrated": migrated}));
    }
    print(&migrated);
    println!("serve the cluster: musubi serve --config {file}");
    Ok(())
}

fn print_plan(plan: &Plan) {
    println!("{:<22} {:>10}", "would be moved", "count");
    for (name, count) in &plan.parts {
        println!("{name:<22} {count:>10}");
    }
    let towns = plan.municipalities.join(", ");
    match plan.goes_on {
        true => println!("a migration of {towns} has begun and would go on; nothing was written"),
        false => println!("{towns}: nothing stands against it, and nothing was written"),
    }
}

fn print(migrated: &Migrated) {
    let towns = migrated.municipalities.join(", ");
    if migrated.verified.is_empty() {
        return println!("{towns}: migrated before, nothing was left to do");
    }
    println!("{:<22} {:>10}  digest", "read back, the same", "count");
    for part in &migrated.verified {
        let digest = part.digest.get(..16).unwrap_or(&part.digest);
        println!("{:<22} {:>10}  {digest}", part.name, part.count);
    }
    println!("migrated: {towns}");
}

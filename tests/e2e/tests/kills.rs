//! Fifty kills during the town's sixty days: in the end the same table, nothing twice.
//! The same as `cargo xtask faults kill --count 50`.
//! Must never count a kill that reached nobody.
//! Read next: `src/kills.rs`.

use std::time::Duration;

use musubi_e2e::kills::{Faults, run};

/// Kills of this test.
const COUNT: u32 = 50;
/// Fixed, so that a run can be repeated.
const SEED: u64 = 20_260_302;

#[test]
fn the_town_survives_fifty_kills_of_hub_adapters_and_products() {
    let folder = tempfile::Builder::new()
        .prefix("musubi-kills-")
        .tempdir()
        .unwrap();
    println!("seed {SEED}, in {}", folder.path().display());
    let report = run(&Faults {
        count: COUNT,
        seed: SEED,
        town: None,
        folder: folder.path().to_owned(),
        interval: Duration::from_millis(900),
    });
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let kept = folder.keep();
            panic!("kept in {}: {error:?}", kept.display());
        }
    };
    println!("{report}");
    assert_eq!(report.kinds.values().sum::<u32>(), COUNT);
    for kind in ["hub", "adapter", "product"] {
        assert!(report.kinds[kind] >= 5, "{:?}", report.kinds);
    }
}

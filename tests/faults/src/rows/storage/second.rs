//! B9: a second hub is started on the data folder of one that runs.
//! It ends at once with one line; the first one does not notice.
//! Must never pass when the line does not name the folder.
//! Read next: `tests/e2e/tests/bad_start.rs`.

use std::time::Duration;

use musubi_e2e::{Hub, Process};

use super::{logged, publish, version};
use crate::row::{Ctx, RowReport};

/// A start that cannot be has ended by then.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn second_hub(ctx: Ctx) -> RowReport {
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let client = hub.client().unwrap();
    let data = ctx.folder.join("hub").display().to_string();
    let arguments = ["serve", "--data", &data, "--listen", "127.0.0.1:0"];
    let mut published = 0;
    for attempt in 1..=ctx.count {
        let name = format!("second-{attempt}");
        let mut second = Process::musubi(&name, &arguments, &ctx.folder.join("run")).unwrap();
        let status = second.wait(LIMIT).unwrap();
        let said = second.log_text().unwrap();
        assert!(!status.success(), "it started");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&data) && said.contains("in use"), "{said}");
        hub.process().must_run().unwrap();
        publish(&client, &version(attempt)).await.unwrap();
        published += 1;
    }
    assert_eq!(logged(&client).await.len() as u64, published);
    RowReport {
        injected: ctx.count.into(),
        published,
        ..RowReport::default()
    }
}

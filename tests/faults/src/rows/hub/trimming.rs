//! A9: the hub dies while it trims its log, with a receiver that has not got everything yet.
//! What was trimmed cannot be judged by the log, so the receiver's journal is asked.
//! Must never trim with nothing to trim: the hub would not die.
//! Read next: `docs/specs/log.md` (retention).

use std::collections::HashMap;

use anyhow::Result;
use musubi_proto::hub::v1::Stream;

use super::dies_once;
use crate::history::Known;
use crate::load::Taker;
use crate::row::Ctx;
use crate::scene::Scene;

/// Points of one step of trimming.
const POINTS: &[&str] = &["retention.noted", "trim.deleted", "retention.trimmed"];
/// Keeps nothing that nobody needs.
const FORGETFUL: &[&str] = &["--retention-bytes", "1"];
/// Persons of these publishes, beyond those of the source.
const FIRST: u32 = 80_000_000;
/// Persons of one publish.
const SUBJECTS: u32 = 4;

/// Deaths, and what is wrong after them.
pub(super) async fn dies_while_trimming(
    ctx: &Ctx,
    scene: &mut Scene,
    taker: &Taker,
) -> Result<(u64, Vec<String>)> {
    let (mut deaths, mut next) = (0, FIRST);
    for _ in 0..ctx.count {
        for point in POINTS {
            scene.publish(next..next + SUBJECTS, 1..=2).await?;
            scene.settle().await?;
            // Some of these are not answered when the hub is killed.
            scene.publish(next..next + SUBJECTS, 3..=5).await?;
            next += SUBJECTS;
            scene.hub.process().kill()?;
            deaths += dies_once(ctx, &format!("{point}:1"), FORGETFUL)?;
            scene.hub.restart().await?;
        }
    }
    scene.settle().await?;
    let mut effects: HashMap<String, u32> = HashMap::new();
    for (id, _, _) in taker.journal().effects {
        *effects.entry(id).or_default() += 1;
    }
    let sent = scene.sent().iter();
    let acknowledged = sent.filter(|sent| sent.known == Known::Acknowledged);
    let mut violations = Vec::new();
    for sent in acknowledged {
        let times = effects.get(&sent.id).copied().unwrap_or(0);
        if times != 1 {
            let id = &sent.id;
            violations.push(format!(
                "A9: {id} took effect {times} times over a trimmed log"
            ));
        }
    }
    let kept = scene.client.log(Stream::Live).await?.len();
    if kept >= scene.sent().len() {
        violations.push(format!("A9: nothing was trimmed of {kept} records"));
    }
    Ok((deaths, violations))
}

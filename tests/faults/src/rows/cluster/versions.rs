//! F4: what a later version leaves in the database and says to instances of this one.
//! An act on a stand; no later version exists, so that its words are made here.
//! Must never say more than it shows: `docs/specs/faults.md` names what is left.
//! Read next: `../data/content.rs`, which plays later sources and adapters at one hub.

use anyhow::{Context, Result, ensure};
use musubi_e2e::event::moved;
use musubi_proto::hub::v1::PublishResponse;
use musubi_proto::hub::v1::unit_answer::Answer;
use prost::Message;
use sqlx::{Connection, PgConnection};
use tonic::Code;

use crate::data::{request, unit};
use crate::row::Ctx;
use crate::stand::{Harm, Stand};
use crate::wire::{PUBLISH, Wire, field};

/// A call that only a later version has.
const LATER: &str = "/musubi.hub.v1.EventService/Later";

/// F4.
pub(super) async fn stand_side_by_side(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for round in 0..ctx.count {
        let source = stand.scene.source();
        stand.next_delivery().await?;
        later_words_are_passed_on(stand, round, &mut harm).await?;
        later_database_is_refused(stand, &mut harm).await?;
        harm.add(stand.next_delivery().await?);
        stand.scene.end(source).await?;
    }
    Ok(harm)
}

/// At an instance that passes them on to the owner.
async fn later_words_are_passed_on(stand: &mut Stand, round: u32, harm: &mut Harm) -> Result<()> {
    let other = (stand.owner().await? + 1) % stand.instances();
    let wire = Wire::connect(stand.instance(other)?).await?;
    let event = moved(&format!("{:010}", 900_000_000 + round), 1)?;
    let mut bytes = request(vec![unit(vec![event.clone()])]).encode_to_vec();
    bytes.extend(field(900, b"later"));
    let said = wire.message(PUBLISH, &bytes).await?;
    let answers = PublishResponse::decode(said.message()).context("an answer")?;
    let answer = answers
        .answers
        .into_iter()
        .next()
        .and_then(|one| one.answer);
    if !matches!(answer, Some(Answer::Accepted(_))) {
        harm.violations
            .push(format!("F4: a later field: {answer:?}"));
    }
    // The judge knows it by the same id: what is there already is accepted again.
    stand.scene.publish_event(event).await?;
    let said = wire.message(LATER, &bytes).await?;
    if said.code() != Some(Code::Unimplemented) {
        let code = said.code();
        harm.violations.push(format!("F4: a later call: {code:?}"));
    }
    harm.injected += 2;
    Ok(())
}

/// A later version migrated it: an instance of this one that starts refuses it by name, one that
/// runs goes on.
async fn later_database_is_refused(stand: &mut Stand, harm: &mut Harm) -> Result<()> {
    let owner = stand.owner().await?;
    let other = (owner + 1) % stand.instances();
    let rest = stand.client_without(other)?;
    add_to_version(stand, 1).await?;
    let hub = stand.instance(other)?;
    hub.process().stop()?;
    if hub.restart().await.is_ok() {
        let wrong = "F4: a database of a later version was taken".to_owned();
        harm.violations.push(wrong);
    }
    let named = stand.said("start a newer version")?;
    ensure!(named > 0, "F4: the refusal is not named");
    stand.next_delivery_from(&rest).await?;
    add_to_version(stand, -1).await?;
    stand.instance(other)?.restart().await?;
    harm.injected += 1;
    Ok(())
}

async fn add_to_version(stand: &mut Stand, more: i64) -> Result<()> {
    let url = stand.cluster()?.postgres.url("postgres");
    let mut database = PgConnection::connect(&url).await?;
    let changed = sqlx::query("UPDATE meta SET version = version + $1")
        .bind(more)
        .execute(&mut database)
        .await?;
    ensure!(changed.rows_affected() == 1, "no version");
    database.close().await?;
    Ok(())
}

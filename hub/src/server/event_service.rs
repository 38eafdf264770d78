//! EventService: the front door for publishers.
//! Wire → validation → sequencer → wire.
//! Must never pass on a unit that was not validated.
//! Read next: `publish/validate.rs`, `publish/sequencer.rs`.

use std::collections::HashSet;
use std::sync::Arc;

use musubi_proto::crash;
use musubi_proto::hub::v1::event_service_server::EventService;
use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::unit_answer::Answer as WireAnswer;
use musubi_proto::hub::v1::{
    Accepted, ActKind, CaptureCursor, GetCaptureCursorRequest, GetCaptureCursorResponse,
    GetEventRequest, GetEventResponse, Held, ListEventsRequest, ListEventsResponse, PublishRequest,
    PublishResponse, PublishUnit, RefusedUnit, StoredEvent, Stream as WireStream, UnitAnswer,
};
use prost::Message;
use tonic::{Code, Request, Response, Status};

use super::auth::{Caller, Role, municipality};
use super::hub::Hub;
use super::status::{Failure, invalid, not_found, who_and_why};
use super::town::Town;
use super::whole::to_its_end;
use crate::clock::now_ms;
use crate::event::{Municipality, Position, Stream};
use crate::limits::{
    CURSOR_BYTES_MAX, IDENTIFIER_CHARS_MAX, PAGE_DEFAULT, PAGE_MAX, PAYLOAD_BYTES_MAX,
    PUBLISH_UNITS_MAX, READ_BYTES_MAX, UNIT_EVENTS_MAX,
};
use crate::log::{ReadLimit, Record};
use crate::publish::candidate::{Candidate, Refused};
use crate::publish::control::event_of;
use crate::publish::sequencer::{Answer, Batch, Broken, Entry, PublishError};
use crate::publish::validate::validate_unit;
use crate::store::{CaptureState, NewAct};
use crate::telemetry;

/// The service.
#[derive(Clone, Debug)]
pub struct Events(pub Arc<Hub>);

/// System of a source, as in `urn:jp:lg:<municipality>:system:<業務ID>`.
fn system_of<'a>(m: &Municipality, source: &'a str) -> Option<&'a str> {
    let rest = source
        .strip_prefix("urn:jp:lg:")?
        .strip_prefix(m.as_str())?;
    rest.strip_prefix(":system:")
        .filter(|system| !system.is_empty())
}

fn check_source(caller: &Caller, m: &Municipality, source: &str) -> Result<(), Failure> {
    let Some(system) = system_of(m, source) else {
        return Err(invalid(
            "source",
            "a source of this municipality is `urn:jp:lg:<municipality>:system:<業務ID>`",
        ));
    };
    caller.check(m, Role::Source, system)
}

/// What is wrong with a request as a whole.
fn check_request(request: &PublishRequest) -> Result<(), Failure> {
    if request.units.len() > PUBLISH_UNITS_MAX {
        let message = format!("at most {PUBLISH_UNITS_MAX} units in one request; send several");
        return Err(Failure::new(Code::InvalidArgument, "TOO_MANY_UNITS", message).field("units"));
    }
    // A stream that this hub does not know must not land in one that it knows.
    if WireStream::try_from(request.stream).is_err() {
        return Err(invalid("stream", "the hub does not know this stream"));
    }
    let cursor = request
        .cursor
        .as_ref()
        .map_or(0, |cursor| cursor.value.len());
    if cursor > CURSOR_BYTES_MAX {
        let message = format!("a cursor has at most {CURSOR_BYTES_MAX} bytes");
        return Err(invalid("cursor.value", &message));
    }
    Ok(())
}

/// An answer that is known before the sequencer is asked, or an entry for it.
enum Checked {
    Entry(Entry),
    Refused(Failure),
}

fn check_unit(
    hub: &Hub,
    m: &Municipality,
    source: &str,
    index: usize,
    publish: PublishUnit,
) -> Checked {
    let prefix = format!("units[{index}]");
    let origin = publish.origin;
    if origin
        .as_ref()
        .is_some_and(|o| o.file.chars().count() > IDENTIFIER_CHARS_MAX)
    {
        let field = format!("{prefix}.origin.file");
        return Checked::Refused(invalid(&field, "the file name is too long"));
    }
    match publish.content {
        None => {
            let field = format!("{prefix}.content");
            Checked::Refused(invalid(&field, "a unit holds events, or refused rows"))
        }
        Some(Content::Refused(unit)) => check_refused(hub, m, &prefix, unit),
        Some(Content::Unit(unit)) => {
            let verdict = validate_unit(&hub.commons.schema, m, source, &unit);
            let events = unit.events.len();
            let corrects = publish.corrects_held_id;
            let candidate = Candidate::new(
                &hub.commons.pseudonyms,
                m,
                unit,
                origin.as_ref(),
                corrects,
                now_ms(),
            );
            match verdict {
                Ok(()) => Checked::Entry(Entry::Unit(candidate)),
                // A captured unit is kept even when the hub finds it wrong: its file is gone.
                Err(refusal) if origin.is_some() && events > 0 => Checked::Entry(Entry::Invalid(
                    candidate,
                    Broken {
                        rule: refusal.reason.as_str().to_owned(),
                        field: refusal.field,
                        message: refusal.message,
                    },
                )),
                Err(refusal) => {
                    let field = format!("{prefix}.unit.{}", refusal.field);
                    let reason = refusal.reason.as_str();
                    let failure = Failure::new(Code::InvalidArgument, reason, refusal.message);
                    Checked::Refused(failure.field(&field))
                }
            }
        }
    }
}

fn check_refused(hub: &Hub, m: &Municipality, prefix: &str, unit: RefusedUnit) -> Checked {
    let rows = unit.rows.len();
    if rows == 0 || rows > UNIT_EVENTS_MAX || unit.rows.iter().all(|row| row.rule.is_empty()) {
        let field = format!("{prefix}.refused.rows");
        return Checked::Refused(invalid(
            &field,
            "name the rows, and the rule of one at least",
        ));
    }
    if unit
        .rows
        .iter()
        .any(|row| row.row.len() > PAYLOAD_BYTES_MAX)
    {
        let field = format!("{prefix}.refused.rows.row");
        return Checked::Refused(invalid(&field, "a row is larger than the limit"));
    }
    Checked::Entry(Entry::Refused(Refused::new(
        &hub.commons.pseudonyms,
        m,
        unit,
    )))
}

fn wire_answer(answer: Answer) -> UnitAnswer {
    let answer = match answer {
        Answer::Accepted {
            position,
            duplicate,
        } => WireAnswer::Accepted(Accepted {
            position: position.0,
            duplicate,
        }),
        Answer::Held { id, rule } => WireAnswer::Held(Held { held_id: id, rule }),
        Answer::Refused {
            rule,
            field,
            message,
        } => {
            let code = if rule == "ID_REUSED" {
                Code::AlreadyExists
            } else {
                Code::FailedPrecondition
            };
            WireAnswer::Refused(Failure::new(code, rule, message).field(field).rpc())
        }
    };
    UnitAnswer {
        answer: Some(answer),
    }
}

/// A correction must say who corrects and why, and name a held unit that exists; one that is closed
/// already was corrected by this unit before, or is refused by its version.
async fn wrong_correction(
    hub: &Hub,
    m: &Municipality,
    index: usize,
    unit: &PublishUnit,
) -> Result<Option<Failure>, Failure> {
    let held_id = &unit.corrects_held_id;
    if held_id.is_empty() {
        return Ok(None);
    }
    if hub.commons.store.held(m, held_id).await?.is_none() {
        let field = format!("units[{index}].corrects_held_id");
        return Ok(Some(not_found("held unit", held_id).field(&field)));
    }
    let named = who_and_why(&unit.operator, &unit.reason);
    Ok(named
        .err()
        .map(|failure| failure.within(&format!("units[{index}]"))))
}

async fn publish(
    hub: &Hub,
    town: &Town,
    mut request: PublishRequest,
) -> Result<Vec<UnitAnswer>, Failure> {
    crash::point("publish.received");
    let publishing = telemetry::Publishing::start(&mut request);
    let m = &town.municipality;
    let captured = request.units.iter().any(|unit| unit.origin.is_some());
    let claims_epoch = captured || request.cursor.is_some() || request.capture_epoch > 0;
    let mut entries = Vec::new();
    let mut answers: Vec<Option<UnitAnswer>> = Vec::with_capacity(request.units.len());
    let mut corrections = Vec::new();
    for (index, unit) in request.units.into_iter().enumerate() {
        corrections.push(correction(&request.source, &unit));
        let checked = match wrong_correction(hub, m, index, &unit).await? {
            Some(failure) => Checked::Refused(failure),
            None => check_unit(hub, m, &request.source, index, unit),
        };
        match checked {
            Checked::Entry(entry) => {
                entries.push(entry);
                answers.push(None);
            }
            Checked::Refused(failure) => {
                let answer = Some(WireAnswer::Refused(failure.rpc()));
                answers.push(Some(UnitAnswer { answer }));
            }
        }
    }
    let batch = Batch {
        source: request.source,
        stream: Stream::from_wire(request.stream),
        entries,
        cursor: request.cursor.map(|cursor| cursor.value),
        captured,
        capture_epoch: claims_epoch.then_some(request.capture_epoch),
    };
    crash::point("publish.validated");
    let source = batch.source.clone();
    let decided = town.sequencer.publish(batch).await;
    if decided.as_ref().is_err_and(PublishError::is_full) {
        hub.commons.room.refused(now_ms());
    }
    let mut decided = decided?.into_iter();
    town.heard(&source);
    let answers: Vec<UnitAnswer> = answers
        .into_iter()
        .filter_map(|answer| answer.or_else(|| decided.next().map(wire_answer)))
        .collect();
    for (correction, answer) in corrections.into_iter().zip(&answers) {
        let accepted = matches!(answer.answer, Some(WireAnswer::Accepted(_)));
        if let Some(correction) = correction.filter(|_| accepted) {
            correction.record(hub, m).await?;
        }
    }
    publishing.answered(&answers);
    Ok(answers)
}

/// A held unit that an operator corrects.
struct Correction {
    held: String,
    first: String,
    act: NewAct,
}

impl Correction {
    /// Records the act when this event is what closed the unit. Behind the publish's own commit: a
    /// hub that dies between does it when the unit is sent again, under the same id.
    async fn record(self, hub: &Hub, m: &Municipality) -> Result<(), Failure> {
        let store = &hub.commons.store;
        let row = store.held(m, &self.held).await?;
        if row.is_some_and(|row| row.corrected_by == self.first) {
            store.record_act(m, self.act).await?;
        }
        Ok(())
    }
}

/// What a unit corrects; the act's name makes it one, however often it comes.
fn correction(source: &str, unit: &PublishUnit) -> Option<Correction> {
    let held = &unit.corrects_held_id;
    let Some(Content::Unit(events)) = unit.content.as_ref().filter(|_| !held.is_empty()) else {
        return None;
    };
    let first = events.events.first()?;
    let subjects: HashSet<&str> = events.events.iter().map(|e| e.subject.as_str()).collect();
    let act = NewAct {
        id: format!("{held} {}", first.id),
        target: format!("{source} {held}"),
        subjects: subjects.len() as u64,
        note: format!("corrected by {}", first.id),
        ..NewAct::now(ActKind::CorrectHeld as i32, &unit.operator, &unit.reason)
    };
    Some(Correction {
        held: held.clone(),
        first: first.id.clone(),
        act,
    })
}

/// A record as it is shown; `None` when it holds no event.
fn stored(stream: Stream, record: Record) -> Option<StoredEvent> {
    let position = record.position.0;
    Some(StoredEvent {
        event: Some(event_of(record)?),
        stream: stream.wire(),
        position,
    })
}

async fn find(hub: &Hub, town: &Town, id: &str) -> Result<StoredEvent, Failure> {
    let m = &town.municipality;
    let missing = || not_found("event", id);
    let indexed = hub
        .commons
        .store
        .find_event(m, id)
        .await?
        .ok_or_else(missing)?;
    let (stream, position) = indexed.at.ok_or_else(missing)?;
    let limit = ReadLimit {
        records: 1,
        bytes: READ_BYTES_MAX,
    };
    let records = hub.commons.log.read(m, stream, position, limit).await?;
    let record = records
        .into_iter()
        .find(|record| record.position == position);
    record
        .and_then(|record| stored(stream, record))
        .ok_or_else(missing)
}

async fn list(
    hub: &Hub,
    town: &Town,
    request: &ListEventsRequest,
) -> Result<ListEventsResponse, Failure> {
    let stream = Stream::from_wire(request.stream);
    let records = match request.page_size as usize {
        0 => PAGE_DEFAULT,
        size => size.min(PAGE_MAX),
    };
    let limit = ReadLimit {
        records,
        bytes: READ_BYTES_MAX,
    };
    let m = &town.municipality;
    let from = match request.from_position {
        // From the beginning: of what is kept.
        0 => hub.commons.log.bounds(m, stream).await?.first,
        position => Position(position),
    };
    let records = hub.commons.log.read(m, stream, from, limit).await?;
    let next_position = records.last().map_or(0, |record| record.position.after().0);
    let events = records
        .into_iter()
        .filter_map(|record| stored(stream, record))
        .collect();
    Ok(ListEventsResponse {
        events,
        next_position,
    })
}

#[tonic::async_trait]
impl EventService for Events {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let caller = self.0.tokens.caller(&request)?;
        // Before anything is judged: a refusal must cost next to nothing.
        let _call = self.0.publish_calls.enter(1)?;
        let request = request.into_inner();
        let _bytes = self.0.publish_bytes.enter(request.encoded_len())?;
        let m = municipality(&request.municipality)?;
        check_source(&caller, &m, &request.source)?;
        check_request(&request)?;
        let town = self.0.town(&m).await?;
        let corrects = |unit: &PublishUnit| !unit.corrects_held_id.is_empty();
        let answers = if request.units.iter().any(corrects) {
            // With the act of an operator behind it.
            let hub = self.0.clone();
            to_its_end(async move { publish(&hub, &town, request).await }).await?
        } else {
            publish(&self.0, &town, request).await?
        };
        Ok(Response::new(PublishResponse { answers }))
    }

    async fn get_event(
        &self,
        request: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        let caller = self.0.tokens.caller(&request)?;
        let request = request.into_inner();
        let m = municipality(&request.municipality)?;
        let town = self.0.town(&m).await?;
        let found = find(&self.0, &town, &request.id).await;
        // A source may read back what it published, an operator everything; for all others an
        // event of somebody else is as good as none.
        let source = found.as_ref().ok().and_then(|stored| stored.event.as_ref());
        let source = source.map(|event| event.source.clone()).unwrap_or_default();
        caller.check(&m, Role::Source, system_of(&m, &source).unwrap_or_default())?;
        Ok(Response::new(GetEventResponse {
            stored: Some(found?),
        }))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let caller = self.0.tokens.caller(&request)?;
        let request = request.into_inner();
        let m = municipality(&request.municipality)?;
        caller.check(&m, Role::Operator, "")?;
        let town = self.0.town(&m).await?;
        Ok(Response::new(list(&self.0, &town, &request).await?))
    }

    async fn get_capture_cursor(
        &self,
        request: Request<GetCaptureCursorRequest>,
    ) -> Result<Response<GetCaptureCursorResponse>, Status> {
        let caller = self.0.tokens.caller(&request)?;
        let request = request.into_inner();
        let m = municipality(&request.municipality)?;
        check_source(&caller, &m, &request.source)?;
        let capture = self.0.commons.store.capture(&m, &request.source).await;
        let capture = capture.map_err(Failure::from)?;
        // A product that was replaced learns no epoch, so nothing of it is taken any more.
        let bound = request.product.is_empty() || request.product == capture.product;
        let capture = if bound {
            capture
        } else {
            CaptureState::default()
        };
        Ok(Response::new(GetCaptureCursorResponse {
            cursor: capture.cursor.map(|value| CaptureCursor { value }),
            capture_epoch: capture.epoch,
        }))
    }
}

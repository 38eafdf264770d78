//! The publish side: one `create` span a unit, one `append` span a unit, their metrics and lines.
//! Called by the front door and by the sequencer.
//! Must never show what a client wrote before it was validated.
//! Read next: `telemetry/delivery.rs`.

use std::time::{Instant, SystemTime};

use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{PublishRequest, PublishUnit, UnitAnswer};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status};

use super::closed;
use super::metrics::instruments;
use super::trace::{self, BoxedSpan};
use crate::event::{Municipality, Position, Stream};
use crate::publish::candidate::Candidate;

/// The units of one request, from the call to their answers.
pub(crate) struct Publishing {
    municipality: String,
    system: String,
    stream: Stream,
    started: Instant,
    spans: Vec<BoxedSpan>,
    answered: bool,
}

impl Publishing {
    /// Starts the creation of each unit. An event without a trace context gets that of its unit's
    /// creation; one that has a context keeps it.
    pub(crate) fn start(request: &mut PublishRequest) -> Self {
        let stream = Stream::from_wire(request.stream);
        let units = request.units.iter_mut();
        Self {
            municipality: request.municipality.clone(),
            system: closed::system_of(&request.source).to_owned(),
            stream,
            started: Instant::now(),
            spans: units.map(|unit| create(stream, unit)).collect(),
            answered: false,
        }
    }

    /// Ends it with the answers, one a unit.
    pub(crate) fn answered(mut self, answers: &[UnitAnswer]) {
        self.answered = true;
        let mut tally = Tally::default();
        for (mut span, answer) in std::mem::take(&mut self.spans).into_iter().zip(answers) {
            let held = held_id(answer);
            let (answer, reason) = said(answer);
            tally.add(answer);
            self.count(answer, &reason, 1);
            if answer == "refused" {
                span.set_status(Status::error(reason.clone()));
            }
            if matches!(answer, "refused" | "held") {
                let created = trace::traceparent_of(span.span_context()).unwrap_or_default();
                let trace = trace::trace_id(&created);
                tracing::warn!(target: "musubi::publish", municipality = self.municipality,
                    system = self.system, stream = self.stream.name(), answer, reason, held,
                    trace, "unit.not_accepted");
            }
            let reason = KeyValue::new("musubi.reason", reason);
            trace::end(span, vec![KeyValue::new("musubi.answer", answer), reason]);
        }
        self.duration("answered");
        line!(self.stream, target: "musubi::publish", municipality = self.municipality,
            system = self.system, stream = self.stream.name(), units = answers.len(),
            accepted = tally.accepted, duplicate = tally.duplicate, held = tally.held,
            refused = tally.refused, millis = millis(self.started), "publish.answered");
    }

    fn count(&self, answer: &'static str, reason: &str, units: usize) {
        let mut labels = self.labels();
        labels.push(KeyValue::new("answer", answer));
        labels.push(KeyValue::new("reason", reason.to_owned()));
        instruments().publish_units.add(units as u64, &labels);
    }

    fn duration(&self, outcome: &'static str) {
        let mut labels = self.labels();
        labels.push(KeyValue::new("outcome", outcome));
        instruments()
            .publish_duration
            .record(self.started.elapsed().as_secs_f64(), &labels);
    }

    fn labels(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("municipality", self.municipality.clone()),
            KeyValue::new("system", self.system.clone()),
            KeyValue::new("stream", self.stream.name()),
        ]
    }
}

impl Drop for Publishing {
    /// A request without answers failed as a whole; nobody knows yet what became of it.
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.count("failed", "", self.spans.len());
        self.duration("failed");
        for mut span in std::mem::take(&mut self.spans) {
            span.set_status(Status::error("the request failed"));
            trace::end(span, vec![KeyValue::new("musubi.answer", "failed")]);
        }
    }
}

#[derive(Default)]
struct Tally {
    accepted: u64,
    duplicate: u64,
    held: u64,
    refused: u64,
}

impl Tally {
    fn add(&mut self, answer: &str) {
        match answer {
            "accepted" => self.accepted += 1,
            "duplicate" => self.duplicate += 1,
            "held" => self.held += 1,
            _ => self.refused += 1,
        }
    }
}

/// The hub's id of a held unit; empty for one that is not held.
fn held_id(answer: &UnitAnswer) -> &str {
    match &answer.answer {
        Some(Answer::Held(held)) => &held.held_id,
        _ => "",
    }
}

/// An answer as two labels.
fn said(answer: &UnitAnswer) -> (&'static str, String) {
    match &answer.answer {
        Some(Answer::Accepted(accepted)) if accepted.duplicate => ("duplicate", String::new()),
        Some(Answer::Accepted(_)) => ("accepted", String::new()),
        Some(Answer::Held(held)) => ("held", closed::reason(&held.rule).to_owned()),
        Some(Answer::Refused(status)) => (
            "refused",
            closed::reason(&closed::reason_of(status)).to_owned(),
        ),
        None => ("refused", String::new()),
    }
}

fn create(stream: Stream, publish: &mut PublishUnit) -> BoxedSpan {
    let events = match &mut publish.content {
        Some(Content::Unit(unit)) => unit.events.as_mut_slice(),
        _ => &mut [],
    };
    let mut attributes = trace::messaging("create", "create", stream.name());
    attributes.push(KeyValue::new(
        "messaging.batch.message_count",
        events.len() as i64,
    ));
    let first = events.first();
    let id = first.and_then(|event| closed::event_id(&event.id));
    attributes.extend(id.map(|id| KeyValue::new("cloudevents.event_id", id)));
    let parent = trace::context_of(first.map_or("", |event| &event.traceparent));
    let links = trace::links(events.iter().skip(1));
    let name = format!("create musubi.{}", stream.name());
    let span = trace::start(name, SpanKind::Producer, &parent, attributes, links);
    if let Some(created) = trace::traceparent_of(span.span_context()) {
        for event in events
            .iter_mut()
            .filter(|event| event.traceparent.is_empty())
        {
            event.traceparent.clone_from(&created);
        }
    }
    span
}

/// One append to the log, from the call to the positions.
pub(crate) struct Appending {
    municipality: String,
    stream: Stream,
    started: Instant,
    at: SystemTime,
    done: bool,
}

impl Appending {
    /// Called before the log.
    pub(crate) fn start(m: &Municipality, stream: Stream) -> Self {
        Self {
            municipality: m.as_str().to_owned(),
            stream,
            started: Instant::now(),
            at: SystemTime::now(),
            done: false,
        }
    }

    /// The log has them: units with the positions of all their events, in order.
    pub(crate) fn appended(mut self, units: &[(usize, &Candidate)], positions: &[Position]) {
        self.done = true;
        self.record("appended", positions.len());
        let mut places = positions.iter();
        for (_, unit) in units {
            let last = places.by_ref().take(unit.events.len()).last();
            self.span(unit, last.copied().unwrap_or_default());
        }
        let trace = match units {
            [(_, unit)] => unit
                .events
                .first()
                .map(|first| trace::trace_id(&first.event.traceparent)),
            _ => None,
        };
        line!(self.stream, target: "musubi::append", municipality = self.municipality,
            stream = self.stream.name(), units = units.len(), events = positions.len(),
            position = positions.last().map_or(0, |position| position.0),
            millis = millis(self.started), trace = trace.unwrap_or_default(), "event.appended");
    }

    fn span(&self, unit: &Candidate, last: Position) {
        let Some(first) = unit.events.first() else {
            return;
        };
        let mut attributes = trace::messaging("append", "send", self.stream.name());
        attributes.extend([
            KeyValue::new("messaging.batch.message_count", unit.events.len() as i64),
            KeyValue::new("cloudevents.event_id", first.claim.id.clone()),
            KeyValue::new("cloudevents.event_type", first.claim.event_type.clone()),
            KeyValue::new("musubi.subject", first.claim.subject.0.clone()),
            KeyValue::new("musubi.position", i64::try_from(last.0).unwrap_or(i64::MAX)),
        ]);
        let builder = SpanBuilder::from_name(format!("append musubi.{}", self.stream.name()))
            .with_kind(SpanKind::Internal)
            .with_start_time(self.at)
            .with_attributes(attributes)
            .with_links(trace::links(
                unit.events.iter().skip(1).map(|event| &event.event),
            ));
        let parent = trace::context_of(&first.event.traceparent);
        trace::start_built(builder, &parent).end();
    }

    fn record(&self, outcome: &'static str, events: usize) {
        let labels = [
            KeyValue::new("municipality", self.municipality.clone()),
            KeyValue::new("stream", self.stream.name()),
            KeyValue::new("outcome", outcome),
        ];
        let instruments = instruments();
        instruments
            .append_duration
            .record(self.started.elapsed().as_secs_f64(), &labels);
        instruments.append_events.record(events as u64, &labels);
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        if !self.done {
            self.record("failed", 0);
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

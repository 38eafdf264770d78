//! One attached adapter: its engine, its stream, what it was sent.
//! Lives from Hello to the end of the stream; a new one starts from the store.
//! Must never take a receipt for what it did not send.
//! Read next: `engine/state.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use musubi_proto::crash;
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::{
    AttachResponse, Capabilities, DeliveredUnit, Delivery as WireDelivery, Fenced, Mode, Outcome,
    Receipt, Refused, UnitScope,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::payload::Payload;
use super::settings::{Serving, millis};
use super::{AttachAsk, Health, Past, State};
use crate::clock::now_ms;
use crate::engine::{Answered, Decision, Delivery, Engine, Input, Refusal, Resume};
use crate::event::{Position, Stream};
use crate::limits::{
    AHEAD_UNITS_MAX, LATE_RECEIPTS_MAX, READ_ROOM_MIN, RECEIPT_TEXT_CHARS_MAX, STREAM_SEND_TIMEOUT,
    UNIT_EVENTS_MAX, WINDOW_UNITS,
};
use crate::project::Receiver;
use crate::server::status::Failure;
use crate::store::{
    BindingState, Cursor, DeliveryDelta, PausedBy, StoreError, SubscriptionRow, UnitKey,
};
use crate::telemetry::Attempt;

/// An attached adapter.
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) product: String,
    pub(super) scope: UnitScope,
    pub(super) receiver: Receiver,
    pub(super) mode: Mode,
    pub(super) engine: Engine<Arc<Payload>>,
    pub(super) decisions: Vec<Decision<Arc<Payload>>>,
    pub(super) end: CancellationToken,
    pub(super) serving: Serving,
    stopped: bool,
    out: mpsc::Sender<AttachResponse>,
    sent: HashMap<String, (u64, Vec<UnitKey>, Attempt)>,
    /// Deliveries whose time was over, oldest first.
    late: VecDeque<String>,
    /// Credits that were taken as given before the adapter gave them.
    owed: u32,
    /// Sequence of the last complete-up-to mark, live and bulk.
    marked: [u64; 2],
    /// How far the live stream was looked at ahead of a full window.
    pub(super) looked: Option<Cursor>,
    /// Where reading found nothing more, with the tail as it was known then.
    ended: [Option<(Position, Position)>; 2],
}

/// The stream to the adapter is gone.
pub(super) struct Gone;

impl State {
    /// Attaches an adapter when its product is bound here; a former session of it ends.
    pub(super) async fn attach(&mut self, ask: AttachAsk) -> Option<u64> {
        if let Err(error) = self.refresh().await {
            tracing::error!(%error, subscription = self.row.id, "reading the binding failed");
            return None;
        }
        let binding = self.row.binding()?;
        if self.row.closed || binding.product != ask.product || !self.ready_to_serve() {
            return None;
        }
        self.keep_attempts().await;
        self.drop_session();
        if let Err(error) = self.end_pause().await {
            tracing::error!(%error, subscription = self.row.id, "ending the pause failed");
            return None;
        }
        self.note_maybe_sent(&ask.capabilities);
        let resume = match self.resume().await {
            Ok(resume) => resume,
            Err(error) => {
                tracing::error!(%error, subscription = self.row.id, "reading the cursor failed");
                return None;
            }
        };
        let number = self.next_session;
        self.next_session += 1;
        self.session = Some(Session::new(number, ask, resume, &self.row));
        self.keep_hours();
        if let Err(error) = self.look_when_due().await {
            tracing::error!(%error, subscription = self.row.id, "reading what is due failed");
            return None;
        }
        Some(number)
    }

    /// A product that took over serves once everything before its cut is closed and filled.
    fn ready_to_serve(&self) -> bool {
        let Some(binding) = self.row.binding() else {
            return false;
        };
        let Some((live, bulk)) = binding.cut else {
            return true;
        };
        binding.state == BindingState::Filling
            || (self.filled_before_cut
                && self.row.live.position >= live
                && self.row.bulk.position >= bulk)
    }

    /// An adapter that asked to stop and attaches again was mended by a human. A stop by an
    /// operator or by the hub stays.
    async fn end_pause(&mut self) -> Result<(), StoreError> {
        let pause = self
            .row
            .binding()
            .and_then(|binding| binding.paused.as_ref());
        if pause.is_none_or(|pause| pause.by != PausedBy::Adapter) {
            return Ok(());
        }
        let delta = DeliveryDelta {
            paused: Some(None),
            ..self.delta()
        };
        self.shared.store.commit(delta).await?;
        self.refresh().await
    }

    async fn resume(&mut self) -> Result<Resume, StoreError> {
        let store = &self.shared.store;
        let id = &self.row.id;
        Ok(Resume {
            live: Some(self.row.live),
            bulk: Some(self.row.bulk),
            ahead: store.ahead(id).await?,
            parked: store.parked_subjects(id).await?,
            attempts: store.attempts(id).await?,
            runs: store.runs(id).await?,
            stopped: self.stopped(),
            maybe_sent: self.maybe_sent,
            doubted: std::mem::take(&mut self.doubted),
        })
    }

    /// After a crash, notes once what the former process may have sent. A product that gives each
    /// key one effect is asked only about what was surely in memory; any other about all that can
    /// have been under way.
    fn note_maybe_sent(&mut self, capabilities: &Capabilities) {
        if self.past != Past::Recovered || self.maybe_sent != [0; 2] {
            return;
        }
        let reach = match capabilities.idempotent {
            true => WINDOW_UNITS,
            false => AHEAD_UNITS_MAX + UNIT_EVENTS_MAX,
        };
        let before = |cursor: Cursor| cursor.sequence.saturating_add(reach as u64);
        self.maybe_sent = [before(self.row.live), before(self.row.bulk)];
    }

    fn stopped(&self) -> bool {
        let binding = self.row.binding();
        binding.is_some_and(|binding| binding.paused.is_some())
    }

    /// Reads the subscription's row again; a session of a product that is bound no more ends.
    pub(super) async fn refresh(&mut self) -> Result<(), StoreError> {
        let rows = self
            .shared
            .store
            .subscriptions(&self.shared.municipality)
            .await?;
        let epoch = rows
            .iter()
            .find(|row| row.id == self.row.id)
            .and_then(SubscriptionRow::binding);
        let epoch = epoch.map_or(0, |binding| binding.epoch);
        let filling = format!("{}~fill-{epoch}", self.row.id);
        self.filled_before_cut = rows.iter().all(|row| row.id != filling || row.closed);
        if let Some(row) = rows.into_iter().find(|row| row.id == self.row.id) {
            self.row = row;
        }
        let bound = self
            .row
            .binding()
            .map(|binding| (binding.product.clone(), binding.epoch));
        self.take_settings();
        let (now, stopped) = (self.now(), self.stopped());
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        if session.stopped != stopped {
            session.set_stopped(stopped, now);
        }
        if bound
            .as_ref()
            .is_none_or(|(product, _)| *product != session.product)
        {
            let fenced = Fenced {
                binding_epoch: bound.map_or(0, |(_, epoch)| epoch),
            };
            session.try_send(Response::Fenced(fenced));
            self.drop_session();
        }
        Ok(())
    }
}

impl Session {
    fn new(number: u64, ask: AttachAsk, resume: Resume, row: &SubscriptionRow) -> Self {
        let capabilities = ask.capabilities;
        let scope = match capabilities.unit_scope() {
            UnitScope::Group => UnitScope::Group,
            UnitScope::Event | UnitScope::Unspecified => UnitScope::Event,
        };
        let set = row.binding().map(|binding| binding.settings.clone());
        let serving = Serving::new(capabilities, set.unwrap_or_default());
        Self {
            number,
            product: ask.product,
            scope,
            receiver: Receiver {
                holds_protection_flag: capabilities.protection_flag,
            },
            mode: if row.is_filling() {
                Mode::Backfill
            } else {
                Mode::Live
            },
            stopped: resume.stopped,
            engine: Engine::new(serving.engine(), resume),
            serving,
            decisions: Vec::new(),
            end: ask.end,
            out: ask.out,
            sent: HashMap::new(),
            late: VecDeque::new(),
            owed: 0,
            marked: [0; 2],
            looked: None,
            ended: [None; 2],
        }
    }

    pub(super) fn step(&mut self, input: Input<Arc<Payload>>, now: i64) {
        self.decisions
            .extend(self.engine.step(input, now, jitter()));
        // A delivery whose time is over is owed no more; only its name is kept.
        if self.sent.len() > self.engine.leased() {
            let engine = &self.engine;
            let expired = self
                .sent
                .extract_if(|_, (number, ..)| !engine.is_leased(*number));
            self.late.extend(expired.map(|(id, _)| id));
            let over = self.late.len().saturating_sub(LATE_RECEIPTS_MAX);
            self.late.drain(..over);
        }
    }

    /// Credits of the adapter. One that it gives back for a delivery whose time was over was taken
    /// as given then.
    pub(super) fn credits(&mut self, add: u32, now: i64) {
        let paid = self.owed.min(add);
        self.owed -= paid;
        self.step(Input::Credits(add - paid), now);
    }

    /// The binding is stopped, or goes on.
    pub(super) fn set_stopped(&mut self, stopped: bool, now: i64) {
        self.stopped = stopped;
        self.step(Input::Stopped(stopped), now);
    }

    /// Something was sent and is not answered.
    pub(super) fn awaits(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Takes a receipt; one for an unknown delivery changes nothing.
    pub(super) fn receipt(&mut self, receipt: &Receipt, now: i64, health: &mut Health) {
        let Some((delivery, keys, attempt)) = self.sent.remove(&receipt.delivery_id) else {
            if let Some(place) = self.late.iter().position(|id| *id == receipt.delivery_id) {
                self.late.remove(place);
                self.owed += 1;
            }
            self.try_send(Response::Refused(not_leased(&receipt.delivery_id)));
            return;
        };
        crash::point("deliver.receipt");
        attempt.answered(receipt);
        let answers = answers(receipt, &keys);
        health.answered(answers.iter().map(|(_, answer)| answer), now_ms());
        self.step(Input::Receipt { delivery, answers }, now);
    }

    /// Sends one delivery whose run is stored.
    pub(super) async fn send(
        &mut self,
        row: &SubscriptionRow,
        owner_epoch: u64,
        delivery: &Delivery<Arc<Payload>>,
        units: Vec<DeliveredUnit>,
    ) -> Result<(), Gone> {
        let keys: Vec<UnitKey> = delivery.works.iter().map(|work| work.key).collect();
        // Nothing else rides with what is replayed.
        let first = delivery.works.first();
        let id = format!("{}#{}-{}", row.id, self.number, delivery.number);
        let message = WireDelivery {
            delivery_id: id.clone(),
            subscription: row.id.clone(),
            attempt: delivery.attempt,
            binding_epoch: row.binding().map_or(0, |binding| binding.epoch),
            owner_epoch,
            units,
            mode: first.map_or(self.mode, |work| work.payload.mode(self.mode)) as i32,
            outcome_unknown: delivery.outcome_unknown,
        };
        let attempt = Attempt::started(row, &self.product, delivery);
        self.sent.insert(id, (delivery.number, keys, attempt));
        let response = AttachResponse {
            response: Some(Response::Delivery(message)),
        };
        // A frozen adapter must not hold up its runner: a cut waits for nothing at it.
        let sent = tokio::time::timeout(STREAM_SEND_TIMEOUT, self.out.send(response)).await;
        sent.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Tells the adapter how far everything has an outcome; a full stream gets the next mark.
    pub(super) fn mark(&mut self, stream: Stream) {
        let complete = self.engine.cursor(stream).sequence.saturating_sub(1);
        let index = usize::from(stream == Stream::Bulk);
        let Some(marked) = self.marked.get_mut(index) else {
            return;
        };
        if complete > *marked {
            *marked = complete;
            self.try_send(Response::CompleteUpTo(
                musubi_proto::hub::v1::CompleteUpTo {
                    sequence: complete,
                    stream: stream.wire(),
                },
            ));
        }
    }

    fn try_send(&self, response: Response) {
        if self
            .out
            .try_send(AttachResponse {
                response: Some(response),
            })
            .is_err()
        {
            tracing::debug!("an adapter's stream is full or gone; a mark was left out");
        }
    }

    /// Where reading found nothing more.
    pub(super) fn ended(&self, stream: Stream) -> Option<(Position, Position)> {
        let [live, bulk] = self.ended;
        if stream == Stream::Live { live } else { bulk }
    }

    /// Notes that nothing more is there to read until the tail moves.
    pub(super) fn set_ended(&mut self, stream: Stream, at: (Position, Position)) {
        let [live, bulk] = &mut self.ended;
        *(if stream == Stream::Live { live } else { bulk }) = Some(at);
    }

    /// True while a stream is not read on. A full window takes a batch at a time: one read for each
    /// free place would read, and decode, the same records again and again.
    pub(super) fn is_full(&self, stream: Stream) -> bool {
        self.engine.room(stream) < READ_ROOM_MIN || !self.engine.has_room(stream)
    }

    /// Where reading of a stream goes on.
    pub(super) fn position(&self, stream: Stream) -> Position {
        self.engine.frontier(stream).position
    }
}

fn jitter() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(random) / f64::from(u32::MAX)
}

/// Reads a receipt as answers by unit.
fn answers(receipt: &Receipt, keys: &[UnitKey]) -> Vec<(UnitKey, Answered)> {
    if receipt.units.is_empty() {
        let refusal = (&receipt.reason, &receipt.field, &receipt.message);
        let after_ms = receipt.retry_after.as_ref().map_or(0, millis);
        let answer = answered(receipt.outcome(), refusal, after_ms);
        return keys.iter().map(|key| (*key, answer.clone())).collect();
    }
    receipt
        .units
        .iter()
        .filter_map(|unit| {
            let key = UnitKey {
                stream: Stream::from_wire(unit.stream),
                sequence: unit.sequence,
                member: unit.member,
            };
            let refusal = (&unit.reason, &unit.field, &unit.message);
            let after_ms = unit.retry_after.as_ref().map_or(0, millis);
            keys.contains(&key)
                .then(|| (key, answered(unit.outcome(), refusal, after_ms)))
        })
        .collect()
}

fn answered(
    outcome: Outcome,
    (reason, field, message): (&String, &String, &String),
    after_ms: u64,
) -> Answered {
    let refusal = || Refusal {
        reason: short(reason),
        field: short(field),
        message: short(message),
    };
    match outcome {
        Outcome::Applied
        | Outcome::Duplicate
        | Outcome::Superseded
        | Outcome::NotRelevant
        | Outcome::PendingReview => Answered::Final(outcome as i32, short(reason)),
        Outcome::Rejected => Answered::Rejected(refusal()),
        Outcome::Pause => Answered::Pause(short(reason)),
        Outcome::Retry => Answered::Retry {
            after_ms,
            refusal: refusal(),
        },
        // An outcome that this hub does not know, or that only a hub gives, says nothing.
        Outcome::Unknown | Outcome::Unspecified | Outcome::SupersededBySwap | Outcome::Skipped => {
            Answered::Unknown(refusal())
        }
    }
}

/// The answer to a receipt for what was never sent here, or was answered before.
fn not_leased(delivery_id: &str) -> Refused {
    let message = "this stream owes no receipt for that delivery; nothing changed";
    let failure = Failure::new(Code::FailedPrecondition, "NOT_LEASED", message);
    Refused {
        delivery_id: short(delivery_id),
        status: Some(failure.field("receipt.delivery_id").rpc()),
    }
}

fn short(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(RECEIPT_TEXT_CHARS_MAX)
        .collect()
}

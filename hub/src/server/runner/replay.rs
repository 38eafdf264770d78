//! A replay: units that the subscription had, handed to the engine once more, page by page.
//! Fed when nothing else is left to do in a round of a runner.
//! Must never leave a product with an older state than it had: each subject ends with its latest.
//! Read next: `store/replay.rs`, `docs/specs/replay.md`.
//!
//! ```text
//!  selected units, bulk before live ──▶ subjects touched, each with its latest event ──▶ done
//!        page │ page │ page                     page │ page
//!             └ the place that is kept: what lies before it is wholly through
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use musubi_proto::hub::v1::{Outcome, UnitScope};

use super::edit::CORRECTED;
use super::payload::{Payload, Replay, key};
use super::reader::Route;
use super::{Shared, State, StepError};
use crate::clock::now_ms;
use crate::engine::{Input, Work};
use crate::event::{Event, Position, Stream, Subject, is_protection};
use crate::limits::{PAYLOAD_BYTES_MAX, REPLAY_PAGE, WINDOW_UNITS};
use crate::log::{LogError, ReadLimit};
use crate::publish::control::event_of;
use crate::store::{
    DeliveryDelta, HadEvent, ReplayAt, ReplayRow, ReplayState, Selection, StoreError, UnitKey,
};

/// The replay that runs.
pub(super) struct Job {
    row: ReplayRow,
    /// Deliverables of the page under way.
    page: HashSet<UnitKey>,
    /// Subjects of the page that have something in the lanes: what comes last is not known yet.
    waiting: Vec<Subject>,
    /// Where the replay is once the page is through.
    next: Option<ReplayAt>,
}

/// What a delta says of a replay: outcomes, of these known ones, and parked.
pub(super) struct Replayed(u64, u64, u64);

/// Why a replay cannot go on.
const GONE: &str = "the log has a unit no longer; start one from what is left";
const SWAPPED: &str = "another product was bound";

impl State {
    /// Feeds the replay: one page when the former is through and there is room. True when
    /// something moved.
    pub(super) async fn replay(&mut self) -> Result<bool, StepError> {
        self.load_replay().await?;
        let Some(job) = &mut self.replay else {
            return Ok(false);
        };
        let epoch = self.row.binding().map(|binding| binding.epoch);
        if self.row.closed || epoch != Some(job.row.binding_epoch) {
            self.end_replay(ReplayState::Stopped, SWAPPED).await?;
            return Ok(false);
        }
        let Some(session) = &self.session else {
            return Ok(false);
        };
        let engine = &session.engine;
        job.page.retain(|key| engine.holds(*key));
        if !job.page.is_empty() || !Stream::ALL.iter().all(|s| engine.has_room(*s)) {
            return Ok(false);
        }
        if !job.waiting.is_empty() {
            return self.offer_latest().await;
        }
        if let Some(next) = job.next.take() {
            job.row.progress.at = next;
            let (id, progress) = (job.row.id.clone(), job.row.progress.clone());
            if !self.shared.store.move_replay(&id, progress, None).await? {
                self.replay = None;
                return Ok(false);
            }
        }
        self.next_page().await
    }

    /// Takes up what was started, and lets go of what was stopped.
    async fn load_replay(&mut self) -> Result<(), StoreError> {
        if !self.look_for_replay {
            return Ok(());
        }
        let running = self.shared.store.running_replay(&self.row.id).await?;
        self.look_for_replay = false;
        let same = |job: &Job| running.as_ref().is_some_and(|row| row.id == job.row.id);
        if !self.replay.as_ref().is_some_and(same) {
            self.replay = running.map(|row| Job {
                row,
                page: HashSet::new(),
                waiting: Vec::new(),
                next: None,
            });
        }
        Ok(())
    }

    async fn end_replay(&mut self, state: ReplayState, note: &str) -> Result<(), StoreError> {
        let Some(job) = self.replay.take() else {
            return Ok(());
        };
        let mut progress = job.row.progress;
        progress.state = state;
        note.clone_into(&mut progress.note);
        progress.ended_ms = Some(now_ms());
        tracing::info!(
            subscription = self.row.id,
            replay = job.row.id,
            delivered = progress.delivered,
            known = progress.known,
            parked = progress.parked,
            note,
            "replay.ended"
        );
        let store = &self.shared.store;
        store.move_replay(&job.row.id, progress, None).await?;
        Ok(())
    }

    async fn next_page(&mut self) -> Result<bool, StepError> {
        let Some(job) = &mut self.replay else {
            return Ok(false);
        };
        let (store, id) = (self.shared.store.clone(), self.row.id.as_str());
        let of = &job.row.selection;
        match job.row.progress.at.clone() {
            ReplayAt::Units(stream, after) => {
                let mut had = store.had(id, stream, after, Some(of), REPLAY_PAGE).await?;
                cut(&mut had);
                job.next = Some(match (had.last(), stream) {
                    (Some(last), _) => ReplayAt::Units(stream, last.sequence),
                    (None, Stream::Bulk) => ReplayAt::Units(Stream::Live, 0),
                    (None, Stream::Live) => ReplayAt::Subjects(None),
                });
                let chosen = had.iter().filter(|event| replayable(of, event));
                let chosen = chosen.map(|event| event.id.clone()).collect();
                self.offer_again(had, &chosen).await
            }
            ReplayAt::Subjects(after) => {
                let whole = self.takes_groups();
                let Some(job) = &mut self.replay else {
                    return Ok(false);
                };
                let of = &job.row.selection;
                let touched = store.touched(id, of, whole, after.as_ref(), REPLAY_PAGE);
                let touched = touched.await?;
                if touched.is_empty() {
                    self.end_replay(ReplayState::Done, "").await?;
                    return Ok(false);
                }
                job.next = Some(ReplayAt::Subjects(touched.last().cloned()));
                job.waiting = touched;
                self.offer_latest().await
            }
        }
    }

    fn takes_groups(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.scope == UnitScope::Group)
    }

    /// Offers the latest event of the waiting subjects that have nothing in the lanes: what they
    /// had is known then, and whatever is read later goes behind it.
    async fn offer_latest(&mut self) -> Result<bool, StepError> {
        let (Some(job), Some(session)) = (&mut self.replay, &self.session) else {
            return Ok(false);
        };
        let (busy, free): (Vec<_>, Vec<_>) = std::mem::take(&mut job.waiting)
            .into_iter()
            .partition(|subject| session.engine.is_busy(subject));
        job.waiting = busy;
        if free.is_empty() {
            return Ok(false);
        }
        let (had, chosen) = self.latest_of(free).await?;
        self.offer_again(had, &chosen).await
    }

    /// The units with the latest events of subjects. A unit that goes whole brings others along,
    /// who must end with their latest event too.
    async fn latest_of(
        &self,
        mut subjects: Vec<Subject>,
    ) -> Result<(Vec<HadEvent>, HashSet<String>), StepError> {
        let mut units = BTreeMap::new();
        let mut chosen = HashSet::new();
        let (Some(job), Some(session)) = (&self.replay, &self.session) else {
            return Ok((Vec::new(), chosen));
        };
        let (store, m) = (&self.shared.store, &self.shared.municipality);
        let whole = self.takes_groups();
        let mut first = HashMap::new();
        for stream in Stream::ALL {
            first.insert(stream, self.shared.log.bounds(m, stream).await?.first);
        }
        let mut seen: BTreeSet<Subject> = subjects.iter().cloned().collect();
        while let Some(subject) = subjects.pop() {
            let mut had = store.had_of(&self.row.id, &subject).await?;
            // A change that is trimmed lies before the snapshot that is kept, which has it too.
            had.retain(|event| event.position >= first[&event.stream]);
            let parked = session.engine.has_parked(&subject);
            for last in latest(&had, &job.row, parked) {
                chosen.insert(last.id.clone());
                let turn = (last.stream == Stream::Live, last.sequence);
                let unit: &mut Vec<HadEvent> = units.entry(turn).or_default();
                if !whole {
                    unit.push(last.clone());
                } else if unit.is_empty() {
                    let before = last.sequence.saturating_sub(1);
                    *unit = store
                        .had(&self.row.id, last.stream, before, None, 1)
                        .await?;
                    let others = unit.iter().map(|event| event.subject.clone());
                    subjects.extend(others.filter(|other| seen.insert(other.clone())));
                }
            }
        }
        Ok((units.into_values().flatten().collect(), chosen))
    }

    /// Reads units from the log once more and hands what is chosen of them to the engine.
    async fn offer_again(
        &mut self,
        had: Vec<HadEvent>,
        chosen: &HashSet<String>,
    ) -> Result<bool, StepError> {
        let mut works = Vec::new();
        for unit in had.chunk_by(|a, b| (a.stream, a.sequence) == (b.stream, b.sequence)) {
            if !unit.iter().any(|event| chosen.contains(&event.id)) {
                continue;
            }
            let Some(read) = read_again(&self.shared, unit).await? else {
                self.end_replay(ReplayState::Stopped, GONE).await?;
                return Ok(false);
            };
            works.extend(self.works_again(unit, read, chosen));
        }
        let now = self.now();
        let (Some(job), Some(session)) = (&mut self.replay, &mut self.session) else {
            return Ok(false);
        };
        job.page = works.iter().map(|work| work.key).collect();
        session.step(Input::Replay(works), now);
        Ok(true)
    }

    fn works_again(
        &self,
        unit: &[HadEvent],
        read: ReadAgain,
        chosen: &HashSet<String>,
    ) -> Vec<Work<Arc<Payload>>> {
        let (Some(job), Some(first)) = (&self.replay, unit.first()) else {
            return Vec::new();
        };
        let repair = job.row.repair.then(|| Arc::from(job.row.id.as_str()));
        let route = Route {
            shared: &self.shared,
            system: &self.row.system,
            stream: first.stream,
        };
        let whole = self.takes_groups();
        let mut parts: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
        for (member, event) in read.events.iter().cloned() {
            let alone = !whole || is_protection(&event.r#type);
            if !alone {
                parts.entry(0).or_default().push(event);
            } else if chosen.contains(&event.id) {
                parts.insert(member, vec![event]);
            }
        }
        let works = parts.into_iter().filter_map(|(member, events)| {
            let protection = events.iter().all(|event| is_protection(&event.r#type));
            let replay = Replay {
                repair: repair.clone(),
            };
            let payload = read.payload(&self.shared, events, replay)?;
            let key = key(first.stream, first.sequence, member);
            Some(route.work_of(key, payload, protection))
        });
        works.collect()
    }

    /// What a delta that is about to be committed says of the replay.
    pub(super) fn of_replay(&self, delta: &DeliveryDelta) -> Replayed {
        let known = [Outcome::Duplicate as i32, Outcome::Superseded as i32];
        let known = |outcome: i32| known.contains(&outcome);
        let page = self.replay.as_ref().map(|job| &job.page);
        let parked = delta.park.iter();
        let parked = parked.filter(|row| page.is_some_and(|page| page.contains(&row.key)));
        let replayed = delta.replayed.iter();
        Replayed(
            delta.replayed.len() as u64,
            replayed.filter(|done| known(done.outcome)).count() as u64,
            parked.count() as u64,
        )
    }

    /// Counts it, once it is committed.
    pub(super) fn count_replayed(&mut self, Replayed(delivered, known, parked): Replayed) {
        if let Some(job) = &mut self.replay {
            let progress = &mut job.row.progress;
            progress.delivered += delivered;
            progress.known += known;
            progress.parked += parked;
        }
    }
}

/// Leaves no more units of a page than the lanes take.
fn cut(had: &mut Vec<HadEvent>) {
    let mut units = had.chunk_by(|a, b| a.sequence == b.sequence);
    let mut events = units.next().map_or(0, <[HadEvent]>::len);
    for unit in units {
        if events + unit.len() > WINDOW_UNITS {
            break;
        }
        events += unit.len();
    }
    had.truncate(events);
}

/// Selected, and not skipped by an operator.
fn replayable(of: &Selection, event: &HadEvent) -> bool {
    event.outcome != Outcome::Skipped as i32 && of.names(event)
}

/// Which of a subject's events it has to end with, protection apart. A replay sends the latest
/// unless that one is the last that the product answered, and also where one lies parked: what
/// was refused of the replay must not come last. A repair sends it in any case where
/// something of its kind is selected.
fn latest<'a>(had: &'a [HadEvent], row: &ReplayRow, parked: bool) -> Vec<&'a HadEvent> {
    let mut latest = Vec::new();
    for protection in [false, true] {
        let kind = |event: &&HadEvent| {
            is_protection(&event.event_type) == protection
                && event.outcome != Outcome::Skipped as i32
        };
        let Some(last) = had.iter().rfind(kind) else {
            continue;
        };
        let mut others = had.iter().filter(kind);
        let wanted = match row.repair {
            true => others.any(|event| row.selection.names(event)),
            false => parked || others.any(|event| event.ended > last.ended),
        };
        if wanted {
            latest.push(last);
        }
    }
    latest
}

/// What a subscription had of a unit, as the log has it.
pub(super) struct ReadAgain {
    /// Events with their place in the group from 1.
    pub(super) events: Vec<(u32, Event)>,
    last: Position,
    group_size: u32,
}

impl ReadAgain {
    /// Some of its events, to be projected with the newest grants.
    pub(super) fn payload(
        &self,
        shared: &Shared,
        events: Vec<Event>,
        replay: Replay,
    ) -> Option<Payload> {
        Some(Payload {
            events,
            position: self.last,
            group_size: self.group_size,
            grants: shared.grants.borrow().latest().cloned()?,
            replay: Some(replay),
        })
    }
}

/// Reads the events of one unit at the positions that the event index names, corrections in place
/// of what they correct; `None` when the log has one of them no longer.
pub(super) async fn read_again(
    shared: &Shared,
    unit: &[HadEvent],
) -> Result<Option<ReadAgain>, LogError> {
    let limit = ReadLimit {
        records: 1,
        bytes: PAYLOAD_BYTES_MAX,
    };
    let mut again = ReadAgain {
        events: Vec::new(),
        last: Position::default(),
        group_size: 1,
    };
    for had in unit.iter().filter(|had| !is_corrected(had)) {
        let m = &shared.municipality;
        let read = match shared.log.read(m, had.stream, had.position, limit).await {
            Err(LogError::Trimmed { .. }) => return Ok(None),
            read => read?,
        };
        let mut at_place = read.into_iter().filter(|one| one.position == had.position);
        let event = at_place.next().and_then(event_of);
        let Some(event) = event.filter(|event| event.id == had.id) else {
            return Ok(None);
        };
        let place = event.group.as_ref().map_or(1, |group| group.seq);
        again.group_size = event.group.as_ref().map_or(1, |group| group.size.max(1));
        again.last = again.last.max(had.position);
        again.events.push((place, event));
    }
    again.events.sort_by_key(|(place, _)| *place);
    Ok(Some(again))
}

/// An operator's correction took its place.
fn is_corrected(had: &HadEvent) -> bool {
    had.outcome == Outcome::Skipped as i32 && had.reason.starts_with(CORRECTED)
}

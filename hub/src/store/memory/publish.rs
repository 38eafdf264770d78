//! The publish role of the store in memory.
//! Used by the sequencer in tests and simulations.
//! Must never let a claim, a version or a closed held unit go back.
//! Read next: `store/memory/delivery.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;

use super::MemoryStore;
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::StoreError;
use crate::store::publish::{
    CaptureState, Claim, HeldFilter, HeldRow, HeldState, IndexedEvent, Known, NewHeld, Placed,
    PublishDelta, PublishStore, SnapshotMark, VersionOf,
};

/// What one municipality published.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// In the order of claims.
    events: Vec<IndexedEvent>,
    /// Places in `events`; an id is one event, whoever the source is.
    by_id: HashMap<String, usize>,
    versions: HashMap<(String, Subject), u32>,
    held: BTreeMap<String, HeldRow>,
    /// Held units so far: the number of one that was forgotten is not given again.
    held_so_far: usize,
    captures: HashMap<String, CaptureState>,
    snapshots: Vec<SnapshotMark>,
    /// (version, active) by subject and measure.
    protection: HashMap<(Subject, String), (u32, bool)>,
    tails: HashMap<Stream, Position>,
}

impl Published {
    pub(super) fn event(&self, id: &str) -> Option<&IndexedEvent> {
        self.by_id.get(id).map(|&place| &self.events[place])
    }

    pub(super) fn events(&self) -> &[IndexedEvent] {
        &self.events
    }

    /// Forgets the content of units that were held and closed before a time.
    pub(super) fn forget_held(&mut self, before_ms: i64) -> u64 {
        let (events, by_id) = (&self.events, &self.by_id);
        let young = |id: &String| {
            let event = by_id.get(id).and_then(|&place| events.get(place));
            event.is_some_and(|event| event.claim.published_ms >= before_ms)
        };
        let mut forgotten = 0;
        for row in self.held.values_mut() {
            let held = &mut row.held;
            let closed_late =
                young(&row.corrected_by) || held.events.iter().any(|(id, _)| young(id));
            let stays = is_open(held.state) || held.held_ms >= before_ms || closed_late;
            if !stays && !held.content.bytes.is_empty() {
                held.content.bytes = Vec::new();
                forgotten += 1;
            }
        }
        forgotten
    }

    fn open_held(&self) -> impl Iterator<Item = &HeldRow> {
        self.held.values().filter(|row| is_open(row.held.state))
    }

    fn known(&self, id: &str) -> Option<Known> {
        let held = self.open_held().find_map(|row| {
            let (_, digest) = row.held.events.iter().find(|(held_id, _)| held_id == id)?;
            Some(Known::Held {
                held_id: row.id.clone(),
                digest: digest.clone(),
            })
        });
        held.or_else(|| {
            let event = self.event(id)?;
            Some(Known::Claimed {
                digest: event.claim.digest.clone(),
                at: event.at,
            })
        })
    }

    fn claim(&mut self, source: &str, claim: Claim) -> usize {
        if let Some(&place) = self.by_id.get(&claim.id) {
            return place;
        }
        let place = self.events.len();
        self.by_id.insert(claim.id.clone(), place);
        self.events.push(IndexedEvent {
            source: source.to_owned(),
            claim,
            at: None,
        });
        place
    }

    fn place(&mut self, placed: Placed) {
        let place = self.claim(&placed.source, placed.claim);
        // A repeat of the record stands behind the one that counts.
        self.events[place]
            .at
            .get_or_insert((placed.stream, placed.position));
    }

    fn hold(&mut self, new: NewHeld) -> String {
        let held_already = self.held.values().find(|row| {
            let held = &row.held;
            (&held.source, &held.key, &held.file, held.line)
                == (&new.source, &new.key, &new.file, new.line)
        });
        if let Some(row) = held_already {
            return row.id.clone();
        }
        self.held_so_far += 1;
        let id = format!("held-{:012}", self.held_so_far);
        let row = HeldRow {
            id: id.clone(),
            held: new,
            corrected_by: String::new(),
        };
        self.held.insert(id.clone(), row);
        id
    }

    fn close_held(&mut self, placed: &[Placed]) {
        let ids: HashSet<&str> = placed.iter().map(|placed| &*placed.claim.id).collect();
        let versions: HashMap<(&str, &Subject, u32), &str> = placed
            .iter()
            .map(|Placed { source, claim, .. }| {
                ((&**source, &claim.subject, claim.version), &*claim.id)
            })
            .collect();
        for row in self.held.values_mut() {
            match row.held.state {
                HeldState::Waiting => {
                    if row.held.events.iter().any(|(id, _)| ids.contains(&**id)) {
                        row.held.state = HeldState::Released;
                    }
                }
                HeldState::Refused => {
                    if let Some(event) = correction(&row.held, &versions) {
                        correct(row, event);
                    }
                }
                HeldState::Corrected | HeldState::Released => {}
            }
        }
    }

    fn raise(&mut self, raised: VersionOf) {
        let version = self
            .versions
            .entry((raised.source, raised.subject))
            .or_default();
        *version = raised.version.max(*version);
    }

    fn mark(&mut self, new: SnapshotMark) {
        let same = |mark: &&mut SnapshotMark| {
            mark.source == new.source && mark.snapshot_id == new.snapshot_id
        };
        match self.snapshots.iter_mut().find(same) {
            Some(mark) => mark.bulk_end = mark.bulk_end.or(new.bulk_end),
            None => self.snapshots.push(new),
        }
    }

    fn commit(&mut self, delta: PublishDelta) -> Vec<String> {
        self.close_held(&delta.placed);
        for placed in delta.placed {
            self.place(placed);
        }
        for raised in delta.versions {
            self.raise(raised);
        }
        for (held_id, event) in delta.corrected {
            if let Some(row) = self
                .held
                .get_mut(&held_id)
                .filter(|row| is_open(row.held.state))
            {
                correct(row, &event);
            }
        }
        // After the closing: what is refused beside an accepted version stays open for a clerk.
        let held_ids = delta.hold.into_iter().map(|held| self.hold(held)).collect();
        if let Some((source, cursor)) = delta.cursor {
            self.captures.entry(source).or_default().cursor = Some(cursor);
        }
        for mark in delta.protection {
            let known = self.protection.entry((mark.subject, mark.measure));
            let stored = known.or_insert((mark.version, mark.active));
            if mark.version > stored.0 {
                *stored = (mark.version, mark.active);
            }
        }
        for mark in delta.snapshots {
            self.mark(mark);
        }
        for (stream, position) in delta.tail {
            let tail = self.tails.entry(stream).or_insert(position);
            *tail = position.max(*tail);
        }
        held_ids
    }
}

fn is_open(state: HeldState) -> bool {
    matches!(state, HeldState::Refused | HeldState::Waiting)
}

fn correct(row: &mut HeldRow, event: &str) {
    row.held.state = HeldState::Corrected;
    event.clone_into(&mut row.corrected_by);
}

/// The event that corrects a refused unit: each of its readable pairs must be placed.
fn correction<'a>(
    held: &NewHeld,
    placed: &HashMap<(&str, &Subject, u32), &'a str>,
) -> Option<&'a str> {
    let mut event = None;
    for (subject, version) in held.subjects.iter().filter(|(_, version)| *version > 0) {
        event = Some(*placed.get(&(held.source.as_str(), subject, *version))?);
    }
    event
}

fn shows(filter: HeldFilter, state: HeldState) -> bool {
    match filter {
        HeldFilter::Open => is_open(state),
        HeldFilter::State(wanted) => state == wanted,
    }
}

impl MemoryStore {
    fn read<T: Default>(&self, m: &Municipality, find: impl FnOnce(&Published) -> T) -> T {
        self.lock().published.get(m).map(find).unwrap_or_default()
    }

    fn write<T>(&self, m: &Municipality, change: impl FnOnce(&mut Published) -> T) -> T {
        change(self.lock().published.entry(m.clone()).or_default())
    }
}

#[async_trait]
impl PublishStore for MemoryStore {
    async fn known(
        &self,
        m: &Municipality,
        _source: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Known>, StoreError> {
        Ok(self.read(m, |published| {
            ids.iter()
                .filter_map(|id| Some((id.clone(), published.known(id)?)))
                .collect()
        }))
    }

    async fn claim(
        &self,
        m: &Municipality,
        source: &str,
        claims: &[Claim],
    ) -> Result<(), StoreError> {
        self.write(m, |published| {
            for claim in claims {
                published.claim(source, claim.clone());
            }
        });
        Ok(())
    }

    async fn versions(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<HashMap<Subject, u32>, StoreError> {
        Ok(self.read(m, |published| {
            let version = |subject: &Subject| {
                published
                    .versions
                    .get(&(source.to_owned(), subject.clone()))
            };
            subjects
                .iter()
                .filter_map(|s| Some((s.clone(), *version(s)?)))
                .collect()
        }))
    }

    async fn held_behind(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<Vec<HeldRow>, StoreError> {
        Ok(self.read(m, |published| {
            let concerned =
                |row: &HeldRow| row.held.subjects.iter().any(|(s, _)| subjects.contains(s));
            let open = published
                .open_held()
                .filter(|row| row.held.source == source);
            open.filter(|row| concerned(row)).cloned().collect()
        }))
    }

    async fn commit_publish(
        &self,
        m: &Municipality,
        delta: PublishDelta,
    ) -> Result<Vec<String>, StoreError> {
        let mut delta = delta;
        let follow = std::mem::take(&mut delta.follow);
        self.lock().alarmed.follow(m, follow);
        Ok(self.write(m, |published| published.commit(delta)))
    }

    async fn find_event(
        &self,
        m: &Municipality,
        id: &str,
    ) -> Result<Option<IndexedEvent>, StoreError> {
        Ok(self.read(m, |published| published.event(id).cloned()))
    }

    async fn events_of(
        &self,
        m: &Municipality,
        subject: &Subject,
        limit: usize,
    ) -> Result<Vec<IndexedEvent>, StoreError> {
        Ok(self.read(m, |published| {
            let about = published
                .events
                .iter()
                .filter(|event| event.claim.subject == *subject);
            about.take(limit).cloned().collect()
        }))
    }

    async fn committed_tail(&self, m: &Municipality, s: Stream) -> Result<Position, StoreError> {
        let tail = self.read(m, |published| published.tails.get(&s).copied());
        // Logs begin behind position 0.
        Ok(tail.unwrap_or(Position(1)))
    }

    async fn protected(&self, m: &Municipality) -> Result<HashSet<Subject>, StoreError> {
        Ok(self.read(m, |published| {
            let marks = published.protection.iter();
            let active = marks.filter(|(_, (_, active))| *active);
            active.map(|((subject, _), _)| subject.clone()).collect()
        }))
    }

    async fn snapshots(&self, m: &Municipality) -> Result<Vec<SnapshotMark>, StoreError> {
        let mut marks = self.read(m, |published| published.snapshots.clone());
        marks.sort_by_key(|mark| mark.bulk_start);
        Ok(marks)
    }

    async fn capture(&self, m: &Municipality, source: &str) -> Result<CaptureState, StoreError> {
        Ok(self.read(m, |published| {
            published.captures.get(source).cloned().unwrap_or_default()
        }))
    }

    async fn bind_capture(
        &self,
        m: &Municipality,
        source: &str,
        product: &str,
    ) -> Result<u64, StoreError> {
        Ok(self.write(m, |published| {
            let capture = published.captures.entry(source.to_owned()).or_default();
            capture.epoch += 1;
            product.clone_into(&mut capture.product);
            capture.epoch
        }))
    }

    async fn list_held(
        &self,
        m: &Municipality,
        filter: HeldFilter,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<HeldRow>, u64), StoreError> {
        Ok(self.read(m, |published| {
            let shown = || {
                published
                    .held
                    .values()
                    .filter(|row| shows(filter, row.held.state))
            };
            let page = shown()
                .filter(|row| row.id.as_str() > after)
                .take(limit)
                .cloned();
            (page.collect(), shown().count() as u64)
        }))
    }

    async fn held(&self, m: &Municipality, id: &str) -> Result<Option<HeldRow>, StoreError> {
        Ok(self.read(m, |published| published.held.get(id).cloned()))
    }
}

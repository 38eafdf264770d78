//! A log and a store that die at a chosen moment.
//! Around the real backends; a fault holds until the next restart.
//! Must never change what a call does that does not fail.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::*;
use crate::log::{Bounds, Capabilities, Kept, LogError, NewRecord};
use crate::store::publish::claim_durability;
use crate::store::{
    ActRow, ActStore, AlarmStore, CaptureState, Claim, DeliveryDelta, DeliveryStore, Durability,
    Followed, Forgotten, HadEvent, HeldPile, HistoryRow, IndexedEvent, Known, NewAct, ParkedFilter,
    ParkedRow, Piles, PublishDelta, ReplayProgress, ReplayRow, ReplayStore, RetentionStore,
    RhythmRow, RhythmStore, RunRow, Selected, Selection, SnapshotMark, StandingRow,
    SubscriptionRow, UnitKey,
};

/// Where the hub dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The claim is not written.
    BeforeClaim,
    /// Claimed; nothing is appended.
    BeforeAppend,
    /// Appended; the answer is lost.
    AfterAppend,
    /// Appended; nothing is committed.
    BeforeCommit,
    /// Committed; the answer is lost.
    AfterCommit,
    /// Appended and committed once; the followers are not.
    BeforeSecondCommit,
    /// One append went through; the followers' does not.
    BeforeSecondAppend,
}

type Switch = Arc<Mutex<Option<Fault>>>;

/// True at the moment of a fault; one that comes at the second time is armed by the first.
fn strikes(switch: &Switch, at: Fault) -> bool {
    let mut fault = switch.lock().unwrap();
    match (*fault, at) {
        (Some(Fault::BeforeSecondCommit), Fault::BeforeCommit) => {
            *fault = Some(Fault::BeforeCommit);
            false
        }
        (Some(Fault::BeforeSecondAppend), Fault::BeforeAppend) => {
            *fault = Some(Fault::BeforeAppend);
            false
        }
        (Some(set), at) => set == at,
        (None, _) => false,
    }
}

fn died() -> Box<dyn std::error::Error + Send + Sync> {
    "died".into()
}

fn store_died() -> StoreError {
    StoreError::Backend {
        action: "dying",
        source: died(),
    }
}

#[derive(Debug)]
pub(super) struct DyingLog {
    log: Arc<dyn EventLog>,
    fault: Switch,
}

impl DyingLog {
    pub(super) fn new(log: Arc<dyn EventLog>, fault: Switch) -> Self {
        Self { log, fault }
    }
}

#[async_trait]
impl EventLog for DyingLog {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    async fn own(&self, m: &Municipality, owner_epoch: u64) -> Result<(), LogError> {
        self.log.own(m, owner_epoch).await
    }

    async fn append(
        &self,
        m: &Municipality,
        stream: Stream,
        batch: Vec<NewRecord>,
    ) -> Result<Vec<Position>, AppendError> {
        if strikes(&self.fault, Fault::BeforeAppend) {
            return Err(AppendError::NotWritten(m.clone(), died()));
        }
        let positions = self.log.append(m, stream, batch).await?;
        if strikes(&self.fault, Fault::AfterAppend) {
            return Err(AppendError::OutcomeUnknown(m.clone(), died()));
        }
        Ok(positions)
    }

    async fn read(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, LogError> {
        self.log.read(m, stream, from, limit).await
    }

    async fn bounds(&self, m: &Municipality, stream: Stream) -> Result<Bounds, LogError> {
        self.log.bounds(m, stream).await
    }

    async fn kept_from(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
    ) -> Result<Option<Kept>, LogError> {
        self.log.kept_from(m, stream, from).await
    }

    fn watch_tail(&self, m: &Municipality, stream: Stream) -> watch::Receiver<Position> {
        self.log.watch_tail(m, stream)
    }

    async fn trim(
        &self,
        m: &Municipality,
        stream: Stream,
        up_to: Position,
    ) -> Result<(), LogError> {
        self.log.trim(m, stream, up_to).await
    }
}

/// What a power cut leaves of a store's file: its state at the last commit that said `Now`.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) file: PathBuf,
    pub(super) kept: PathBuf,
}

impl Disk {
    fn synced(&self) {
        for end in ["", "-wal"] {
            let with_end = |path: &Path| format!("{}{end}", path.display());
            std::fs::copy(with_end(&self.file), with_end(&self.kept)).unwrap();
        }
    }
}

#[derive(Debug)]
pub(super) struct DyingStore {
    store: Arc<dyn Store>,
    fault: Switch,
    disk: Option<Disk>,
}

impl DyingStore {
    pub(super) fn new(store: Arc<dyn Store>, fault: Switch) -> Self {
        Self {
            store,
            fault,
            disk: None,
        }
    }

    /// A store on a disk that keeps no more than it must.
    pub(super) fn on_disk(store: Arc<dyn Store>, fault: Switch, disk: Disk) -> Self {
        disk.synced();
        Self {
            disk: Some(disk),
            ..Self::new(store, fault)
        }
    }

    fn committed(&self, durability: Durability) {
        if let Some(disk) = self.disk.as_ref().filter(|_| durability == Durability::Now) {
            disk.synced();
        }
    }
}

#[async_trait]
impl PublishStore for DyingStore {
    async fn known(
        &self,
        m: &Municipality,
        source: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Known>, StoreError> {
        self.store.known(m, source, ids).await
    }

    async fn claim(
        &self,
        m: &Municipality,
        source: &str,
        claims: &[Claim],
    ) -> Result<(), StoreError> {
        if strikes(&self.fault, Fault::BeforeClaim) {
            return Err(store_died());
        }
        self.store.claim(m, source, claims).await?;
        self.committed(claim_durability(claims));
        Ok(())
    }

    async fn versions(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<HashMap<Subject, u32>, StoreError> {
        self.store.versions(m, source, subjects).await
    }

    async fn held_behind(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<Vec<HeldRow>, StoreError> {
        self.store.held_behind(m, source, subjects).await
    }

    async fn commit_publish(
        &self,
        m: &Municipality,
        delta: PublishDelta,
    ) -> Result<Vec<String>, StoreError> {
        if strikes(&self.fault, Fault::BeforeCommit) {
            return Err(store_died());
        }
        let durability = delta.durability();
        let ids = self.store.commit_publish(m, delta).await?;
        self.committed(durability);
        if strikes(&self.fault, Fault::AfterCommit) {
            return Err(store_died());
        }
        Ok(ids)
    }

    async fn find_event(
        &self,
        m: &Municipality,
        id: &str,
    ) -> Result<Option<IndexedEvent>, StoreError> {
        self.store.find_event(m, id).await
    }

    async fn events_of(
        &self,
        m: &Municipality,
        subject: &Subject,
        limit: usize,
    ) -> Result<Vec<IndexedEvent>, StoreError> {
        self.store.events_of(m, subject, limit).await
    }

    async fn committed_tail(&self, m: &Municipality, s: Stream) -> Result<Position, StoreError> {
        self.store.committed_tail(m, s).await
    }

    async fn snapshots(&self, m: &Municipality) -> Result<Vec<SnapshotMark>, StoreError> {
        self.store.snapshots(m).await
    }

    async fn protected(&self, m: &Municipality) -> Result<HashSet<Subject>, StoreError> {
        self.store.protected(m).await
    }

    async fn capture(&self, m: &Municipality, source: &str) -> Result<CaptureState, StoreError> {
        self.store.capture(m, source).await
    }

    async fn bind_capture(
        &self,
        m: &Municipality,
        source: &str,
        product: &str,
    ) -> Result<u64, StoreError> {
        self.store.bind_capture(m, source, product).await
    }

    async fn list_held(
        &self,
        m: &Municipality,
        filter: HeldFilter,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<HeldRow>, u64), StoreError> {
        self.store.list_held(m, filter, after, limit).await
    }

    async fn held(&self, m: &Municipality, id: &str) -> Result<Option<HeldRow>, StoreError> {
        self.store.held(m, id).await
    }
}

/// The sequencer never asks this role for anything.
fn not_asked<T>() -> Result<T, StoreError> {
    Err(StoreError::Fenced("the publish side".to_owned()))
}

#[async_trait]
impl ActStore for DyingStore {
    async fn record_act(&self, _: &Municipality, _: NewAct) -> Result<(), StoreError> {
        not_asked()
    }

    async fn acts(&self, _: &Municipality, _: u64, _: usize) -> Result<Vec<ActRow>, StoreError> {
        not_asked()
    }

    async fn acts_on(&self, _: &str, _: UnitKey) -> Result<Vec<ActRow>, StoreError> {
        not_asked()
    }

    async fn find_parked(
        &self,
        _: &str,
        _: &ParkedFilter,
        _: Option<UnitKey>,
        _: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        not_asked()
    }
}

#[async_trait]
impl AlarmStore for DyingStore {
    async fn piles(&self, _: &[String]) -> Result<HashMap<String, Piles>, StoreError> {
        not_asked()
    }

    async fn standing(&self, _: &Municipality) -> Result<Vec<StandingRow>, StoreError> {
        not_asked()
    }

    async fn put_standing(&self, _: &Municipality, _: Vec<StandingRow>) -> Result<(), StoreError> {
        not_asked()
    }

    async fn held_piles(&self, _: &Municipality) -> Result<Vec<HeldPile>, StoreError> {
        not_asked()
    }

    async fn followed(&self, _: &Municipality, _: usize) -> Result<Vec<Followed>, StoreError> {
        not_asked()
    }

    async fn open_followed(
        &self,
        _: &Municipality,
        _: &str,
        _: usize,
    ) -> Result<Vec<Followed>, StoreError> {
        not_asked()
    }

    async fn unfollow(&self, _: &Municipality, _: &[String]) -> Result<(), StoreError> {
        not_asked()
    }
}

#[async_trait]
impl RhythmStore for DyingStore {
    async fn rhythms(&self, _: &Municipality) -> Result<Vec<RhythmRow>, StoreError> {
        not_asked()
    }

    async fn put_rhythm(
        &self,
        _: &Municipality,
        _: RhythmRow,
        _: NewAct,
    ) -> Result<(), StoreError> {
        not_asked()
    }

    async fn heard(&self, _: &Municipality, _: &[(String, i64)]) -> Result<(), StoreError> {
        not_asked()
    }
}

#[async_trait]
impl ReplayStore for DyingStore {
    async fn start_replay(&self, _: ReplayRow, _: NewAct) -> Result<bool, StoreError> {
        not_asked()
    }

    async fn move_replay(
        &self,
        _: &str,
        _: ReplayProgress,
        _: Option<NewAct>,
    ) -> Result<bool, StoreError> {
        not_asked()
    }

    async fn running_replay(&self, _: &str) -> Result<Option<ReplayRow>, StoreError> {
        not_asked()
    }

    async fn replays(&self, _: &Municipality, _: usize) -> Result<Vec<ReplayRow>, StoreError> {
        not_asked()
    }

    async fn selected(&self, _: &str, _: &Selection) -> Result<Selected, StoreError> {
        not_asked()
    }

    async fn had(
        &self,
        _: &str,
        _: Stream,
        _: u64,
        _: Option<&Selection>,
        _: usize,
    ) -> Result<Vec<HadEvent>, StoreError> {
        not_asked()
    }

    async fn had_of(&self, _: &str, _: &Subject) -> Result<Vec<HadEvent>, StoreError> {
        not_asked()
    }

    async fn touched(
        &self,
        _: &str,
        _: &Selection,
        _: bool,
        _: Option<&Subject>,
        _: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        not_asked()
    }
}

#[async_trait]
impl DeliveryStore for DyingStore {
    async fn own(&self, _: &Municipality) -> Result<u64, StoreError> {
        not_asked()
    }

    async fn municipalities(&self) -> Result<Vec<Municipality>, StoreError> {
        not_asked()
    }

    async fn subscriptions(&self, _: &Municipality) -> Result<Vec<SubscriptionRow>, StoreError> {
        not_asked()
    }

    async fn put_subscription(&self, _: SubscriptionRow) -> Result<(), StoreError> {
        not_asked()
    }

    async fn finish_filling(&self, _: &str, _: &str) -> Result<(), StoreError> {
        not_asked()
    }

    async fn commit(&self, _: DeliveryDelta) -> Result<(), StoreError> {
        not_asked()
    }

    async fn ahead(&self, _: &str) -> Result<HashSet<UnitKey>, StoreError> {
        not_asked()
    }

    async fn attempts(&self, _: &str) -> Result<Vec<(UnitKey, u32)>, StoreError> {
        not_asked()
    }

    async fn runs(&self, _: &str) -> Result<Vec<RunRow>, StoreError> {
        not_asked()
    }

    async fn parked_subjects(&self, _: &str) -> Result<HashMap<Subject, UnitKey>, StoreError> {
        not_asked()
    }

    async fn parked(
        &self,
        _: &str,
        _: Option<&Subject>,
        _: Option<UnitKey>,
        _: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        not_asked()
    }

    async fn due(&self, _: &str, _: usize) -> Result<Vec<(i64, UnitKey)>, StoreError> {
        not_asked()
    }

    async fn parked_unit(&self, _: &str, _: UnitKey) -> Result<Option<ParkedRow>, StoreError> {
        not_asked()
    }

    async fn history(&self, _: &Municipality, _: &str) -> Result<Vec<HistoryRow>, StoreError> {
        not_asked()
    }

    async fn grants(
        &self,
        _: &Municipality,
    ) -> Result<Vec<((Position, Position), String)>, StoreError> {
        not_asked()
    }

    async fn put_grants(
        &self,
        _: &Municipality,
        _: (Position, Position),
        _: &str,
    ) -> Result<(), StoreError> {
        not_asked()
    }
}

#[async_trait]
impl RetentionStore for DyingStore {
    async fn keep_from(
        &self,
        m: &Municipality,
        stream: Stream,
        first: Position,
    ) -> Result<(), StoreError> {
        self.store.keep_from(m, stream, first).await?;
        self.committed(Durability::Now);
        Ok(())
    }

    async fn kept_from(&self, m: &Municipality, stream: Stream) -> Result<Position, StoreError> {
        self.store.kept_from(m, stream).await
    }

    async fn forget_history(&self, before_ms: i64, after: u64) -> Result<Forgotten, StoreError> {
        self.store.forget_history(before_ms, after).await
    }

    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError> {
        self.store.forget_held(before_ms).await
    }
}

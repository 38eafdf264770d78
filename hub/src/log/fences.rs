//! Where the fences of the logs stand: one owner after the other has written a part of a stream.
//! Beside a log whose topics several processes can write; kept where the owners are kept.
//! Must never lose a fence whose part of the log is still read.
//! Read next: `docs/specs/log.md` (fences), `log/contract.rs`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::event::{Municipality, Position, Stream};
use crate::store::StoreError;

/// A fence: from here on only what is written under it counts, until the next one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Fence {
    /// Epoch of the owner that wrote it.
    pub epoch: u64,
    /// Which of this owner's fences it is.
    pub number: u64,
    /// Where it stands; while `end` is not known, the earliest place where it may stand.
    pub position: Position,
    /// What was written under the fence before it counts up to here. `None`: it is about to be
    /// written, and may never have been.
    pub end: Option<Position>,
}

/// Remembers the fences of every stream. Written by owners only, each its own.
#[async_trait]
pub trait FenceBook: Send + Sync + std::fmt::Debug {
    /// All fences of a stream, by epoch and number.
    async fn fences(&self, m: &Municipality, stream: Stream) -> Result<Vec<Fence>, StoreError>;
    /// Writes a fence, also over one of the same epoch and number. `Ok` means durable.
    async fn put_fence(
        &self,
        m: &Municipality,
        stream: Stream,
        fence: Fence,
    ) -> Result<(), StoreError>;
    /// Forgets the fence of an epoch and number; one that is not there is forgotten already.
    async fn forget_fence(
        &self,
        m: &Municipality,
        stream: Stream,
        epoch: u64,
        number: u64,
    ) -> Result<(), StoreError>;
}

type Fences = BTreeMap<(u64, u64), Fence>;

/// Fences in memory: for tests.
#[derive(Debug, Default)]
pub struct MemoryFences {
    streams: Mutex<HashMap<(Municipality, Stream), Fences>>,
}

impl MemoryFences {
    fn with<T>(&self, m: &Municipality, stream: Stream, act: impl FnOnce(&mut Fences) -> T) -> T {
        let streams = self.streams.lock();
        let mut streams = streams.unwrap_or_else(PoisonError::into_inner);
        act(streams.entry((m.clone(), stream)).or_default())
    }
}

#[async_trait]
impl FenceBook for MemoryFences {
    async fn fences(&self, m: &Municipality, stream: Stream) -> Result<Vec<Fence>, StoreError> {
        Ok(self.with(m, stream, |fences| fences.values().copied().collect()))
    }

    async fn put_fence(
        &self,
        m: &Municipality,
        stream: Stream,
        fence: Fence,
    ) -> Result<(), StoreError> {
        self.with(m, stream, |fences| {
            fences.insert((fence.epoch, fence.number), fence);
        });
        Ok(())
    }

    async fn forget_fence(
        &self,
        m: &Municipality,
        stream: Stream,
        epoch: u64,
        number: u64,
    ) -> Result<(), StoreError> {
        self.with(m, stream, |fences| {
            fences.remove(&(epoch, number));
        });
        Ok(())
    }
}

//! Where the records of a moved log stand now: one rising map per stream, old place to new place.
//! Made while a log is moved, used for every position that the store remembers.
//! Must never let two kept records change their order, nor a trimmed one seem to be kept.
//! Read next: `migrate/tables.rs`.
//!
//! ```text
//!   old   … trimmed │ 41 42 43 44 │ next 45        runs: 41→2, 43→5 (a fence between them)
//!   new           1 │  2  3  5  6 │ next 7
//! ```

use std::collections::HashMap;

use crate::event::{Municipality, Position, Stream};
use crate::log::Bounds;

/// What a position stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The place of one record; when that was trimmed, it must not be found.
    Record,
    /// How far something is: everything before it is done.
    Cursor,
}

/// One stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Moved {
    old: Bounds,
    new: Bounds,
    /// First old and first new position of each run without a gap.
    runs: Vec<(u64, u64)>,
}

impl Moved {
    /// A stream of which nothing has been moved.
    pub(super) fn new(old: Bounds) -> Self {
        Self {
            old,
            new: Bounds {
                first: Position(1),
                next: Position(1),
            },
            runs: Vec::new(),
        }
    }

    /// Notes where the next record stands.
    pub(super) fn push(&mut self, old: Position, new: Position) {
        let goes_on = self
            .runs
            .last()
            .is_some_and(|(from, to)| old.0.checked_sub(*from) == new.0.checked_sub(*to));
        if !goes_on {
            self.runs.push((old.0, new.0));
        }
    }

    /// Notes where the new stream begins and ends.
    pub(super) fn bound(&mut self, new: Bounds) {
        self.new = new;
    }

    /// Where the first record stands; `None` without one.
    pub(super) fn first(&self) -> Option<Position> {
        self.runs.first().map(|(_, new)| Position(*new))
    }

    /// A position in the new stream.
    pub(super) fn at(&self, old: Position, meaning: Meaning) -> Position {
        if old.0 == 0 {
            return old;
        }
        if old < self.old.first {
            return match meaning {
                Meaning::Record => Position(1),
                Meaning::Cursor => self.new.first,
            };
        }
        if let Some(beyond) = old.0.checked_sub(self.old.next.0) {
            return Position(self.new.next.0 + beyond);
        }
        let behind = self.runs.partition_point(|(from, _)| *from <= old.0);
        let run = behind.checked_sub(1).and_then(|at| self.runs.get(at));
        run.map_or(self.new.first, |(from, to)| Position(to + (old.0 - from)))
    }

    /// True when a record still stands at an old position, or may come to stand there.
    pub(super) fn is_kept(&self, old: Position) -> bool {
        old >= self.old.first
    }
}

/// All streams of a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    streams: HashMap<(Municipality, Stream), Moved>,
}

impl Positions {
    /// Notes one stream.
    pub(super) fn insert(&mut self, m: &Municipality, stream: Stream, moved: Moved) {
        self.streams.insert((m.clone(), stream), moved);
    }

    /// One stream.
    pub(super) fn of(&self, m: &Municipality, stream: Stream) -> Option<&Moved> {
        self.streams.get(&(m.clone(), stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(first: u64, next: u64) -> Bounds {
        Bounds {
            first: Position(first),
            next: Position(next),
        }
    }

    #[test]
    fn kept_places_keep_their_order_and_trimmed_ones_are_before_the_first() {
        let mut moved = Moved::new(bounds(41, 45));
        for (old, new) in [(41, 2), (42, 3), (43, 5), (44, 6)] {
            moved.push(Position(old), Position(new));
        }
        moved.bound(bounds(2, 7));
        assert_eq!(moved.runs, [(41, 2), (43, 5)]);
        let at = |old, meaning| moved.at(Position(old), meaning).0;
        let cursors: Vec<u64> = (0..48).map(|old| at(old, Meaning::Cursor)).collect();
        assert!(cursors.is_sorted(), "{cursors:?}");
        assert_eq!([at(41, Meaning::Record), at(43, Meaning::Record)], [2, 5]);
        assert_eq!([at(40, Meaning::Record), at(40, Meaning::Cursor)], [1, 2]);
        assert_eq!([at(45, Meaning::Cursor), at(46, Meaning::Cursor)], [7, 8]);
        assert_eq!(at(0, Meaning::Record), 0);
    }
}

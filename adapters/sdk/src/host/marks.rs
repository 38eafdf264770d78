//! What an adapter can prove about having everything (P8): sequences seen against the hub's marks.
//! Pure; `session.rs` feeds it with deliveries and marks of all streams of one run of the adapter.
//! It must never take a first mark for a gap: what was before it went to somebody else.
//! Read next: `session.rs`.
//!
//! ```text
//!   mark before      seen  seen   new mark
//!  ─────┴─────────────┴──×──┴────────┴──▶ sequence     × missing: parked behind another, or lost
//! ```

use std::collections::BTreeSet;

use crate::hub::{CompleteUpTo, Delivery, Stream};
use crate::limits::SEEN_UNITS_MAX;

/// What the two streams of a subscription have shown so far.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    subscription: String,
    live: Track,
    bulk: Track,
}

/// What is wrong with a mark.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// So many units up to the mark did not come; the first of them.
    Missing(u64, u64),
    /// The mark stands before the former one, which is named.
    WentBack(u64),
}

#[derive(Debug, Default)]
struct Track {
    /// Last sequence that was delivered.
    last: u64,
    complete: Option<u64>,
    /// Sequences above the mark that came.
    seen: BTreeSet<u64>,
}

impl Marks {
    /// A stream was opened; another subscription has numbers of its own.
    pub(crate) fn attached(&mut self, subscription: &str) {
        if self.subscription != subscription {
            *self = Self {
                subscription: subscription.to_owned(),
                ..Self::default()
            };
        }
    }

    /// A delivery came.
    pub(crate) fn delivered(&mut self, delivery: &Delivery) {
        for unit in &delivery.units {
            let track = self.track(unit.stream());
            track.last = track.last.max(unit.sequence);
            if track.complete.is_none_or(|mark| unit.sequence > mark) {
                track.seen.insert(unit.sequence);
            }
            if track.seen.len() > SEEN_UNITS_MAX {
                // More than the hub promises to send ahead: nothing can be proved from here.
                track.seen.clear();
                track.complete = None;
            }
        }
    }

    /// A mark came; what is wrong with it.
    pub(crate) fn complete(&mut self, mark: &CompleteUpTo) -> Option<Gap> {
        let track = self.track(mark.stream());
        let above = track.seen.split_off(&mark.sequence.saturating_add(1));
        let seen = std::mem::replace(&mut track.seen, above);
        let former = track.complete.replace(mark.sequence)?;
        if mark.sequence < former {
            return Some(Gap::WentBack(former));
        }
        let missing = (mark.sequence - former).saturating_sub(seen.len() as u64);
        let first = (former + 1..=mark.sequence).find(|sequence| !seen.contains(sequence));
        first
            .filter(|_| missing > 0)
            .map(|first| Gap::Missing(missing, first))
    }

    /// Last sequence that came in a stream.
    pub(crate) fn last(&self, stream: Stream) -> u64 {
        match stream {
            Stream::Bulk => self.bulk.last,
            Stream::Live | Stream::Unspecified => self.live.last,
        }
    }

    fn track(&mut self, stream: Stream) -> &mut Track {
        match stream {
            Stream::Bulk => &mut self.bulk,
            Stream::Live | Stream::Unspecified => &mut self.live,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::DeliveredUnit;

    fn came(marks: &mut Marks, stream: Stream, sequences: &[u64]) {
        let units = sequences.iter().map(|&sequence| DeliveredUnit {
            sequence,
            stream: stream.into(),
            ..DeliveredUnit::default()
        });
        marks.delivered(&Delivery {
            units: units.collect(),
            ..Delivery::default()
        });
    }

    fn mark(marks: &mut Marks, stream: Stream, sequence: u64) -> Option<Gap> {
        let stream = stream.into();
        marks.complete(&CompleteUpTo { sequence, stream })
    }

    #[test]
    fn a_mark_over_what_did_not_come_is_a_gap_and_the_first_mark_is_none() {
        let mut marks = Marks::default();
        marks.attached("s");
        came(&mut marks, Stream::Live, &[12, 11]);
        assert_eq!(mark(&mut marks, Stream::Live, 10), None);
        assert_eq!(mark(&mut marks, Stream::Live, 12), None);
        came(&mut marks, Stream::Live, &[13, 16, 12]);
        came(&mut marks, Stream::Bulk, &[14]);
        assert_eq!(
            mark(&mut marks, Stream::Live, 16),
            Some(Gap::Missing(2, 14))
        );
        assert_eq!(mark(&mut marks, Stream::Live, 16), None);
        assert_eq!(marks.last(Stream::Live), 16);
        assert_eq!(mark(&mut marks, Stream::Live, 15), Some(Gap::WentBack(16)));
    }

    #[test]
    fn a_new_stream_of_the_same_subscription_goes_on_and_another_begins_anew() {
        let mut marks = Marks::default();
        marks.attached("s");
        assert_eq!(mark(&mut marks, Stream::Bulk, 5), None);
        came(&mut marks, Stream::Bulk, &[6]);
        marks.attached("s");
        assert_eq!(mark(&mut marks, Stream::Bulk, 7), Some(Gap::Missing(1, 7)));
        marks.attached("s~fill-2");
        assert_eq!(mark(&mut marks, Stream::Bulk, 1), None);
    }
}

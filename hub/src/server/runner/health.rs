//! How a receiver answers, over its streams: what ended, and what was put off in a row.
//! Noted by the session with each answer; read by the look for alarms.
//! Must never decide anything: the engine's own care for a receiver that is down is apart.
//! Read next: `server/town/alarms.rs`.

use crate::engine::Answered;

/// What is known of a receiver since the process began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Answers so far; whoever compares two looks sees whether anything moved.
    pub answers: u64,
    /// Units put off since anything ended.
    pub put_off: u64,
    /// Since when, in milliseconds since 1970; `None` when the last answer ended something.
    pub put_off_since_ms: Option<i64>,
    /// Why the last one was put off.
    pub reason: String,
}

impl Health {
    /// Notes answers to one delivery.
    pub(super) fn answered<'a>(
        &mut self,
        answers: impl Iterator<Item = &'a Answered>,
        now_ms: i64,
    ) {
        for answer in answers {
            self.answers += 1;
            match answer {
                Answered::Retry { refusal, .. } | Answered::Unknown(refusal) => {
                    self.put_off += 1;
                    self.put_off_since_ms.get_or_insert(now_ms);
                    self.reason.clone_from(&refusal.reason);
                }
                // Whatever the outcome: the receiver is there.
                Answered::Final(..) | Answered::Rejected(_) | Answered::Pause(_) => {
                    let answers = self.answers;
                    *self = Self {
                        answers,
                        ..Self::default()
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Refusal;

    fn put_off(reason: &str) -> Answered {
        let refusal = Refusal {
            reason: reason.to_owned(),
            ..Refusal::default()
        };
        Answered::Retry {
            after_ms: 0,
            refusal,
        }
    }

    #[test]
    fn what_is_put_off_counts_from_its_first_until_anything_ends() {
        let mut health = Health::default();
        health.answered([&put_off("UNREACHABLE")].into_iter(), 10);
        health.answered(
            [&put_off("TIMED_OUT"), &put_off("UNMAPPABLE")].into_iter(),
            20,
        );
        let expected = Health {
            answers: 3,
            put_off: 3,
            put_off_since_ms: Some(10),
            reason: "UNMAPPABLE".to_owned(),
        };
        assert_eq!(health, expected);
        health.answered([&Answered::Rejected(Refusal::default())].into_iter(), 30);
        let expected = Health {
            answers: 4,
            ..Health::default()
        };
        assert_eq!(health, expected);
    }
}

//! Answers to deliveries: outcomes, and refusals with the disposition that the hub obeys.
//! Adapters build them from what the product said; the host sends them.
//! They must never carry personal data: they end in logs and consoles.
//! Read next: `deliver.rs`, where they are returned.

use std::time::Duration;

use crate::hub::{DeliveredUnit, Delivery, Outcome, Receipt, UnitReceipt};
use crate::limits::RECEIPT_MESSAGE_CHARS_MAX;

/// What the hub shall do after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Deliver again, not before `after`.
    Retry {
        /// Earliest time of the next attempt, from now.
        after: Duration,
    },
    /// Park the subject; everybody else goes on.
    Reject,
    /// Stop the whole binding: credentials or configuration are wrong and a human is needed.
    Pause,
}

/// Why a unit did not get into the product, and what shall happen to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// What the hub shall do.
    pub disposition: Disposition,
    /// Stable reason in capitals, such as `UNMAPPABLE`.
    pub reason: String,
    /// The offending field; empty when there is none.
    pub field: String,
    /// What happened, without personal data.
    pub message: String,
}

impl Refusal {
    /// Refuses for now; the hub delivers again.
    pub fn retry(after: Duration, reason: &str, message: impl Into<String>) -> Self {
        Self::new(Disposition::Retry { after }, reason, "", message)
    }

    /// Refuses for good; the subject is parked.
    pub fn reject(reason: &str, field: &str, message: impl Into<String>) -> Self {
        Self::new(Disposition::Reject, reason, field, message)
    }

    /// Stops the binding.
    pub fn pause(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Disposition::Pause, reason, "", message)
    }

    fn new(
        disposition: Disposition,
        reason: &str,
        field: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            disposition,
            reason: reason.to_owned(),
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

/// How one unit ended, before it is tied to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Outcome.
    pub outcome: Outcome,
    /// Stable reason; empty when the outcome says it all.
    pub reason: String,
    /// The offending field; empty when there is none.
    pub field: String,
    /// What happened, without personal data.
    pub message: String,
    /// For a retry: the earliest time of the next attempt.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// The product took it over.
    pub fn applied() -> Self {
        Self::plain(Outcome::Applied, "")
    }

    /// The product had it already.
    pub fn duplicate() -> Self {
        Self::plain(Outcome::Duplicate, "")
    }

    /// The product holds a later version.
    pub fn superseded() -> Self {
        Self::plain(Outcome::Superseded, "")
    }

    /// The product has no use for it; `reason` is stable, such as `UNKNOWN_PERSON`.
    pub fn not_relevant(reason: &str) -> Self {
        Self::plain(Outcome::NotRelevant, reason)
    }

    /// It lies in the product's inbox for a clerk.
    pub fn pending_review(reason: &str) -> Self {
        Self::plain(Outcome::PendingReview, reason)
    }

    /// It was sent, and whether it took effect is not known.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::plain(Outcome::Unknown, reason)
        }
    }

    /// True when the hub need not deliver it again.
    pub fn is_done(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Applied
                | Outcome::Duplicate
                | Outcome::Superseded
                | Outcome::NotRelevant
                | Outcome::PendingReview
        )
    }

    fn plain(outcome: Outcome, reason: &str) -> Self {
        Self {
            outcome,
            reason: reason.to_owned(),
            field: String::new(),
            message: String::new(),
            retry_after: None,
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let (outcome, retry_after) = match refusal.disposition {
            Disposition::Retry { after } => (Outcome::Retry, Some(after)),
            Disposition::Reject => (Outcome::Rejected, None),
            Disposition::Pause => (Outcome::Pause, None),
        };
        Self {
            outcome,
            reason: refusal.reason,
            field: refusal.field,
            message: refusal.message,
            retry_after,
        }
    }
}

impl From<Result<Answer, Refusal>> for Answer {
    fn from(result: Result<Answer, Refusal>) -> Self {
        result.unwrap_or_else(Answer::from)
    }
}

/// Receipt of a delivery of one unit.
pub fn receipt(delivery: &Delivery, answer: impl Into<Answer>) -> Receipt {
    let answer = answer.into();
    Receipt {
        delivery_id: delivery.delivery_id.clone(),
        outcome: answer.outcome.into(),
        reason: answer.reason,
        field: answer.field,
        message: shortened(&answer.message),
        retry_after: answer.retry_after.and_then(|after| after.try_into().ok()),
        units: Vec::new(),
    }
}

/// Receipt of a delivery of any number of units, one answer a unit in the order of the delivery.
///
/// Each unit has an outcome, a reason and a delay of its own: in a batch of several subjects one
/// refused unit says nothing of the others. The receipt's own outcome is that of its first unit
/// that is not done, with its reason and delay, and `APPLIED` when all are done. Units that have no
/// answer, because a former one of their run failed, are answered as a retry: the hub delivers
/// them again, in order.
pub fn run_receipt(delivery: &Delivery, answers: Vec<Answer>) -> Receipt {
    let mut answers = answers.into_iter();
    if delivery.units.len() <= 1 {
        return receipt(delivery, answers.next().unwrap_or_else(not_reached));
    }
    let answers: Vec<Answer> = delivery
        .units
        .iter()
        .map(|_| answers.next().unwrap_or_else(not_reached))
        .collect();
    let first_open = answers.iter().find(|answer| !answer.is_done()).cloned();
    let mut whole = receipt(delivery, first_open.unwrap_or_else(Answer::applied));
    whole.units = delivery
        .units
        .iter()
        .zip(answers)
        .map(|(unit, answer)| unit_receipt(unit, answer))
        .collect();
    whole
}

/// The receipt of one unit among several.
pub(crate) fn unit_receipt(unit: &DeliveredUnit, answer: Answer) -> UnitReceipt {
    UnitReceipt {
        sequence: unit.sequence,
        outcome: answer.outcome.into(),
        reason: answer.reason,
        field: answer.field,
        message: shortened(&answer.message),
        stream: unit.stream,
        member: unit.member,
        retry_after: answer.retry_after.and_then(|after| after.try_into().ok()),
    }
}

fn not_reached() -> Answer {
    let after = Duration::ZERO;
    Refusal::retry(
        after,
        "NOT_REACHED",
        "a former unit of the run did not get through",
    )
    .into()
}

fn shortened(message: &str) -> String {
    message.chars().take(RECEIPT_MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(units: u64) -> Delivery {
        let units = (1..=units)
            .map(|sequence| DeliveredUnit {
                sequence,
                member: 2,
                ..DeliveredUnit::default()
            })
            .collect();
        Delivery {
            delivery_id: "d1".to_owned(),
            units,
            ..Delivery::default()
        }
    }

    #[test]
    fn a_refusal_becomes_the_outcome_of_its_disposition() {
        let after = Duration::from_secs(3);
        for (refusal, outcome, retry_after) in [
            (Refusal::retry(after, "BUSY", "x"), Outcome::Retry, Some(3)),
            (
                Refusal::reject("UNMAPPABLE", "name", "x"),
                Outcome::Rejected,
                None,
            ),
            (Refusal::pause("CREDENTIALS", "x"), Outcome::Pause, None),
        ] {
            let receipt = receipt(&delivery(1), refusal.clone());
            assert_eq!(receipt.outcome(), outcome);
            assert_eq!(
                (receipt.reason, receipt.field),
                (refusal.reason, refusal.field)
            );
            assert_eq!(receipt.retry_after.map(|after| after.seconds), retry_after);
        }
        let long = receipt(&delivery(1), Refusal::reject("X", "", "長".repeat(600)));
        assert_eq!(long.message.chars().count(), RECEIPT_MESSAGE_CHARS_MAX);
    }

    #[test]
    fn a_run_is_answered_unit_by_unit_and_the_rest_comes_again() {
        let refused = Refusal::reject("UNMAPPABLE", "name", "x").into();
        let receipt = run_receipt(&delivery(3), vec![Answer::applied(), refused]);
        assert_eq!(
            (receipt.outcome(), receipt.reason.as_str()),
            (Outcome::Rejected, "UNMAPPABLE")
        );
        let outcomes: Vec<Outcome> = receipt.units.iter().map(UnitReceipt::outcome).collect();
        assert_eq!(
            outcomes,
            [Outcome::Applied, Outcome::Rejected, Outcome::Retry]
        );
        let places: Vec<(u64, u32)> = receipt
            .units
            .iter()
            .map(|unit| (unit.sequence, unit.member))
            .collect();
        assert_eq!(places, [(1, 2), (2, 2), (3, 2)]);
        let done = run_receipt(&delivery(2), vec![Answer::applied(), Answer::superseded()]);
        assert_eq!(done.outcome(), Outcome::Applied);
        let one = run_receipt(&delivery(1), vec![Answer::duplicate()]);
        assert_eq!((one.outcome(), one.units.len()), (Outcome::Duplicate, 0));
    }
}

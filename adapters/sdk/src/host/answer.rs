//! Answers for an adapter what needs no adapter: withheld units, and a delivery that takes too long.
//! Between the session and `Deliver::deliver`.
//! It must never send a withheld unit on, nor call something that may have been sent a retry.
//! Read next: `../deliver.rs`.

use std::time::Duration;

use tokio::time::timeout;

use crate::deliver::Deliver;
use crate::hub::{DeliveredUnit, Delivery, Receipt, UnitReceipt};
use crate::limits::{ANSWER_TENTHS, ANSWER_WITHIN_DEFAULT};
use crate::receipt::{Answer, receipt, run_receipt, unit_receipt};
use crate::spec::Spec;

/// Delivers what is not withheld, within the time that the adapter named.
pub(crate) async fn deliver(adapter: &dyn Deliver, mut delivery: Delivery) -> Receipt {
    let (withheld, open): (Vec<DeliveredUnit>, Vec<DeliveredUnit>) =
        delivery.units.drain(..).partition(|unit| unit.withheld);
    if open.is_empty() && !withheld.is_empty() {
        let answers = withheld.iter().map(|_| not_granted()).collect();
        delivery.units = withheld;
        return run_receipt(&delivery, answers);
    }
    // Its units are the adapter's; the copy is for the answer.
    let asked = Delivery {
        units: open.iter().map(name_of).collect(),
        ..delivery.clone()
    };
    delivery.units = open;
    let answered = timeout(answer_limit(adapter.spec()), adapter.deliver(delivery)).await;
    let answered = answered.unwrap_or_else(|_| {
        let message = "no answer within nine tenths of `answer_within`";
        receipt(&asked, Answer::unknown("TIMED_OUT", message))
    });
    with_withheld(answered, &asked, &withheld)
}

fn answer_limit(spec: &Spec) -> Duration {
    let named = spec.capabilities.answer_within.as_ref();
    let within = named
        .and_then(|within| Duration::try_from(*within).ok())
        .filter(|within| !within.is_zero())
        .unwrap_or(ANSWER_WITHIN_DEFAULT);
    within * ANSWER_TENTHS / 10
}

fn not_granted() -> Answer {
    Answer::not_relevant("WITHHELD")
}

fn name_of(unit: &DeliveredUnit) -> DeliveredUnit {
    DeliveredUnit {
        sequence: unit.sequence,
        stream: unit.stream,
        member: unit.member,
        ..DeliveredUnit::default()
    }
}

/// Adds the withheld units; the receipt of the others is told unit by unit then.
fn with_withheld(mut answered: Receipt, asked: &Delivery, withheld: &[DeliveredUnit]) -> Receipt {
    if withheld.is_empty() {
        return answered;
    }
    if answered.units.is_empty() {
        let same = |unit: &DeliveredUnit| UnitReceipt {
            sequence: unit.sequence,
            outcome: answered.outcome,
            reason: answered.reason.clone(),
            field: answered.field.clone(),
            message: answered.message.clone(),
            stream: unit.stream,
            member: unit.member,
            retry_after: answered.retry_after,
        };
        answered.units = asked.units.iter().map(same).collect();
    }
    let theirs = withheld
        .iter()
        .map(|unit| unit_receipt(unit, not_granted()));
    answered.units.extend(theirs);
    answered
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::hub::{Capabilities, Outcome};
    use crate::receipt::Refusal;

    /// Refuses unit 1, applies the others; never answers when it is asked about nothing else.
    struct Picky(Spec);

    #[async_trait]
    impl Deliver for Picky {
        fn spec(&self) -> &Spec {
            &self.0
        }

        async fn deliver(&self, delivery: Delivery) -> Receipt {
            assert!(delivery.units.iter().all(|unit| !unit.withheld));
            if delivery.delivery_id == "never" {
                std::future::pending::<()>().await;
            }
            let answer = |unit: &DeliveredUnit| match unit.sequence {
                1 => Refusal::reject("UNMAPPABLE", "name", "x").into(),
                _ => Answer::applied(),
            };
            run_receipt(&delivery, delivery.units.iter().map(answer).collect())
        }
    }

    fn picky() -> Picky {
        let answer_within = Some(Duration::from_secs(100).try_into().unwrap());
        Picky(Spec {
            product: "p".to_owned(),
            system: "010".to_owned(),
            adapter_version: "1".to_owned(),
            capabilities: Capabilities {
                answer_within,
                ..Capabilities::default()
            },
            in_flight_max: 1,
        })
    }

    fn delivery(id: &str, units: &[(u64, bool)]) -> Delivery {
        let units = units.iter().map(|&(sequence, withheld)| DeliveredUnit {
            sequence,
            withheld,
            ..DeliveredUnit::default()
        });
        Delivery {
            delivery_id: id.to_owned(),
            units: units.collect(),
            ..Delivery::default()
        }
    }

    fn told(receipt: &Receipt) -> Vec<(u64, Outcome, &str)> {
        let units = receipt.units.iter();
        let mut told: Vec<_> = units
            .map(|unit| (unit.sequence, unit.outcome(), unit.reason.as_str()))
            .collect();
        told.sort_by_key(|(sequence, ..)| *sequence);
        told
    }

    #[tokio::test]
    async fn withheld_units_are_answered_without_the_adapter_and_the_others_by_it() {
        let alone = deliver(&picky(), delivery("d", &[(7, true)])).await;
        assert_eq!(
            (alone.outcome(), alone.reason.as_str()),
            (Outcome::NotRelevant, "WITHHELD")
        );
        let mixed = deliver(&picky(), delivery("d", &[(1, false), (2, true)])).await;
        assert_eq!(
            told(&mixed),
            [
                (1, Outcome::Rejected, "UNMAPPABLE"),
                (2, Outcome::NotRelevant, "WITHHELD")
            ]
        );
        let three = [(1, false), (2, true), (3, false)];
        let three = deliver(&picky(), delivery("d", &three)).await;
        assert_eq!(
            told(&three),
            [
                (1, Outcome::Rejected, "UNMAPPABLE"),
                (2, Outcome::NotRelevant, "WITHHELD"),
                (3, Outcome::Applied, "")
            ]
        );
    }

    #[tokio::test]
    async fn a_delivery_that_takes_too_long_is_unknown_before_the_hub_gives_it_up() {
        let mut hasty = picky();
        assert_eq!(answer_limit(&hasty.0), Duration::from_secs(90));
        hasty.0.capabilities.answer_within = Some(Duration::from_millis(20).try_into().unwrap());
        let receipt = deliver(&hasty, delivery("never", &[(1, false), (2, true)])).await;
        assert_eq!(
            told(&receipt),
            [
                (1, Outcome::Unknown, "TIMED_OUT"),
                (2, Outcome::NotRelevant, "WITHHELD")
            ]
        );
    }
}

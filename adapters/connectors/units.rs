//! What the deliveries of all products have in common.
//! Each `deliver.rs` begins here: the unit of a delivery, shadow deliveries, versions.
//! A shadow delivery must never reach the product.
//! Read next: `http.rs`.

use musubi_adapter_sdk::hub::{DeliveredUnit, Delivery, Mode};
use musubi_adapter_sdk::{Answer, Refusal, Translate};

/// The unit of a delivery and its request, for a product that takes one unit at a time. `Err` is
/// the answer when nothing is to be sent.
pub(crate) fn single<'a, T: Translate>(
    delivery: &'a Delivery,
    translator: &T,
) -> Result<(&'a DeliveredUnit, T::Request), Answer> {
    let [unit] = delivery.units.as_slice() else {
        let message = "the product takes one unit at a time";
        return Err(Refusal::reject("UNIT_SHAPE", "units", message).into());
    };
    Ok((unit, request(unit, delivery.mode(), translator)?))
}

/// The request of one unit among several. `Err` is its answer when nothing is to be sent.
pub(crate) fn request<T: Translate>(
    unit: &DeliveredUnit,
    mode: Mode,
    translator: &T,
) -> Result<T::Request, Answer> {
    let request = translator.translate(unit)?;
    if mode == Mode::Shadow {
        return Err(shadow());
    }
    Ok(request)
}

/// Puts answers to the places of the units that they were waited for; the others have theirs.
pub(crate) fn in_places<T>(
    steps: Vec<Result<T, Answer>>,
    sent: impl IntoIterator<Item = Answer>,
) -> Vec<Answer> {
    let mut sent = sent.into_iter();
    let missing = || Answer::unknown("UNPROMISED_ANSWER", "a unit has no answer of its own");
    let answer = |step: Result<T, Answer>| match step {
        Ok(_) => sent.next().unwrap_or_else(missing),
        Err(answer) => answer,
    };
    steps.into_iter().map(answer).collect()
}

/// The answer to a unit that the product must only be shown: it could be expressed.
pub(crate) fn shadow() -> Answer {
    Answer::not_relevant("SHADOW")
}

/// The answer when the product held a version already; `None` when it held an older one, which is
/// no reason to refuse.
pub(crate) fn not_newer(held: i64, sent: i64) -> Option<Answer> {
    match held.cmp(&sent) {
        std::cmp::Ordering::Greater => Some(Answer::superseded()),
        std::cmp::Ordering::Equal => Some(Answer::duplicate()),
        std::cmp::Ordering::Less => None,
    }
}

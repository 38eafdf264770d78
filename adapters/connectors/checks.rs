//! Checks that every vendor's translation makes before a value leaves.
//! They keep a number or key from becoming part of an address that was not meant.
//! They must never repair a value: what does not fit is refused with the field's name.
//! Read next: `dates.rs`.

use musubi_adapter_sdk::hub::{DeliveredEvent, DeliveredUnit};
use musubi_adapter_sdk::{Field, Refusal};

/// Reason of a value that the product has no form for.
pub(crate) const UNMAPPABLE: &str = "UNMAPPABLE";

/// Reason when a snapshot's header or trailer has nothing for a ledger of persons.
pub(crate) const NO_PERSON: &str = "NO_PERSON";

/// Reason when the product does not hold the person.
pub(crate) const UNKNOWN_PERSON: &str = "UNKNOWN_PERSON";

/// Refuses a value that the product has no form for.
pub(crate) fn unmappable(field: &str, message: &str) -> Refusal {
    Refusal::reject(UNMAPPABLE, field, message)
}

/// The one event of a unit, for a product that takes single events.
pub(crate) fn single_event(unit: &DeliveredUnit) -> Result<&DeliveredEvent, Refusal> {
    match unit.events.as_slice() {
        [event] => Ok(event),
        _ => Err(Refusal::reject(
            "UNIT_SHAPE",
            "events",
            "the product takes one event at a time",
        )),
    }
}

/// A number of 1 to 15 digits (宛名番号, 世帯番号).
pub(crate) fn number(value: String, field: &str) -> Result<String, Refusal> {
    let fits = (1..=15).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    fits.then_some(value)
        .ok_or_else(|| unmappable(field, "the product takes numbers of 1 to 15 digits"))
}

/// 宛名番号 of the event.
pub(crate) fn subject(value: &str) -> Result<String, Refusal> {
    number(value.to_owned(), "subject")
}

/// 支援措置番号: 1 to 40 letters, digits and hyphens.
pub(crate) fn measure(value: &str) -> Result<String, Refusal> {
    let plain = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (plain && (1..=40).contains(&value.len()))
        .then(|| value.to_owned())
        .ok_or_else(|| {
            unmappable(
                "measure_id",
                "the product takes measure numbers of 1 to 40 letters and digits",
            )
        })
}

/// Measures of a record, each one checked.
pub(crate) fn measures(values: &[String]) -> Result<Vec<String>, Refusal> {
    values.iter().map(|value| measure(value)).collect()
}

/// The unit's idempotency key, as the product's own key.
pub(crate) fn key(unit: &DeliveredUnit, chars_max: usize) -> Result<&str, Refusal> {
    let key = unit.idempotency_key.as_str();
    // Commas and quotes would have to be escaped in some products' journals.
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"');
    let printable = key.bytes().all(plain);
    (printable && (1..=chars_max).contains(&key.len()))
        .then_some(key)
        .ok_or_else(|| {
            Refusal::reject(
                "KEY_UNUSABLE",
                "idempotency_key",
                "the product cannot keep this key",
            )
        })
}

/// The new value of an item that the product cannot hold empty; `None` leaves it as it is.
pub(crate) fn never_empty<T>(field: Field<T>, path: &str) -> Result<Option<T>, Refusal> {
    match field {
        Field::Untouched => Ok(None),
        Field::Set(value) => Ok(Some(value)),
        Field::Clear => Err(unmappable(path, "the product cannot hold this item empty")),
    }
}

/// An empty text is an empty field.
pub(crate) fn text(field: Field<String>) -> Field<String> {
    match field {
        Field::Set(value) if value.is_empty() => Field::Clear,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_measures_and_keys_are_refused_when_they_could_change_an_address() {
        assert!(number("0001002872".to_owned(), "subject").is_ok());
        for bad in ["", "..", "1/2", "１２", "1234567890123456"] {
            assert_eq!(
                number(bad.to_owned(), "subject").unwrap_err().reason,
                UNMAPPABLE
            );
        }
        assert!(measure("S2026-00002").is_ok());
        for bad in ["", "..", "a/b", "a b", "措置"] {
            assert!(measure(bad).is_err(), "{bad}");
        }
        let unit = |key: &str| DeliveredUnit {
            idempotency_key: key.to_owned(),
            ..Default::default()
        };
        assert!(key(&unit("0198f0d2-8a5e"), 60).is_ok());
        for bad in ["", "a b", "a\r\nb", "鍵", "a,b"] {
            assert!(key(&unit(bad), 60).is_err(), "{bad:?}");
        }
        assert!(key(&unit(&"k".repeat(61)), 60).is_err());
    }
}

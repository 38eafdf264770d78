//! What an operator sets for a binding: how much, how fast, in which batches, and when.
//! Said in a control record, kept with the binding, obeyed by the runner's engine.
//! Must never be larger than the hub's own limits, nor name a product.
//! Read next: `settings/hours.rs`.

use serde::{Deserialize, Serialize};

use crate::limits::{
    BATCH_UNITS_MAX, CREDITS_MAX, DAYS_CLOSED_MAX, OPENING_WINDOWS_MAX, PER_SECOND_MAX,
};

pub mod hours;

use hours::{Days, Hours, Window};

/// Settings of a binding. A number that is 0 and a list that is empty limit nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BindingSettings {
    /// Most deliveries that wait for a receipt.
    pub concurrency: u32,
    /// Most deliveries a second.
    pub per_second: u32,
    /// Most units of one delivery, where the adapter takes batches.
    pub batch_units: u32,
    /// When the receiver is open, in Japan: `mon-fri 08:30-17:15`.
    pub hours: Vec<String>,
    /// Days on which it is closed, in Japan: `2027-01-01`.
    pub holidays: Vec<String>,
    /// Periods in which it is closed, first and last day: `2027-02-16..2027-03-15`.
    pub closed: Vec<String>,
}

/// A setting that is not well-formed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// Which.
    pub field: &'static str,
    /// What it must be.
    pub message: String,
}

impl BindingSettings {
    /// Checks every value and gives the opening hours that they mean.
    ///
    /// # Errors
    /// With the first field that is not well-formed.
    pub fn check(&self) -> Result<Hours, Invalid> {
        let batch_max = u32::try_from(BATCH_UNITS_MAX).unwrap_or(u32::MAX);
        at_most("settings.concurrency", self.concurrency, CREDITS_MAX)?;
        at_most("settings.per_second", self.per_second, PER_SECOND_MAX)?;
        at_most("settings.batch_units", self.batch_units, batch_max)?;
        let windows = each("settings.hours", &self.hours, Window::parse)?;
        let windows: Vec<Window> = windows.into_iter().flatten().collect();
        if windows.len() > OPENING_WINDOWS_MAX {
            return Err(too_many("settings.hours", OPENING_WINDOWS_MAX));
        }
        let mut closed = each("settings.holidays", &self.holidays, Days::day)?;
        closed.extend(each("settings.closed", &self.closed, Days::period)?);
        if closed.len() > DAYS_CLOSED_MAX {
            return Err(too_many("settings.holidays", DAYS_CLOSED_MAX));
        }
        Ok(Hours { windows, closed })
    }
}

fn at_most(field: &'static str, value: u32, most: u32) -> Result<(), Invalid> {
    if value <= most {
        return Ok(());
    }
    let message = format!("at most {most}; 0 sets no limit");
    Err(Invalid { field, message })
}

fn too_many(field: &'static str, most: usize) -> Invalid {
    let message = format!("at most {most} of them");
    Invalid { field, message }
}

fn each<T>(
    field: &'static str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, Invalid> {
    let parsed = texts.iter().map(|text| parse(text));
    parsed.collect::<Result<_, _>>().map_err(|message| Invalid {
        field,
        message: message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_beyond_its_limit_is_named_and_a_record_may_leave_everything_out() {
        let nothing: BindingSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(nothing, BindingSettings::default());
        assert_eq!(nothing.check().unwrap(), Hours::default());
        let list = |text: &str| vec![text.to_owned()];
        let base = BindingSettings::default();
        for (settings, field) in [
            (
                BindingSettings {
                    concurrency: CREDITS_MAX + 1,
                    ..base.clone()
                },
                "settings.concurrency",
            ),
            (
                BindingSettings {
                    per_second: PER_SECOND_MAX + 1,
                    ..base.clone()
                },
                "settings.per_second",
            ),
            (
                BindingSettings {
                    batch_units: 1_001,
                    ..base.clone()
                },
                "settings.batch_units",
            ),
            (
                BindingSettings {
                    hours: list("mo-fr 8-17"),
                    ..base.clone()
                },
                "settings.hours",
            ),
            (
                BindingSettings {
                    holidays: list("2027-02-29"),
                    ..base.clone()
                },
                "settings.holidays",
            ),
            (
                BindingSettings {
                    closed: list("2027-03-15..2027-02-16"),
                    ..base.clone()
                },
                "settings.closed",
            ),
            (
                BindingSettings {
                    holidays: vec!["2027-01-01".to_owned(); DAYS_CLOSED_MAX + 1],
                    ..base
                },
                "settings.holidays",
            ),
        ] {
            assert_eq!(settings.check().unwrap_err().field, field);
        }
    }
}

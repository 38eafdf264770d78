//! Flexible dates as products take them: a day that is held, and its wording.
//! Used by every vendor's translation; eras come from the rules of the contracts.
//! A stand-in day must never leave without the wording that says so.
//! Read next: a vendor's `translate.rs`.

use musubi_adapter_sdk::{Field, Refusal};
use musubi_proto::rules::{Day, date_value, to_wareki};
use musubi_proto::standard::common::v1::{DateKind, FlexibleDate};

use super::checks::unmappable;

/// Years that the products hold.
const YEARS: std::ops::RangeInclusive<u32> = 1868..=2100;

/// A date of a product: the day that is held, and the wording when the day is not known exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldDate {
    /// Day; it need not be in the calendar when there is a wording.
    pub(crate) day: Option<Day>,
    /// 不詳表記.
    pub(crate) wording: Option<String>,
}

impl HeldDate {
    /// Reads a date that has a place for its wording.
    pub(crate) fn read(date: &FlexibleDate, path: &str) -> Result<Self, Refusal> {
        let value = date_value(date);
        let day = if value.is_empty() {
            None
        } else {
            Some(day(&value, path)?)
        };
        let wording = (!date.notation.is_empty()).then(|| date.notation.clone());
        if wording.is_none() && (day.is_none() || date.is_unknown) {
            return Err(unmappable(path, "the date is unknown and has no wording"));
        }
        Ok(Self { day, wording })
    }

    /// Reads a date whose day the product always holds.
    pub(crate) fn with_day(date: &FlexibleDate, path: &str) -> Result<(Day, Self), Refusal> {
        let held = Self::read(date, path)?;
        let day = held
            .day
            .ok_or_else(|| unmappable(path, "the product needs a day"))?;
        Ok((day, held))
    }

    /// Reads a date that has no place for a wording.
    pub(crate) fn exact(date: &FlexibleDate, path: &str) -> Result<Day, Refusal> {
        let (day, held) = Self::with_day(date, path)?;
        if held.wording.is_some() || !day.is_calendar() {
            return Err(unmappable(
                path,
                "the product has no place for an unknown date",
            ));
        }
        Ok(day)
    }
}

/// The day and its wording of a field, each for its own column; an absent one is empty.
pub(crate) fn columns(
    field: Field<FlexibleDate>,
    path: &str,
) -> Result<(Field<Day>, Field<String>), Refusal> {
    Ok(match field {
        Field::Untouched => (Field::Untouched, Field::Untouched),
        Field::Clear => (Field::Clear, Field::Clear),
        Field::Set(date) => {
            let held = HeldDate::read(&date, path)?;
            (
                held.day.map_or(Field::Clear, Field::Set),
                held.wording.map_or(Field::Clear, Field::Set),
            )
        }
    })
}

/// True for a date without an end, such as a period of stay for ever.
pub(crate) fn is_open_end(date: &FlexibleDate) -> bool {
    date.kind() == DateKind::OpenEnd
}

/// `20260302`.
pub(crate) fn compact(day: Day) -> String {
    format!("{:04}{:02}{:02}", day.year, day.month, day.day)
}

/// `令和8-03-02`.
pub(crate) fn wareki_text(day: Day, path: &str) -> Result<String, Refusal> {
    let wareki = to_wareki(day).ok_or_else(|| no_era(path))?;
    Ok(format!(
        "{}{}-{:02}-{:02}",
        wareki.era.name, wareki.year, day.month, day.day
    ))
}

/// `5080302`: one digit for the era, two for each of year, month and day.
pub(crate) fn wareki_digits(day: Day, path: &str) -> Result<String, Refusal> {
    let wareki = to_wareki(day).ok_or_else(|| no_era(path))?;
    let era = "MTSHR"
        .find(wareki.era.letter)
        .ok_or_else(|| no_era(path))?;
    if wareki.year > 99 {
        return Err(no_era(path));
    }
    Ok(format!(
        "{}{:02}{:02}{:02}",
        era + 1,
        wareki.year,
        day.month,
        day.day
    ))
}

fn no_era(path: &str) -> Refusal {
    unmappable(path, "the product has no era for this day")
}

fn day(value: &str, path: &str) -> Result<Day, Refusal> {
    let day = Day::parse(value).ok().filter(|day| {
        YEARS.contains(&day.year) && (1..=12).contains(&day.month) && (1..=31).contains(&day.day)
    });
    day.ok_or_else(|| unmappable(path, "the product cannot hold this day"))
}

#[cfg(test)]
mod tests {
    use musubi_proto::rules::flexible_date;

    use super::*;

    fn date(value: &str, is_unknown: bool, notation: &str) -> FlexibleDate {
        flexible_date(value, is_unknown, notation).unwrap().unwrap()
    }

    #[test]
    fn a_stand_in_keeps_its_wording() {
        let held = HeldDate::read(&date("1946-02-29", true, "昭和２１年２月２９日"), "f").unwrap();
        assert_eq!(compact(held.day.unwrap()), "19460229");
        assert_eq!(held.wording.as_deref(), Some("昭和２１年２月２９日"));
        let nothing = HeldDate::read(&date("", true, "年月日不詳"), "f").unwrap();
        assert_eq!(nothing.day, None);
        assert!(HeldDate::with_day(&date("", true, "年月日不詳"), "f").is_err());
        assert!(HeldDate::exact(&date("1951-02-08", true, "昭和２６年２月上旬"), "f").is_err());
    }

    #[test]
    fn days_that_no_product_can_hold_are_refused() {
        for bad in ["0000-01-01", "9999-12-31"] {
            assert!(HeldDate::read(&date(bad, false, ""), "f").is_err(), "{bad}");
        }
        assert!(HeldDate::read(&date("1951-00-00", true, "昭和２６年"), "f").is_err());
    }

    #[test]
    fn days_are_written_in_the_era_of_the_day() {
        for (value, text, digits) in [
            ("1912-07-29", "明治45-07-29", "1450729"),
            ("1912-07-30", "大正1-07-30", "2010730"),
            ("1963-04-05", "昭和38-04-05", "3380405"),
            ("1989-01-07", "昭和64-01-07", "3640107"),
            ("1989-01-08", "平成1-01-08", "4010108"),
            ("2026-03-02", "令和8-03-02", "5080302"),
        ] {
            let day = HeldDate::exact(&date(value, false, ""), "f").unwrap();
            assert_eq!(wareki_text(day, "f").unwrap(), text);
            assert_eq!(wareki_digits(day, "f").unwrap(), digits);
        }
    }
}

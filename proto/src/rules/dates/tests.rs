use super::*;

fn parts(date: &FlexibleDate) -> (u32, u32, u32, DateKind) {
    (date.year, date.month, date.day, date.kind())
}

#[test]
fn nothing_given_is_no_date() {
    assert_eq!(flexible_date("", false, ""), Ok(None));
}

#[test]
fn days_and_open_ends_are_told_apart() {
    for (value, expected) in [
        ("2026-03-01", (2026, 3, 1, DateKind::Exact)),
        ("2024-02-29", (2024, 2, 29, DateKind::Exact)),
        ("2000-02-29", (2000, 2, 29, DateKind::Exact)),
        ("0000-01-01", (0, 0, 0, DateKind::OpenStart)),
        ("9999-12-31", (0, 0, 0, DateKind::OpenEnd)),
    ] {
        let date = flexible_date(value, false, "").unwrap().unwrap();
        assert_eq!(parts(&date), expected, "{value}");
        assert_eq!(date_value(&date), value);
        assert!(!date.is_unknown);
    }
}

#[test]
fn the_notation_of_an_unknown_day_says_what_is_known() {
    use DateKind::*;
    for (value, notation, expected, range_end) in [
        (
            "1946-02-29",
            "昭和２１年２月２９日",
            (1946, 2, 29, NonCalendar),
            "",
        ),
        ("1994-02-28", "平成６年頃", (1994, 0, 0, Approximate), ""),
        (
            "2019-05-01",
            "令和元年５月１日頃",
            (2019, 5, 1, Approximate),
            "",
        ),
        (
            "2020-05-27",
            "推定令和２年５月",
            (2020, 5, 0, Estimated),
            "",
        ),
        ("1951-02-08", "昭和２６年２月上旬", (1951, 2, 0, Season), ""),
        ("2026-02-26", "令和８年２月下旬頃", (2026, 2, 0, Season), ""),
        ("1951-04-01", "昭和２６年春", (1951, 0, 0, Season), ""),
        (
            "2002-03-23",
            "平成１４年　月日不詳",
            (2002, 0, 0, Partial),
            "",
        ),
        (
            "2002-03-01",
            "平成１４年３月　日不詳",
            (2002, 3, 0, Partial),
            "",
        ),
        ("1900-01-01", "年月日不詳", (0, 0, 0, Unknown), ""),
        ("", "不詳", (0, 0, 0, Unknown), ""),
        ("1946-00-00", "1946年", (1946, 0, 0, Partial), ""),
        (
            "2026-02-15",
            "令和８年１２月３０日から令和９年１月３日頃までの間",
            (2026, 12, 30, Range),
            "2027-01-03",
        ),
        (
            "2026-02-15",
            "令和８年２月推定１０日から１５日までの間",
            (2026, 2, 10, Range),
            "2026-02-15",
        ),
        (
            "2026-02-15",
            "令和８年２月２５日頃から３１日頃までの間",
            (2026, 2, 25, Range),
            "",
        ),
    ] {
        let date = flexible_date(value, true, notation).unwrap().unwrap();
        assert_eq!(parts(&date), expected, "{notation}");
        assert_eq!(date.range_end, range_end, "{notation}");
        assert_eq!(
            (date_value(&date), date.notation.as_str()),
            (value.into(), notation)
        );
        assert!(date.is_unknown);
    }
}

#[test]
fn wrong_items_are_refused_with_their_reason() {
    use FlexibleDateError::*;
    let long = "頃".repeat(NOTATION_CHARS_MAX + 1);
    for (value, is_unknown, notation, expected) in [
        ("2026/03/01", false, "", Format),
        ("2026-3-1", false, "", Format),
        ("20260301", false, "", Format),
        ("2026-03-01T00:00", false, "", Format),
        ("2026-03-0１", false, "", Format),
        ("+026-03-01", false, "", Format),
        ("2026-03-01-", false, "", Format),
        ("2026-02-29", false, "", NotInCalendar),
        ("1900-02-29", false, "", NotInCalendar),
        ("2026-04-31", false, "", NotInCalendar),
        ("2026-13-01", false, "", NotInCalendar),
        ("2026-00-00", false, "", NotInCalendar),
        ("0000-05-01", false, "", NotInCalendar),
        ("2026-03-01", true, "", UnknownWithoutNotation),
        ("2026-03-01", true, "　", UnknownWithoutNotation),
        ("", true, "", UnknownWithoutNotation),
        ("2026-13-01", true, "令和８年頃", Format),
        ("", false, "令和８年頃", NotationWithoutDate),
        ("2026-03-01", true, &long, NotationTooLong),
    ] {
        let result = flexible_date(value, is_unknown, notation);
        assert_eq!(result, Err(expected), "{value} {is_unknown} {notation}");
    }
}

#[test]
fn a_date_without_a_value_gives_its_known_day() {
    let day = |year, month, day, kind: DateKind| FlexibleDate {
        year,
        month,
        day,
        kind: kind.into(),
        ..FlexibleDate::default()
    };
    assert_eq!(date_value(&day(2026, 3, 1, DateKind::Exact)), "2026-03-01");
    assert_eq!(date_value(&day(0, 0, 0, DateKind::OpenEnd)), "9999-12-31");
    assert_eq!(date_value(&day(0, 0, 0, DateKind::OpenStart)), "0000-01-01");
    assert_eq!(date_value(&day(1994, 0, 0, DateKind::Approximate)), "");
}

//! Opening hours by the calendar of 2026 and 2027: 2026-11-23 is a Monday.

use super::*;
use crate::settings::BindingSettings;

/// A time in Japan, as milliseconds.
fn at(text: &str) -> i64 {
    let (day, clock) = text.split_once(' ').unwrap();
    let minute = day_number(day).unwrap() * DAY_MINUTES + time(clock).unwrap();
    (minute - JAPAN_MINUTES) * MINUTE_MS
}

fn hours(windows: &[&str], holidays: &[&str], closed: &[&str]) -> Hours {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let settings = BindingSettings {
        hours: list(windows),
        holidays: list(holidays),
        closed: list(closed),
        ..BindingSettings::default()
    };
    settings.check().unwrap()
}

/// At each time: is it open, and when does that change.
#[track_caller]
fn check(hours: &Hours, cases: &[(&str, bool, &str)]) {
    for (now, open, change) in cases {
        assert_eq!(hours.open_at(at(now)), *open, "{now}");
        assert_eq!(hours.next_change(at(now)), Some(at(change)), "{now}");
    }
}

#[test]
fn days_are_counted_from_1970_and_begin_at_midnight_in_japan() {
    for (day, number) in [
        ("1970-01-01", 0),
        ("1969-12-31", -1),
        ("2000-02-29", 11_016),
        ("2026-11-23", 20_780),
    ] {
        assert_eq!(day_number(day), Some(number), "{day}");
    }
    assert_eq!(day_number("2027-02-29"), None);
    // 2026-11-22T15:00:00Z is the first minute of Monday.
    assert_eq!(at("2026-11-23 00:00"), 1_795_359_600_000);
    assert_eq!(minute_of_week(minute(1_795_359_600_000)), 0);
}

#[test]
fn an_office_is_open_on_working_days_and_closed_at_night_and_on_weekends() {
    let office = hours(&["mon-fri 08:30-17:15"], &[], &[]);
    check(
        &office,
        &[
            ("2026-11-23 00:00", false, "2026-11-23 08:30"),
            ("2026-11-23 08:29", false, "2026-11-23 08:30"),
            ("2026-11-23 08:30", true, "2026-11-23 17:15"),
            ("2026-11-23 17:14", true, "2026-11-23 17:15"),
            ("2026-11-23 17:15", false, "2026-11-24 08:30"),
            ("2026-11-27 17:15", false, "2026-11-30 08:30"),
            ("2026-11-29 12:00", false, "2026-11-30 08:30"),
        ],
    );
    // Inside a minute too.
    assert!(!office.open_at(at("2026-11-23 08:30") - 1));
    assert_eq!(
        office.next_change(at("2026-11-23 08:30") - 1),
        Some(at("2026-11-23 08:30"))
    );
}

#[test]
fn holidays_and_closed_periods_close_whole_days_whatever_the_windows_say() {
    let office = hours(
        &["mon-fri 08:30-17:15"],
        &["2026-11-23", "2027-01-01"],
        &["2026-12-29..2027-01-03"],
    );
    check(
        &office,
        &[
            ("2026-11-22 12:00", false, "2026-11-24 08:30"),
            ("2026-11-23 12:00", false, "2026-11-24 08:30"),
            ("2026-12-28 17:15", false, "2027-01-04 08:30"),
        ],
    );
    let always = hours(&[], &[], &["2027-02-16..2027-03-15"]);
    check(
        &always,
        &[
            ("2026-11-23 12:00", true, "2027-02-16 00:00"),
            ("2027-02-16 00:00", false, "2027-03-16 00:00"),
            ("2027-03-15 23:59", false, "2027-03-16 00:00"),
        ],
    );
    assert_eq!(always.next_change(at("2027-03-16 00:00")), None);
}

#[test]
fn a_window_may_run_over_midnight_over_days_and_over_the_end_of_the_week() {
    let night = hours(&["daily 22:00-05:00"], &["2026-11-25"], &[]);
    check(
        &night,
        &[
            ("2026-11-23 21:59", false, "2026-11-23 22:00"),
            ("2026-11-23 23:59", true, "2026-11-24 05:00"),
            ("2026-11-24 22:00", true, "2026-11-25 00:00"),
            ("2026-11-25 23:00", false, "2026-11-26 00:00"),
            ("2026-11-26 00:00", true, "2026-11-26 05:00"),
        ],
    );
    let weekend = hours(&["fri 18:00-mon 08:00"], &[], &[]);
    check(
        &weekend,
        &[
            ("2026-11-27 17:59", false, "2026-11-27 18:00"),
            ("2026-11-29 23:59", true, "2026-11-30 08:00"),
            ("2026-11-30 08:00", false, "2026-12-04 18:00"),
        ],
    );
    let over = hours(&["sat-mon 20:00-24:00"], &[], &[]);
    check(
        &over,
        &[
            ("2026-11-23 20:00", true, "2026-11-24 00:00"),
            ("2026-11-24 00:00", false, "2026-11-28 20:00"),
            ("2026-11-29 20:00", true, "2026-11-30 00:00"),
        ],
    );
}

#[test]
fn windows_that_touch_are_one_and_one_that_ends_where_it_begins_is_a_whole_day() {
    let split = hours(&["mon 08:00-12:00", "mon 12:00-17:00"], &[], &[]);
    check(&split, &[("2026-11-23 09:00", true, "2026-11-23 17:00")]);
    let whole = hours(&["mon-tue 00:00-24:00"], &[], &[]);
    check(&whole, &[("2026-11-23 09:00", true, "2026-11-25 00:00")]);
    let daily = hours(&["daily 00:00-00:00"], &[], &[]);
    assert_eq!(daily.next_change(at("2026-11-23 09:00")), None);
    assert!(daily.open_at(at("2026-11-23 00:00")));
    assert_eq!(Hours::default().next_change(0), None);
    assert!(Hours::default().open_at(0));
}

#[test]
fn what_is_no_window_no_day_and_no_period_is_refused() {
    for text in [
        "",
        "mon",
        "mon 8:30-17:15",
        "mon 08:30",
        "mon 08:30-25:00",
        "mon 08:60-09:00",
        "Mon 08:30-17:15",
        "mon-fr 08:30-17:15",
        "mon 08:30-mon 08:30",
        "mon 08:30-17:15 x y",
    ] {
        assert!(Window::parse(text).is_err(), "{text}");
    }
    for text in ["", "2027-1-1", "2027-02-29", "2027-01-01..2027-01-02"] {
        assert!(Days::day(text).is_err(), "{text}");
    }
    for text in ["", "2027-01-01", "2027-01-02..2027-01-01", "a..b"] {
        assert!(Days::period(text).is_err(), "{text}");
    }
}

#[test]
fn at_every_change_and_only_there_it_is_the_other_way_round() {
    let busy = hours(
        &[
            "mon-fri 08:30-12:00",
            "wed 13:00-19:30",
            "sat 22:00-mon 02:00",
        ],
        &["2026-12-23", "2027-01-11"],
        &["2026-12-29..2027-01-03"],
    );
    let (mut now, end) = (at("2026-12-01 00:00"), at("2027-02-01 00:00"));
    while let Some(change) = busy.next_change(now).filter(|change| *change < end) {
        let before = busy.open_at(now);
        let mut minutes = (now..change).step_by(MINUTE_MS as usize);
        assert!(minutes.all(|ms| busy.open_at(ms) == before));
        assert_ne!(busy.open_at(change), before);
        now = change;
    }
    assert!(now > at("2027-01-29 00:00"));
}

//! Tests of the comparer: the town folds to its own truth, and a planted difference is found.

use std::collections::BTreeSet;
use std::path::Path;

use super::ayame::Ayame;
use super::characters::Characters;
use super::fact::{Fact, column_of};
use super::fold::{Town, fold};
use super::grants::Grants;
use super::hinoki::{Hinoki, parse_ledger, read_journal};
use super::kaede::Kaede;
use super::momiji::Momiji;
use super::*;

fn town_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/town"))
}

fn town() -> Town {
    Town::read(town_folder()).unwrap()
}

fn truth(system: &str, product: &dyn Product) -> Truth {
    fold(&town(), &Grants::of(system).unwrap(), product)
}

/// The state that a product without a fault would show.
fn shown(product: &dyn Product, truth: &Truth) -> State {
    let shown = |person: &Person| Shown {
        version: person.version_last,
        fields: flatten(&product.expected(person).unwrap()),
    };
    let held = truth.persons.iter().filter(|(_, person)| !person.waits);
    held.map(|(number, person)| (number.clone(), shown(person)))
        .collect()
}

fn waiting(truth: &Truth) -> BTreeSet<String> {
    let waits = truth.persons.iter().filter(|(_, person)| person.waits);
    waits.map(|(number, _)| number.clone()).collect()
}

fn products() -> Vec<(&'static str, Box<dyn Product>)> {
    vec![
        ("010", Box::new(Kaede)),
        ("024", Box::new(Momiji)),
        ("026", Box::new(Ayame)),
        ("026", Box::new(Hinoki::new().unwrap())),
    ]
}

#[test]
fn a_product_without_a_fault_is_equal_for_everybody() {
    for (system, product) in products() {
        let truth = truth(system, product.as_ref());
        let state = shown(product.as_ref(), &truth);
        let comparison = compare(system, product.as_ref(), &truth, &state, &waiting(&truth));
        assert!(comparison.holds(), "{system}: {:?}", comparison.differences);
        assert!(comparison.total > 1_000);
    }
}

#[test]
fn each_planted_cell_is_found_with_its_person_and_field() {
    let town = town();
    for (system, product) in products() {
        let mut truth = fold(&town, &Grants::of(system).unwrap(), product.as_ref());
        // A slice is enough: the others are compared one by one in the same way.
        let beyond = truth.persons.keys().nth(40).unwrap().clone();
        truth.persons.split_off(&beyond);
        let state = shown(product.as_ref(), &truth);
        let waits = waiting(&truth);
        let number = state.keys().nth(state.len() / 2).unwrap().clone();
        for field in state[&number].fields.keys() {
            let mut wrong = state.clone();
            let cells = &mut wrong.get_mut(&number).unwrap().fields;
            cells.insert(field.clone(), "\"planted\"".to_owned());
            let comparison = compare(system, product.as_ref(), &truth, &wrong, &waits);
            assert!(!comparison.holds());
            assert_eq!(comparison.differences.len(), 1);
            assert_eq!(comparison.differences[0].person, number);
            assert_eq!(
                comparison.differences[0].fields,
                std::slice::from_ref(field)
            );
        }
    }
}

#[test]
fn a_missing_an_unexpected_and_an_old_person_are_found() {
    let truth = truth("010", &Kaede);
    let mut state = shown(&Kaede, &truth);
    let (first, shown) = state.pop_first().unwrap();
    state.insert("9".to_owned(), shown);
    let (second, _) = state.first_key_value().unwrap();
    let second = second.clone();
    state.get_mut(&second).unwrap().version += 1;
    let comparison = compare("010", &Kaede, &truth, &state, &BTreeSet::new());
    let found: Vec<(&str, &str)> = comparison
        .differences
        .iter()
        .map(|difference| (difference.person.as_str(), difference.fields[0].as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (first.as_str(), "(is missing)"),
            (second.as_str(), "(version)"),
            ("9", "(is held and must not be)"),
        ]
    );
}

#[test]
fn a_person_who_waits_without_need_or_does_not_wait_is_found() {
    let hinoki = Hinoki::new().unwrap();
    let truth = truth("026", &hinoki);
    let state = shown(&hinoki, &truth);
    let mut waits = waiting(&truth);
    let rightly = waits.pop_first().unwrap();
    let wrongly = state.first_key_value().unwrap().0.clone();
    waits.insert(wrongly.clone());
    let comparison = compare("026", &hinoki, &truth, &state, &waits);
    let found: BTreeSet<&str> = comparison
        .differences
        .iter()
        .map(|difference| difference.person.as_str())
        .collect();
    assert_eq!(found, BTreeSet::from([rightly.as_str(), wrongly.as_str()]));
}

#[test]
fn what_insurance_is_granted_in_full_ends_as_the_register_does() {
    let truth = truth("024", &Momiji);
    let path = town_folder().join("residents_after.csv");
    let after = table::read_persons(&path).unwrap();
    for row in &after {
        let person = &truth.persons[row.person()];
        for fact in [
            Fact::Name,
            Fact::Birth,
            Fact::Town,
            Fact::Building,
            Fact::State,
        ] {
            let column = row.get(column_of(fact).unwrap());
            assert_eq!(
                person.get(fact).unwrap_or(""),
                column,
                "{} {fact:?}",
                row.person()
            );
        }
    }
}

#[test]
fn tax_and_pension_do_not_hold_who_was_born_in_between() {
    let born: Vec<String> = town()
        .happenings
        .iter()
        .filter(|happening| happening.event == "ResidentBorn")
        .map(|happening| happening.row.person().to_owned())
        .collect();
    assert!(!born.is_empty());
    let (tax, insurance) = (truth("010", &Kaede), truth("024", &Momiji));
    assert!(born.iter().all(|number| !tax.persons.contains_key(number)));
    assert!(
        born.iter()
            .all(|number| insurance.persons.contains_key(number))
    );
}

#[test]
fn an_era_begins_on_its_day() {
    let day = |date| {
        let day = dates::era_day(date).unwrap();
        format!("{}{}-{:02}-{:02}", day.era, day.year, day.month, day.day)
    };
    assert_eq!(day("2019-04-30"), "平成31-04-30");
    assert_eq!(day("2019-05-01"), "令和1-05-01");
    assert_eq!(day("1926-12-24"), "大正15-12-24");
    assert_eq!(day("1946-02-29"), "昭和21-02-29");
    assert!(dates::era_day("1868-01-24").is_err());
    assert!(dates::era_day("").is_err());
}

#[test]
fn text_takes_its_slot_its_substitution_or_none() {
    let characters = Characters::built_in().unwrap();
    assert_eq!(characters.wide("𠮷田"), Some(vec![0xf0, 0x40, 0x93, 0x63]));
    assert_eq!(characters.wide("葛\u{e0100}"), Some(vec![0xf0, 0x41]));
    assert_eq!(characters.wide("カ\u{3099}"), characters.wide("ガ"));
    assert_eq!(characters.wide("\u{2212}"), characters.wide("\u{ff0d}"));
    assert_eq!(characters.wide("髙"), Some(vec![0xfb, 0xfc]));
    assert_eq!(characters.wide("\u{10_0000}"), None);
    assert_eq!(characters.wide("\u{e000}"), None);
    assert_eq!(characters.wide("¥"), None);
    assert_eq!(
        characters.narrow("ヨシダ　アイ"),
        Some(b"\xd6\xbc\xc0\xde \xb1\xb2".to_vec())
    );
    assert_eq!(characters.narrow("ＡＢ－"), Some(b"AB-".to_vec()));
    assert_eq!(characters.narrow("漢"), None);
}

#[test]
fn the_ledger_is_read_byte_for_byte() {
    let record = b"0001,4,,\x8b\x67,,,1,3380405,,0,,,,,,,,,0,,\r\n";
    let state = parse_ledger(record).unwrap();
    assert_eq!(state["0001"].version, 4);
    assert_eq!(state["0001"].fields["氏名"], "\"8b67\"");
    assert!(parse_ledger(b"0001,4\r\n").is_err());
}

#[test]
fn a_journal_record_without_its_end_is_not_complete() {
    let folder = tempfile::tempdir().unwrap();
    let text = "1,key,0001,4,NK1.csv,1\r\n2,key,0002,5,NK1.csv,2\r\n3,key,0003,1";
    std::fs::write(folder.path().join("journal.csv"), text).unwrap();
    let journal = read_journal(folder.path()).unwrap();
    assert_eq!(journal, [("0001".to_owned(), 4), ("0002".to_owned(), 5)]);
}

#[test]
fn a_path_covers_what_stands_below_it_and_nothing_beside() {
    let grants = Grants::parse("event,granted\na.b.Moved,record.address; record.name\n").unwrap();
    assert!(grants.covers("Moved", "record.address"));
    assert!(grants.covers("Moved", "record.address.town"));
    assert!(!grants.covers("Moved", "record.address_since"));
    assert!(!grants.covers("Died", "record.address"));
    assert!(grants.concerns("Moved", &["address.town"]));
    assert!(!grants.concerns("Moved", &["family_register"]));
}

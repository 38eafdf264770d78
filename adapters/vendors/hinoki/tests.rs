//! What is written for Hinoki, and what its results come to: against the stand-in product.

mod files;
mod night;

use musubi_adapter_sdk::hub::DeliveredEvent;
use musubi_adapter_sdk::{Refusal, Translate};
use musubi_proto::standard::common::v1::{ForeignCategory, ResidentRecord};

use super::Config;
use super::answer::{self, Outcome};
use super::translate::{NO_PROTECTION_FLAG, Request, Translator};
use crate::connectors::testing::{
    WHOLE_RECORD, corrected, date, measure_ended, measure_started, moved_in, moved_out, of_person,
    protected, record, snapshot_header, told, unit,
};

fn translate(event: DeliveredEvent) -> Result<Request, Refusal> {
    let translator = Translator::new(Config::new("x").characters().unwrap());
    translator.translate(&unit("k", 1, vec![event]))
}

/// The columns of a record from 処理区分 on; user-defined codes are shown as 〓.
fn columns(event: DeliveredEvent) -> String {
    let Request::Record(row) = translate(event).unwrap() else {
        panic!("no record")
    };
    let columns = row.columns(1, "k");
    let text = |column: &Vec<u8>| {
        let (text, broken) = encoding_rs::SHIFT_JIS.decode_without_bom_handling(column);
        assert!(!broken);
        text.replace(|c| ('\u{e000}'..='\u{e757}').contains(&c), "〓")
    };
    columns
        .iter()
        .skip(2)
        .map(text)
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn a_whole_record_becomes_a_registration() {
    let event = of_person(&moved_in(protected(record(), &["S1"])), WHOLE_RECORD);
    let expected = "10,0001002880,4,1111111111111211122,ﾖｼﾀﾞ ｱｲ,〓田　愛,ﾐﾎﾝ ｱｲ,見本　愛,2,3210229,\
        昭和２１年２月２９日,1,2480031,神奈川県鎌倉市,鎌倉山三丁目２０番１８号,海岸荘　１０４,\
        5080224,,0001002872,15100829,0,,";
    assert_eq!(columns(event), expected);
}

#[test]
fn what_is_not_granted_is_masked_out_and_what_is_absent_is_cleared() {
    assert_eq!(
        columns(of_person(&corrected(record()), &[])),
        format!("20,0001002880,4,{}{}", "0".repeat(19), ",".repeat(19))
    );
    let paths = ["record.name", "record.address", "record.foreign"];
    assert_eq!(
        columns(of_person(&corrected(ResidentRecord::default()), &paths)),
        format!("20,0001002880,4,2200000022220002000{}", ",".repeat(19))
    );
    let out = of_person(
        &moved_out(record()),
        &["record.resident_state", "deleted_on"],
    );
    assert_eq!(
        columns(out),
        format!(
            "30,0001002880,4,0000000000000000112{}1,5080309,",
            ",".repeat(17)
        )
    );
}

#[test]
fn a_stay_is_told_whole_or_not_at_all() {
    let stay = |record: ResidentRecord, paths: &[&str]| {
        let columns = columns(of_person(&corrected(record), paths));
        columns.split(',').nth(19).unwrap().to_owned()
    };
    assert_eq!(stay(record(), &["record.foreign.category"]), "");
    assert_eq!(stay(record(), &["record.foreign.period_expires_on"]), "");
    let mut forever = record();
    let foreign = forever.foreign.as_mut().unwrap();
    foreign.period_expires_on = date("9999-12-31", "");
    foreign.set_category(ForeignCategory::SpecialPermanent);
    assert_eq!(stay(forever.clone(), &["record.foreign"]), "29999999");
    forever.foreign.as_mut().unwrap().period_expires_on = None;
    assert_eq!(stay(forever, &["record.foreign"]), "20000000");
}

#[test]
fn text_without_agreed_form_is_refused_with_its_field() {
    let with = |change: fn(&mut ResidentRecord)| {
        let mut record = record();
        change(&mut record);
        translate(of_person(&corrected(record), WHOLE_RECORD)).unwrap_err()
    };
    for (refusal, field) in [
        (
            with(|r| r.name.as_mut().unwrap().full_name = "𠀋".to_owned()),
            "record.name.full_name",
        ),
        (
            with(|r| r.name.as_mut().unwrap().full_name = "AB".to_owned()),
            "record.name.full_name",
        ),
        (
            with(|r| r.name.as_mut().unwrap().furigana = "漢".to_owned()),
            "record.name.furigana",
        ),
        (
            with(|r| r.alias.as_mut().unwrap().tsusho = "葛\u{e0101}".to_owned()),
            "record.alias.tsusho",
        ),
        (
            with(|r| r.address.as_mut().unwrap().lot = "−".repeat(200)),
            "record.address.town",
        ),
        (
            with(|r| r.address.as_mut().unwrap().building = "\u{10de92}".to_owned()),
            "record.address.building",
        ),
        (with(|r| r.birth_on = None), "record.birth_on"),
    ] {
        assert_eq!(
            (refusal.reason.as_str(), refusal.field.as_str()),
            ("UNMAPPABLE", field)
        );
    }
}

#[test]
fn measures_and_headers_are_not_for_hinoki() {
    for payload in [measure_started(1), measure_ended(2)] {
        let request = translate(of_person(&payload, &["measure_id"])).unwrap();
        assert_eq!(request, Request::Nothing(NO_PROTECTION_FLAG));
    }
    assert!(matches!(
        translate(snapshot_header()).unwrap(),
        Request::Nothing(_)
    ));
}

#[test]
fn each_result_code_has_its_outcome() {
    let result = |code: &str, column: &str, held: Option<i64>| Outcome::Result {
        code: code.to_owned(),
        column: column.to_owned(),
        held,
    };
    for (outcome, expected) in [
        (result("00", "", Some(4)), "APPLIED"),
        (result("01", "", Some(4)), "DUPLICATE"),
        (result("02", "", Some(9)), "SUPERSEDED"),
        (result("02", "", Some(4)), "DUPLICATE"),
        (result("02", "", None), "UNKNOWN UNPROMISED_ANSWER"),
        (result("03", "", None), "NOT_RELEVANT UNKNOWN_PERSON"),
        (result("05", "", None), "RETRY NOT_REACHED"),
        (result("10", "8", None), "REJECTED CHARACTER 氏名"),
        (result("13", "12", None), "REJECTED DATE 生年月日"),
        (result("15", "", None), "REJECTED FORM"),
        (result("90", "", None), "RETRY FILE_NAME_USED"),
        (result("91", "", None), "RETRY FILE_DAMAGED"),
        (result("92", "", None), "PAUSE CONFIGURATION"),
        (result("", "", None), "UNKNOWN UNPROMISED_ANSWER"),
        (result("7x", "", None), "UNKNOWN UNPROMISED_ANSWER"),
        (Outcome::NotWritten, "RETRY EXCHANGE_FOLDER"),
        (Outcome::Unreadable, "UNKNOWN RESULT_UNREADABLE"),
    ] {
        let answer = answer::read(&outcome, 4);
        let receipt = musubi_adapter_sdk::receipt(&Default::default(), answer);
        assert_eq!(told(&receipt), expected, "{outcome:?}");
    }
}

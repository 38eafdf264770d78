//! Turns a delivered event into Ayame's own change: merge patches, date objects, whole addresses.
//! Pure: `deliver.rs` sends what comes out of here.
//! It must never name a property that was not granted: absent means "untouched" at Ayame.
//! Read next: `deliver.rs`.

use musubi_adapter_sdk::hub::DeliveredUnit;
use musubi_adapter_sdk::person::State;
use musubi_adapter_sdk::{Field, PersonChange, Protection, Refusal, Translate, person_change};
use musubi_proto::standard::common::v1::{
    Address, FlexibleDate, ForeignCategory, Gender, ResidentState, ResidentType,
};
use serde_json::Value;

use crate::connectors::checks::{self, never_empty, unmappable};
use crate::connectors::dates::{HeldDate, is_open_end};
use crate::connectors::json::Object;

/// A request of Ayame's interface, without the change's id.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// There is nothing for Ayame in the event.
    Nothing,
    /// §1: a change of a person.
    Change {
        /// 宛名番号.
        person: String,
        /// 履歴番号 after the change.
        version: u32,
        /// Body.
        body: Object,
    },
    /// §6: one support measure.
    Measure {
        /// 宛名番号.
        person: String,
        /// Measure.
        measure: String,
        /// Version of the measure.
        version: u32,
        /// Body.
        body: Object,
    },
}

/// The translation to Ayame's interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Translator;

impl Translate for Translator {
    type Request = Request;

    fn translate(&self, unit: &DeliveredUnit) -> Result<Request, Refusal> {
        let Some(change) = person_change(checks::single_event(unit)?)? else {
            return Ok(Request::Nothing);
        };
        let person = checks::subject(&change.atenabango)?;
        match &change.protection {
            Protection::InForce {
                measure_id,
                measure_version,
                ..
            } => measure(person, measure_id, *measure_version, false),
            Protection::Ended {
                measure_id,
                measure_version,
            } => measure(person, measure_id, *measure_version, true),
            Protection::Untouched | Protection::Seen { .. } => {
                let version = change.version;
                Ok(Request::Change {
                    person,
                    version,
                    body: body(change)?,
                })
            }
        }
    }
}

fn measure(
    person: String,
    measure_id: &str,
    version: u32,
    ended: bool,
) -> Result<Request, Refusal> {
    let mut body = Object::default();
    body.put("version", version);
    body.put("ended", ended);
    Ok(Request::Measure {
        person,
        measure: checks::measure(measure_id)?,
        version,
        body,
    })
}

fn body(change: PersonChange) -> Result<Object, Refusal> {
    let mut body = Object::default();
    body.put("kind", if change.creates { "register" } else { "amend" });
    if let Protection::Seen { measure_ids } = &change.protection {
        body.put("confidentialSeen", checks::measures(measure_ids)?);
    }
    body.field(
        "address",
        address(change.address.clone(), change.address_since.clone())?,
    );
    let set = set(change)?;
    if !set.is_empty() {
        body.put("set", set);
    }
    Ok(body)
}

fn set(change: PersonChange) -> Result<Object, Refusal> {
    let mut set = Object::default();
    let full = change.name.map(|name| name.full_name);
    put_members(
        &mut set,
        "name",
        pair(["full", "reading"], full, change.kana),
    );
    let alias = change.alias.clone().map(|alias| alias.tsusho);
    let reading = change.alias.map(|alias| alias.tsusho_furigana);
    put_members(&mut set, "alias", pair(["full", "reading"], alias, reading));
    if let Some(birth_on) = never_empty(change.birth_on, "record.birth_on")? {
        set.put("birth", date(&birth_on, "record.birth_on")?);
    }
    if let Some(gender) = never_empty(change.gender, "record.gender")? {
        set.put("sex", gender_code(gender)?);
    }
    if let Some(kind) = never_empty(change.resident_type, "record.resident_type")? {
        set.put("nationalityClass", kind_code(kind)?);
    }
    let head = change
        .head
        .try_map(|head| checks::number(head, "record.head"))?;
    set.field("headOfHousehold", head);
    let expires = change
        .foreign
        .period_expires_on
        .try_map(|date| expires(&date))?;
    let category = change.foreign.category.try_map(category_code)?;
    let category = category.map(str::to_owned);
    put_members(
        &mut set,
        "stay",
        pair(["category", "expires"], category, expires),
    );
    if let Some(state) = never_empty(change.state, "record.resident_state")? {
        set.put("residence", residence(state)?);
    }
    Ok(set)
}

/// An object with two members, where untouched ones are left out.
fn pair(names: [&str; 2], first: Field<String>, second: Field<String>) -> Object {
    let mut object = Object::default();
    object.text(names[0], first);
    object.text(names[1], second);
    object
}

/// An object whose members are all empty is empty itself; one without members is untouched.
fn put_members(set: &mut Object, name: &str, members: Object) {
    if members.is_all_null() && members.len() == 2 {
        set.put(name, Value::Null);
    } else if !members.is_empty() {
        set.put(name, members);
    }
}

fn residence(state: State) -> Result<Object, Refusal> {
    let mut residence = Object::default();
    residence.put("status", state_code(state.state)?);
    let on = state
        .on
        .try_map(|on| date(&on, "record.deletion.deleted_on"))?;
    residence.field("on", on);
    Ok(residence)
}

/// The current address is always whole: a day alone, without the parts, cannot be told.
fn address(address: Field<Address>, since: Field<FlexibleDate>) -> Result<Field<Object>, Refusal> {
    let since = since.try_map(|since| date(&since, "record.address_since"))?;
    Ok(address.map(|address| {
        let Address {
            prefecture,
            municipality_name,
            town,
            lot,
            building,
            postal_code,
            ..
        } = address;
        let mut object = Object::default();
        object.field("from", since);
        for (name, value) in [
            ("prefecture", prefecture),
            ("city", municipality_name),
            ("town", town),
            ("lot", lot),
            ("building", building.replace("\r\n", "\n")),
            ("postalCode", postal_code),
        ] {
            object.text(name, Field::Set(value));
        }
        object
    }))
}

fn date(date: &FlexibleDate, path: &str) -> Result<Object, Refusal> {
    let (day, held) = HeldDate::with_day(date, path)?;
    let mut object = Object::default();
    object.put("date", day.to_string());
    if let Some(wording) = held.wording {
        object.put("wording", wording);
    }
    Ok(object)
}

fn expires(date: &FlexibleDate) -> Result<String, Refusal> {
    if is_open_end(date) {
        return Ok("indefinite".to_owned());
    }
    HeldDate::exact(date, "record.foreign.period_expires_on").map(|day| day.to_string())
}

fn gender_code(gender: Gender) -> Result<&'static str, Refusal> {
    match gender {
        Gender::Male => Ok("male"),
        Gender::Female => Ok("female"),
        Gender::NotStated => Ok("unknown"),
        Gender::Unspecified => Err(unmappable("record.gender", "Ayame has no such sex")),
    }
}

fn kind_code(kind: ResidentType) -> Result<&'static str, Refusal> {
    match kind {
        ResidentType::Japanese => Ok("japanese"),
        ResidentType::Foreign => Ok("foreign"),
        ResidentType::NonResident | ResidentType::Unspecified => Err(unmappable(
            "record.resident_type",
            "Ayame has no such class",
        )),
    }
}

fn state_code(state: ResidentState) -> Result<&'static str, Refusal> {
    match state {
        ResidentState::Resident | ResidentState::ScheduledOut => Ok("resident"),
        ResidentState::MovedOut => Ok("moved_out"),
        ResidentState::Died => Ok("deceased"),
        ResidentState::Deleted => Ok("removed"),
        ResidentState::Unspecified => Err(unmappable(
            "record.resident_state",
            "Ayame has no such status",
        )),
    }
}

fn category_code(category: ForeignCategory) -> Result<&'static str, Refusal> {
    match category {
        ForeignCategory::MidToLongTerm => Ok("mid_to_long_term"),
        ForeignCategory::SpecialPermanent => Ok("special_permanent"),
        ForeignCategory::TemporaryRefuge => Ok("temporary_refuge"),
        ForeignCategory::ProvisionalStay => Ok("provisional_stay"),
        ForeignCategory::TransitionalBirth => Ok("transitional_birth"),
        ForeignCategory::TransitionalNationalityLoss => Ok("transitional_nationality_loss"),
        ForeignCategory::Unspecified => Err(unmappable(
            "record.foreign.category",
            "Ayame has no such category",
        )),
    }
}

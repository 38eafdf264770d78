//! Turns a delivered event into Kaede's own request: 和暦, one-line addresses, its codes.
//! Pure: `deliver.rs` sends what comes out of here.
//! It must never name an item that was not granted: absent means "leave as it is" at Kaede.
//! Read next: `deliver.rs`.

use musubi_adapter_sdk::hub::DeliveredUnit;
use musubi_adapter_sdk::person::State;
use musubi_adapter_sdk::{Field, PersonChange, Protection, Refusal, Translate, person_change};
use musubi_proto::standard::common::v1::{
    Address, FlexibleDate, Gender, ResidentState, ResidentType,
};

use crate::connectors::checks::{self, never_empty, unmappable};
use crate::connectors::dates::{HeldDate, columns, wareki_text};
use crate::connectors::json::Object;

/// A request of Kaede's interface.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// There is nothing for Kaede in the event.
    Nothing,
    /// §1: a person.
    Person {
        /// 宛名番号.
        person: String,
        /// 登録 instead of 更新.
        creates: bool,
        /// 履歴番号.
        version: u32,
        /// Body.
        body: Object,
    },
    /// §3: one support measure.
    Measure {
        /// 宛名番号.
        person: String,
        /// 措置番号.
        measure: String,
        /// 版.
        version: u32,
        /// 終了.
        ended: bool,
    },
}

/// The translation to Kaede's interface.
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
            } => {
                let (measure, version) = (checks::measure(measure_id)?, *measure_version);
                Ok(Request::Measure {
                    person,
                    measure,
                    version,
                    ended: false,
                })
            }
            Protection::Ended {
                measure_id,
                measure_version,
            } => {
                let (measure, version) = (checks::measure(measure_id)?, *measure_version);
                Ok(Request::Measure {
                    person,
                    measure,
                    version,
                    ended: true,
                })
            }
            Protection::Untouched | Protection::Seen { .. } => {
                let (creates, version) = (change.creates, change.version);
                Ok(Request::Person {
                    person,
                    creates,
                    version,
                    body: body(change)?,
                })
            }
        }
    }
}

fn body(change: PersonChange) -> Result<Object, Refusal> {
    let mut body = Object::default();
    body.put("rireki", change.version);
    body.text("shimei", change.name.map(|name| name.full_name));
    body.text("shimeiKana", change.kana);
    body.text("tsusho", change.alias.clone().map(|alias| alias.tsusho));
    body.text(
        "tsushoKana",
        change.alias.map(|alias| alias.tsusho_furigana),
    );
    birth(&mut body, change.birth_on)?;
    if let Some(gender) = never_empty(change.gender, "record.gender")? {
        body.put("seibetsu", gender_code(gender)?);
    }
    if let Some(kind) = never_empty(change.resident_type, "record.resident_type")? {
        body.put("kubun", kind_code(kind)?);
    }
    body.text(
        "jusho",
        change.address.clone().map(|address| one_line(&address)),
    );
    body.text("yubin", change.address.map(|address| address.postal_code));
    date(
        &mut body,
        ["jushoSadame", "jushoSadameFusho"],
        change.address_since,
        "record.address_since",
    )?;
    body.field("setai", numbered(change.household, "record.household")?);
    body.field("setainushi", numbered(change.head, "record.head")?);
    body.text(
        "zokugara",
        change.relationship.map(|relationship| relationship.text),
    );
    if let Some(state) = never_empty(change.state, "record.resident_state")? {
        put_state(&mut body, state)?;
    }
    if let Protection::Seen { measure_ids } = &change.protection {
        body.put("hogoTsuika", checks::measures(measure_ids)?);
    }
    Ok(body)
}

/// 生年月日: Kaede always holds a day of birth.
fn birth(body: &mut Object, birth_on: Field<FlexibleDate>) -> Result<(), Refusal> {
    const PATH: &str = "record.birth_on";
    if let Some(birth_on) = never_empty(birth_on, PATH)? {
        let (day, held) = HeldDate::with_day(&birth_on, PATH)?;
        body.put("umare", wareki_text(day, PATH)?);
        body.put("umareFusho", held.wording);
    }
    Ok(())
}

fn date(
    body: &mut Object,
    items: [&str; 2],
    field: Field<FlexibleDate>,
    path: &str,
) -> Result<(), Refusal> {
    let (day, wording) = columns(field, path)?;
    body.field(items[0], day.try_map(|day| wareki_text(day, path))?);
    body.field(items[1], wording);
    Ok(())
}

fn numbered(field: Field<String>, path: &str) -> Result<Field<String>, Refusal> {
    field.try_map(|value| checks::number(value, path))
}

fn put_state(body: &mut Object, state: State) -> Result<(), Refusal> {
    body.put("jotai", state_code(state.state)?);
    date(
        body,
        ["jotaiHi", "jotaiHiFusho"],
        state.on,
        "record.deletion.deleted_on",
    )
}

/// 都道府県, 市区郡町村, 町字 and 番地号 run together; then a full-width space and the 方書.
fn one_line(address: &Address) -> String {
    let Address {
        prefecture,
        municipality_name,
        town,
        lot,
        building,
        ..
    } = address;
    let mut line = format!("{prefecture}{municipality_name}{town}{lot}");
    if !building.is_empty() {
        line.push('　');
        line.push_str(&building.replace("\r\n", "　").replace('\n', "　"));
    }
    line
}

fn gender_code(gender: Gender) -> Result<&'static str, Refusal> {
    match gender {
        Gender::Male => Ok("M"),
        Gender::Female => Ok("F"),
        Gender::NotStated => Ok("X"),
        Gender::Unspecified => Err(unmappable("record.gender", "Kaede has no such 性別")),
    }
}

fn kind_code(kind: ResidentType) -> Result<&'static str, Refusal> {
    match kind {
        ResidentType::Japanese => Ok("N"),
        ResidentType::Foreign => Ok("G"),
        ResidentType::NonResident | ResidentType::Unspecified => Err(unmappable(
            "record.resident_type",
            "Kaede has no such 住民区分",
        )),
    }
}

fn state_code(state: ResidentState) -> Result<&'static str, Refusal> {
    match state {
        ResidentState::Resident | ResidentState::ScheduledOut => Ok("ZAIJU"),
        ResidentState::MovedOut => Ok("TENSHUTSU"),
        ResidentState::Died => Ok("SHIBO"),
        ResidentState::Deleted => Ok("SHOJO"),
        ResidentState::Unspecified => Err(unmappable(
            "record.resident_state",
            "Kaede has no such 状態",
        )),
    }
}

//! Turns a delivered event into a record of Hinoki's request file: CP932, 和暦 digits, masks.
//! Pure: `batch.rs` collects what comes out of here.
//! It must never write a text without agreed form, nor mask a column that was not granted.
//! Read next: `row.rs`.

use musubi_adapter_sdk::hub::DeliveredUnit;
use musubi_adapter_sdk::person::{ForeignItems, State};
use musubi_adapter_sdk::{Field, PersonChange, Protection, Refusal, Translate, person_change};
use musubi_proto::standard::common::v1::{
    Address, FlexibleDate, ForeignCategory, Gender, ResidentState, ResidentType,
};

use super::row::{Cell, Row};
use crate::connectors::checks::{self, NO_PERSON, UNMAPPABLE, never_empty, unmappable};
use crate::connectors::cp932::Cp932;
use crate::connectors::dates::{HeldDate, columns, is_open_end, wareki_digits};

/// A request to Hinoki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// There is nothing for Hinoki in the event, for this reason.
    Nothing(&'static str),
    /// One record.
    Record(Row),
}

/// Reason when Hinoki has no place for a support measure.
pub(super) const NO_PROTECTION_FLAG: &str = "NO_PROTECTION_FLAG";

/// The translation to Hinoki's interface.
#[derive(Debug)]
pub(super) struct Translator {
    characters: Cp932,
}

impl Translate for Translator {
    type Request = Request;

    fn translate(&self, unit: &DeliveredUnit) -> Result<Request, Refusal> {
        let Some(change) = person_change(checks::single_event(unit)?)? else {
            return Ok(Request::Nothing(NO_PERSON));
        };
        // Measures inside a record are left out as well: the hub withholds the address instead.
        if matches!(
            change.protection,
            Protection::InForce { .. } | Protection::Ended { .. }
        ) {
            return Ok(Request::Nothing(NO_PROTECTION_FLAG));
        }
        Ok(Request::Record(self.record(change)?))
    }
}

/// A text column: number, granted path, longest value in bytes.
type Column = (usize, &'static str, usize);

const NAME: Column = (8, "record.name.full_name", 200);
const NAME_KANA: Column = (7, "record.name.furigana", 200);
const ALIAS: Column = (10, "record.alias.tsusho", 200);
const ALIAS_KANA: Column = (9, "record.alias.tsusho_furigana", 200);
const BIRTH_WORDING: Column = (13, "record.birth_on", 144);
const ADDRESS_1: Column = (16, "record.address.municipality_name", 64);
const ADDRESS_2: Column = (17, "record.address.town", 340);
const ADDRESS_3: Column = (18, "record.address.building", 600);
const SINCE_WORDING: Column = (20, "record.address_since", 144);
const STATE_WORDING: Column = (25, "record.deletion.deleted_on", 144);

impl Translator {
    pub(super) fn new(characters: Cp932) -> Self {
        Self { characters }
    }

    fn record(&self, change: PersonChange) -> Result<Row, Refusal> {
        let person = checks::subject(&change.atenabango)?;
        let mut row = Row::new(person, change.version, change.creates);
        self.wide(&mut row, NAME, change.name.map(|name| name.full_name))?;
        self.kana(&mut row, NAME_KANA, change.kana)?;
        self.wide(
            &mut row,
            ALIAS,
            change.alias.clone().map(|alias| alias.tsusho),
        )?;
        self.kana(
            &mut row,
            ALIAS_KANA,
            change.alias.map(|alias| alias.tsusho_furigana),
        )?;
        self.birth(&mut row, change.birth_on)?;
        if let Some(gender) = never_empty(change.gender, "record.gender")? {
            row.put(11, code(gender_code(gender)?));
        }
        if let Some(kind) = never_empty(change.resident_type, "record.resident_type")? {
            row.put(14, code(kind_code(kind)?));
        }
        self.address(&mut row, &change.address)?;
        self.date(&mut row, 19, SINCE_WORDING, change.address_since)?;
        let head = change
            .head
            .try_map(|head| checks::number(head, "record.head"))?;
        row.put(21, ascii(head));
        row.put(22, stay(change.foreign)?);
        if let Some(state) = never_empty(change.state, "record.resident_state")? {
            self.state(&mut row, state)?;
        }
        Ok(row)
    }

    fn birth(&self, row: &mut Row, birth_on: Field<FlexibleDate>) -> Result<(), Refusal> {
        let path = BIRTH_WORDING.1;
        if let Some(birth_on) = never_empty(birth_on, path)? {
            let (day, held) = HeldDate::with_day(&birth_on, path)?;
            row.put(12, code(&wareki_digits(day, path)?));
            self.wide(
                row,
                BIRTH_WORDING,
                held.wording.map_or(Field::Clear, Field::Set),
            )?;
        }
        Ok(())
    }

    fn state(&self, row: &mut Row, State { state, on }: State) -> Result<(), Refusal> {
        row.put(23, code(state_code(state)?));
        self.date(row, 24, STATE_WORDING, on)
    }

    fn address(&self, row: &mut Row, address: &Field<Address>) -> Result<(), Refusal> {
        let line = |read: fn(&Address) -> String| address.clone().map(|address| read(&address));
        let postal_code = line(|address| address.postal_code.clone());
        let digits = postal_code
            .value()
            .is_none_or(|code| code.bytes().all(|b| b.is_ascii_digit()));
        if !digits {
            return Err(unmappable(
                "record.address.postal_code",
                "Hinoki takes seven digits",
            ));
        }
        row.put(15, ascii(postal_code));
        let first = line(|address| format!("{}{}", address.prefecture, address.municipality_name));
        self.mixed(row, ADDRESS_1, first)?;
        self.mixed(
            row,
            ADDRESS_2,
            line(|address| format!("{}{}", address.town, address.lot)),
        )?;
        self.mixed(row, ADDRESS_3, line(|address| address.building.clone()))
    }

    fn date(
        &self,
        row: &mut Row,
        column: usize,
        wording: Column,
        field: Field<FlexibleDate>,
    ) -> Result<(), Refusal> {
        let (day, worded) = columns(field, wording.1)?;
        row.put(
            column,
            ascii(day.try_map(|day| wareki_digits(day, wording.1))?),
        );
        self.wide(row, wording, worded)
    }

    fn wide(&self, row: &mut Row, column: Column, field: Field<String>) -> Result<(), Refusal> {
        let encoded = field.try_map(|text| self.characters.full_width(&text));
        put_text(row, column, encoded.map_err(|_| no_form(column.1))?)
    }

    fn mixed(&self, row: &mut Row, column: Column, field: Field<String>) -> Result<(), Refusal> {
        let encoded = field.try_map(|text| self.characters.mixed(&text));
        put_text(row, column, encoded.map_err(|_| no_form(column.1))?)
    }

    fn kana(&self, row: &mut Row, column: Column, field: Field<String>) -> Result<(), Refusal> {
        let encoded = field.try_map(|text| self.characters.half_width(&text));
        put_text(row, column, encoded.map_err(|_| no_form(column.1))?)
    }
}

fn no_form(path: &str) -> Refusal {
    Refusal::reject(
        UNMAPPABLE,
        path,
        "the text holds a character without agreed form",
    )
}

fn put_text(
    row: &mut Row,
    (column, path, bytes_max): Column,
    encoded: Field<Vec<u8>>,
) -> Result<(), Refusal> {
    if encoded.value().is_some_and(|value| value.len() > bytes_max) {
        let message = format!("Hinoki holds {bytes_max} bytes of CP932 here");
        return Err(Refusal::reject(UNMAPPABLE, path, message));
    }
    row.put(column, cell(encoded));
    Ok(())
}

fn cell(field: Field<Vec<u8>>) -> Cell {
    match field {
        Field::Untouched => Cell::Untouched,
        Field::Clear => Cell::Clear,
        Field::Set(value) => Cell::Set(value),
    }
}

fn ascii(field: Field<String>) -> Cell {
    cell(field.map(String::into_bytes))
}

fn code(code: &str) -> Cell {
    Cell::Set(code.as_bytes().to_vec())
}

/// 在留情報 is one column of two items: it is told only where both are granted.
fn stay(foreign: ForeignItems) -> Result<Cell, Refusal> {
    const PATH: &str = "record.foreign.period_expires_on";
    let expires = match foreign.period_expires_on {
        Field::Untouched => return Ok(Cell::Untouched),
        Field::Clear => "0000000".to_owned(),
        Field::Set(date) if is_open_end(&date) => "9999999".to_owned(),
        Field::Set(date) => wareki_digits(HeldDate::exact(&date, PATH)?, PATH)?,
    };
    match foreign.category {
        Field::Untouched => Ok(Cell::Untouched),
        Field::Clear if expires == "0000000" => Ok(Cell::Clear),
        Field::Clear => Err(unmappable(
            PATH,
            "Hinoki has no place for a period without 区分",
        )),
        Field::Set(category) => Ok(code(&format!("{}{expires}", category_code(category)?))),
    }
}

fn gender_code(gender: Gender) -> Result<&'static str, Refusal> {
    match gender {
        Gender::Male => Ok("1"),
        Gender::Female => Ok("2"),
        Gender::NotStated => Ok("0"),
        Gender::Unspecified => Err(unmappable("record.gender", "Hinoki has no such 性別")),
    }
}

fn kind_code(kind: ResidentType) -> Result<&'static str, Refusal> {
    match kind {
        ResidentType::Japanese => Ok("0"),
        ResidentType::Foreign => Ok("1"),
        ResidentType::NonResident | ResidentType::Unspecified => Err(unmappable(
            "record.resident_type",
            "Hinoki has no such 国籍区分",
        )),
    }
}

fn state_code(state: ResidentState) -> Result<&'static str, Refusal> {
    match state {
        ResidentState::Resident | ResidentState::ScheduledOut => Ok("0"),
        ResidentState::MovedOut => Ok("1"),
        ResidentState::Died => Ok("2"),
        ResidentState::Deleted => Ok("3"),
        ResidentState::Unspecified => Err(unmappable(
            "record.resident_state",
            "Hinoki has no such 状態",
        )),
    }
}

fn category_code(category: ForeignCategory) -> Result<&'static str, Refusal> {
    match category {
        ForeignCategory::MidToLongTerm => Ok("1"),
        ForeignCategory::SpecialPermanent => Ok("2"),
        ForeignCategory::TemporaryRefuge => Ok("3"),
        ForeignCategory::ProvisionalStay => Ok("4"),
        ForeignCategory::TransitionalBirth => Ok("5"),
        ForeignCategory::TransitionalNationalityLoss => Ok("6"),
        ForeignCategory::Unspecified => Err(unmappable(
            "record.foreign.category",
            "Hinoki has no such 区分",
        )),
    }
}

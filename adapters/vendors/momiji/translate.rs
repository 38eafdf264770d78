//! Turns a delivered 届出 into Momiji's member rows (明細): one row a person.
//! Pure: `tables.rs` writes what comes out of here.
//! It must never name a column that was not granted: an unnamed one stays as it is at Momiji.
//! Read next: `tables.rs`.

use std::collections::BTreeMap;

use musubi_adapter_sdk::hub::{DeliveredEvent, DeliveredUnit};
use musubi_adapter_sdk::person::State;
use musubi_adapter_sdk::{Field, PersonChange, Protection, Refusal, Translate, person_change};
use musubi_proto::standard::common::v1::{
    Address, FlexibleDate, ForeignCategory, Gender, ResidentState, ResidentType, StatusOfResidence,
};

use crate::connectors::checks::{self, never_empty, unmappable};
use crate::connectors::dates::{HeldDate, columns, compact, is_open_end};
use crate::connectors::names;

/// Members that one unit may have.
const MEMBERS_MAX: usize = 1_000;

/// 処理.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Registers an unknown person.
    Register,
    /// Changes a known person.
    Change,
    /// A support measure.
    Protect,
}

impl Action {
    /// Value of `shori`.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Register => "TOROKU",
            Self::Change => "HENKO",
            Self::Protect => "HOGO",
        }
    }
}

/// A support measure (§3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measure {
    /// 措置番号.
    pub(super) number: String,
    /// 版.
    pub(super) version: u32,
    /// 終了.
    pub(super) ended: bool,
}

/// One row of `if_setaiin_meisai`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// 処理.
    pub(super) action: Action,
    /// 宛名番号.
    pub(super) person: String,
    /// 履歴番号.
    pub(super) version: u32,
    /// Named columns (更新項目) with their new values; `None` clears.
    pub(super) items: BTreeMap<&'static str, Option<String>>,
    /// Measure of a `HOGO` row.
    pub(super) measure: Option<Measure>,
    /// 措置の追加.
    pub(super) seen: Vec<String>,
}

impl Member {
    /// The version that Momiji compares: of the record, or of the measure.
    pub(super) fn compared_version(&self) -> u32 {
        self.measure
            .as_ref()
            .map_or(self.version, |measure| measure.version)
    }
}

/// The translation to Momiji's interface; no member means that there is nothing for Momiji.
#[derive(Debug, Clone, Copy)]
pub(super) struct Translator;

impl Translate for Translator {
    type Request = Vec<Member>;

    fn translate(&self, unit: &DeliveredUnit) -> Result<Vec<Member>, Refusal> {
        let mut members = Vec::with_capacity(unit.events.len());
        for event in &unit.events {
            members.extend(member(event)?);
        }
        if members.len() > MEMBERS_MAX {
            let message = "the product takes 1000 members of a unit at most";
            return Err(Refusal::reject("TOO_LARGE", "events", message));
        }
        Ok(members)
    }
}

fn member(event: &DeliveredEvent) -> Result<Option<Member>, Refusal> {
    let Some(change) = person_change(event)? else {
        return Ok(None);
    };
    let mut member = Member {
        action: if change.creates {
            Action::Register
        } else {
            Action::Change
        },
        person: checks::subject(&change.atenabango)?,
        version: change.version,
        items: BTreeMap::new(),
        measure: None,
        seen: Vec::new(),
    };
    match &change.protection {
        Protection::Untouched => {}
        Protection::Seen { measure_ids } => member.seen = checks::measures(measure_ids)?,
        Protection::InForce {
            measure_id,
            measure_version,
            ..
        } => {
            return protect(member, measure_id, *measure_version, false).map(Some);
        }
        Protection::Ended {
            measure_id,
            measure_version,
        } => {
            return protect(member, measure_id, *measure_version, true).map(Some);
        }
    }
    let mut items = Items::default();
    items.person(&change)?;
    items.household(&change)?;
    items.place(&change)?;
    items.foreign(change)?;
    member.items = items.0;
    Ok(Some(member))
}

fn protect(member: Member, number: &str, version: u32, ended: bool) -> Result<Member, Refusal> {
    let measure = Measure {
        number: checks::measure(number)?,
        version,
        ended,
    };
    Ok(Member {
        action: Action::Protect,
        measure: Some(measure),
        ..member
    })
}

/// Named columns that are being collected.
#[derive(Debug, Default)]
struct Items(BTreeMap<&'static str, Option<String>>);

impl Items {
    fn text(&mut self, column: &'static str, field: Field<String>) {
        if let Some(value) = checks::text(field).into_option() {
            self.0.insert(column, value);
        }
    }

    fn code(&mut self, column: &'static str, code: &str) {
        self.0.insert(column, Some(code.to_owned()));
    }

    fn date(
        &mut self,
        [day, wording]: [&'static str; 2],
        field: Field<FlexibleDate>,
        path: &str,
    ) -> Result<(), Refusal> {
        let (held, worded) = columns(field, path)?;
        self.text(day, held.map(compact));
        self.text(wording, worded);
        Ok(())
    }

    fn number(
        &mut self,
        column: &'static str,
        field: &Field<String>,
        path: &str,
    ) -> Result<(), Refusal> {
        let field = field.clone().try_map(|value| checks::number(value, path))?;
        self.text(column, field);
        Ok(())
    }

    fn person(&mut self, change: &PersonChange) -> Result<(), Refusal> {
        self.text("shimei", change.name.clone().map(|name| name.full_name));
        self.text("shimei_kana", change.kana.clone());
        self.text("tsusho", change.alias.clone().map(|alias| alias.tsusho));
        self.text(
            "tsusho_kana",
            change.alias.clone().map(|alias| alias.tsusho_furigana),
        );
        if let Some(birth_on) = never_empty(change.birth_on.clone(), "record.birth_on")? {
            let (day, held) = HeldDate::with_day(&birth_on, "record.birth_on")?;
            self.0.insert("umare_ymd", Some(compact(day)));
            self.0.insert("umare_fusho", held.wording);
        }
        if let Some(gender) = never_empty(change.gender.clone(), "record.gender")? {
            self.code("seibetsu", gender_code(gender)?);
        }
        if let Some(kind) = never_empty(change.resident_type.clone(), "record.resident_type")? {
            self.code("jumin_kbn", kind_code(kind)?);
        }
        if let Some(state) = never_empty(change.state.clone(), "record.resident_state")? {
            self.state(state)?;
        }
        Ok(())
    }

    fn state(&mut self, State { state, on }: State) -> Result<(), Refusal> {
        self.code("jotai_kbn", state_code(state)?);
        self.date(
            ["jotai_ymd", "jotai_fusho"],
            on,
            "record.deletion.deleted_on",
        )
    }

    fn household(&mut self, change: &PersonChange) -> Result<(), Refusal> {
        self.number("setai_no", &change.household, "record.household")?;
        self.number("nushi_no", &change.head, "record.head")?;
        if let Some(unset) = change.head_unset.value() {
            self.code("nushi_misettei", if *unset { "1" } else { "0" });
        }
        self.text(
            "zokugara",
            change
                .relationship
                .clone()
                .map(|relationship| relationship.text),
        );
        Ok(())
    }

    fn place(&mut self, change: &PersonChange) -> Result<(), Refusal> {
        let part = |read: fn(Address) -> String| change.address.clone().map(read);
        self.text("ken", part(|address| address.prefecture));
        self.text("shi", part(|address| address.municipality_name));
        self.text("machi", part(|address| address.town));
        self.text("banchi", part(|address| address.lot));
        self.text(
            "katagaki",
            part(|address| address.building.replace("\r\n", "\n")),
        );
        self.text("machi_cd", part(|address| address.machiaza_id));
        self.text("yubin_no", part(|address| address.postal_code));
        let since = change.address_since.clone();
        self.date(["jutei_ymd", "jutei_fusho"], since, "record.address_since")?;
        let resident_since = change.became_resident_on.clone();
        self.date(
            ["jumin_ymd", "jumin_fusho"],
            resident_since,
            "record.became_resident_on",
        )
    }

    fn foreign(&mut self, change: PersonChange) -> Result<(), Refusal> {
        let foreign = change.foreign;
        let category = foreign.category.try_map(category_code)?;
        self.text("gaikoku_kbn", category.map(str::to_owned));
        self.text(
            "zairyu_shikaku",
            foreign.status_of_residence.try_map(status_name)?,
        );
        self.text("zairyu_kikan", foreign.period_of_stay);
        self.text(
            "zairyu_manryo",
            foreign.period_expires_on.try_map(|date| expires(&date))?,
        );
        let since = foreign.became_foreign_resident_on.try_map(|date| {
            HeldDate::exact(&date, "record.foreign.became_foreign_resident_on").map(compact)
        })?;
        self.text("gaikoku_jumin_ymd", since);
        Ok(())
    }
}

fn expires(date: &FlexibleDate) -> Result<String, Refusal> {
    if is_open_end(date) {
        return Ok("99999999".to_owned());
    }
    HeldDate::exact(date, "record.foreign.period_expires_on").map(compact)
}

fn status_name(status: StatusOfResidence) -> Result<String, Refusal> {
    names::status_of_residence(status).ok_or_else(|| {
        unmappable(
            "record.foreign.status_of_residence",
            "the status has no name",
        )
    })
}

fn gender_code(gender: Gender) -> Result<&'static str, Refusal> {
    match gender {
        Gender::Male => Ok("1"),
        Gender::Female => Ok("2"),
        Gender::NotStated => Ok("9"),
        Gender::Unspecified => Err(unmappable("record.gender", "Momiji has no such 性別")),
    }
}

fn kind_code(kind: ResidentType) -> Result<&'static str, Refusal> {
    match kind {
        ResidentType::Japanese => Ok("01"),
        ResidentType::Foreign => Ok("02"),
        ResidentType::NonResident | ResidentType::Unspecified => Err(unmappable(
            "record.resident_type",
            "Momiji has no such 住民種別",
        )),
    }
}

fn state_code(state: ResidentState) -> Result<&'static str, Refusal> {
    match state {
        ResidentState::Resident | ResidentState::ScheduledOut => Ok("10"),
        ResidentState::MovedOut => Ok("20"),
        ResidentState::Died => Ok("30"),
        ResidentState::Deleted => Ok("90"),
        ResidentState::Unspecified => Err(unmappable(
            "record.resident_state",
            "Momiji has no such 状態",
        )),
    }
}

fn category_code(category: ForeignCategory) -> Result<&'static str, Refusal> {
    match category {
        ForeignCategory::MidToLongTerm => Ok("G1"),
        ForeignCategory::SpecialPermanent => Ok("G2"),
        ForeignCategory::TemporaryRefuge => Ok("G3"),
        ForeignCategory::ProvisionalStay => Ok("G4"),
        ForeignCategory::TransitionalBirth => Ok("G5"),
        ForeignCategory::TransitionalNationalityLoss => Ok("G6"),
        ForeignCategory::Unspecified => Err(unmappable(
            "record.foreign.category",
            "Momiji has no such 区分",
        )),
    }
}

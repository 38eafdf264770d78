//! A delivered event as a neutral change of one person: what every receiver's adapter maps from.
//! It reads the payload through the granted paths, so that an adapter only maps fields.
//! It must never turn a path that was not granted into an empty field.
//! Read next: `person/protection.rs`, then an adapter's `translate.rs`.

mod protection;
mod state;
#[cfg(test)]
mod tests;

use musubi_proto::standard::common::v1::{
    Address, AliasName, FlexibleDate, ForeignCategory, FormerName, Gender, PersonName,
    RedactionKind, Relationship, ResidentRecord, ResidentType, SnapshotPart, StatusOfResidence,
};

use crate::granted::Granted;
use crate::hub::DeliveredEvent;
use crate::payload::{Payload, decode_payload, envelope};
use crate::receipt::Refusal;

pub use protection::Protection;
pub use state::State;

/// What happens to one field of the product.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Field<T> {
    /// Not granted or not told: leave it as it is.
    #[default]
    Untouched,
    /// Granted and absent: it is empty now.
    Clear,
    /// Granted and present.
    Set(T),
}

impl<T> Field<T> {
    /// The new value, when there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Untouched | Self::Clear => None,
        }
    }

    /// True when the field must be left as it is.
    pub fn is_untouched(&self) -> bool {
        matches!(self, Self::Untouched)
    }

    /// Maps the new value.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Untouched => Field::Untouched,
            Self::Clear => Field::Clear,
            Self::Set(value) => Field::Set(map(value)),
        }
    }

    /// Maps the new value, where that may fail.
    pub fn try_map<U, E>(self, map: impl FnOnce(T) -> Result<U, E>) -> Result<Field<U>, E> {
        Ok(match self {
            Self::Untouched => Field::Untouched,
            Self::Clear => Field::Clear,
            Self::Set(value) => Field::Set(map(value)?),
        })
    }

    /// `None` for untouched, `Some(None)` for empty, `Some(Some(value))` for a new value.
    pub fn into_option(self) -> Option<Option<T>> {
        match self {
            Self::Untouched => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }

    /// A granted field that is absent is empty; one that is not granted is untouched.
    fn granted(granted: bool, value: Option<T>) -> Self {
        match (granted, value) {
            (false, _) => Self::Untouched,
            (true, None) => Self::Clear,
            (true, Some(value)) => Self::Set(value),
        }
    }
}

/// Items of a foreign resident (外国人住民に関する事項).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForeignItems {
    /// 第30条の45の区分.
    pub category: Field<ForeignCategory>,
    /// 在留資格.
    pub status_of_residence: Field<StatusOfResidence>,
    /// 在留期間.
    pub period_of_stay: Field<String>,
    /// 在留期間の満了の日.
    pub period_expires_on: Field<FlexibleDate>,
    /// 国籍・地域コード.
    pub nationality_code: Field<String>,
    /// 国籍・地域.
    pub nationality_name: Field<String>,
    /// 外国人住民となった年月日.
    pub became_foreign_resident_on: Field<FlexibleDate>,
}

/// What one event changes in one person, as far as the receiver is granted to know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PersonChange {
    /// Id of the event.
    pub event_id: String,
    /// Name of the event, such as `ResidentMovedIn`.
    pub event: &'static str,
    /// 宛名番号.
    pub atenabango: String,
    /// 履歴番号.
    pub version: u32,
    /// True when the event may create the person at the product.
    pub creates: bool,
    /// True for a support measure: it has no record, may overtake other events of the person and
    /// must not be compared with the person's version.
    pub protection_only: bool,
    /// 異動事由, as in `MoveReason`.
    pub reason: i32,
    /// 異動日.
    pub effective_on: Option<FlexibleDate>,
    /// 氏名.
    pub name: Field<PersonName>,
    /// 氏名_フリガナ.
    pub kana: Field<String>,
    /// 旧氏.
    pub former_name: Field<FormerName>,
    /// 通称 with its フリガナ.
    pub alias: Field<AliasName>,
    /// 生年月日.
    pub birth_on: Field<FlexibleDate>,
    /// 性別.
    pub gender: Field<Gender>,
    /// 住民種別.
    pub resident_type: Field<ResidentType>,
    /// 住民状態 and the day since which it holds.
    pub state: Field<State>,
    /// 住所. Untouched also when it was withheld.
    pub address: Field<Address>,
    /// 住所を定めた年月日.
    pub address_since: Field<FlexibleDate>,
    /// 転入前住所.
    pub previous_address: Field<Address>,
    /// 転入前住所_国名コード.
    pub previous_country_code: Field<String>,
    /// 世帯番号.
    pub household: Field<String>,
    /// 宛名番号 of the head.
    pub head: Field<String>,
    /// 世帯主未設定.
    pub head_unset: Field<bool>,
    /// 続柄.
    pub relationship: Field<Relationship>,
    /// 住民となった年月日.
    pub became_resident_on: Field<FlexibleDate>,
    /// 外国人住民に関する事項.
    pub foreign: ForeignItems,
    /// 転出先住所（予定）.
    pub planned_destination: Field<Address>,
    /// 転出先住所（確定）.
    pub confirmed_destination: Field<Address>,
    /// 転出確定年月日.
    pub confirmed_out_on: Field<FlexibleDate>,
    /// 支援措置.
    pub protection: Protection,
}

/// Reads a delivered event as a change of one person; `None` for the header and the trailer of a
/// snapshot, which are about nobody.
pub fn person_change(delivered: &DeliveredEvent) -> Result<Option<PersonChange>, Refusal> {
    let event = envelope(delivered)?;
    let payload = decode_payload(delivered)?;
    if let Payload::ResidentSnapshotPublished(part) = &payload
        && matches!(part.part(), SnapshotPart::Header | SnapshotPart::Trailer)
    {
        return Ok(None);
    }
    if event.subject.is_empty() {
        return Err(missing("SUBJECT_MISSING", "subject"));
    }
    let granted = Granted::from(delivered);
    let mut change = PersonChange {
        event_id: event.id.clone(),
        event: payload.name(),
        atenabango: event.subject.clone(),
        version: event.subject_version,
        creates: creates(&payload),
        protection_only: !payload.has_record(),
        reason: event.reason,
        effective_on: event.effective_on.clone(),
        protection: protection::of(&payload, granted)?,
        ..PersonChange::default()
    };
    if let Some(record) = payload.record() {
        read_record(&mut change, record, granted)?;
    } else if payload.has_record() {
        return Err(missing("RECORD_MISSING", "record"));
    }
    change.state = state::of(&payload, granted, event.effective_on.as_ref())?;
    read_destinations(&mut change, &payload, granted);
    Ok(Some(change))
}

fn missing(reason: &str, field: &str) -> Refusal {
    Refusal::reject(
        reason,
        field,
        "the delivered event lacks what every event of its type has",
    )
}

fn creates(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::ResidentSnapshotPublished(_)
            | Payload::ResidentMovedIn(_)
            | Payload::ResidentRecordedByAuthority(_)
            | Payload::ResidentBorn(_)
    )
}

fn read_record(
    change: &mut PersonChange,
    record: &ResidentRecord,
    granted: Granted<'_>,
) -> Result<(), Refusal> {
    let has = |path| granted.covers(path);
    let name = record.name.as_ref();
    change.name = Field::granted(
        has("record.name.full_name"),
        name.filter(|name| !name.full_name.is_empty()).cloned(),
    );
    change.kana = text(has("record.name.furigana"), name.map(|name| &name.furigana));
    change.former_name = Field::granted(
        has("record.former_name"),
        record
            .former_name
            .clone()
            .filter(|name| !name.kyuuji.is_empty()),
    );
    change.alias = Field::granted(
        has("record.alias"),
        record
            .alias
            .clone()
            .filter(|alias| !alias.tsusho.is_empty()),
    );
    change.birth_on = Field::granted(has("record.birth_on"), record.birth_on.clone());
    change.gender = code(has("record.gender"), record.gender, "record.gender")?;
    change.resident_type = code(
        has("record.resident_type"),
        record.resident_type,
        "record.resident_type",
    )?;
    change.address = address(has("record.address"), record.address.as_ref());
    change.address_since =
        Field::granted(has("record.address_since"), record.address_since.clone());
    let previous = record.previous_address.as_ref();
    change.previous_address = address(has("record.previous_address"), previous);
    change.previous_country_code = text(
        has("record.previous_address.country_code"),
        previous.map(|address| &address.country_code),
    );
    change.household = text(
        has("record.household"),
        record.household.as_ref().map(|home| &home.setaibango),
    );
    change.head = text(
        has("record.head"),
        record.head.as_ref().map(|head| &head.atenabango),
    );
    change.head_unset = head_unset(record, &change.head, granted);
    change.relationship = Field::granted(
        has("record.relationship"),
        record
            .relationship
            .clone()
            .filter(|path| !path.steps.is_empty() || !path.text.is_empty()),
    );
    change.became_resident_on = Field::granted(
        has("record.became_resident_on"),
        record.became_resident_on.clone(),
    );
    change.foreign = foreign(record, granted)?;
    Ok(())
}

/// Where the flag itself is not granted, an absent head says the same.
fn head_unset(record: &ResidentRecord, head: &Field<String>, granted: Granted<'_>) -> Field<bool> {
    if granted.covers("record.head_unset") {
        return Field::Set(record.head_unset.unwrap_or(false));
    }
    match head {
        Field::Untouched => Field::Untouched,
        Field::Clear => Field::Set(true),
        Field::Set(_) => Field::Set(false),
    }
}

fn foreign(record: &ResidentRecord, granted: Granted<'_>) -> Result<ForeignItems, Refusal> {
    let has = |path| granted.covers(path);
    let items = record.foreign.clone().unwrap_or_default();
    Ok(ForeignItems {
        category: code(
            has("record.foreign.category"),
            items.category,
            "record.foreign.category",
        )?,
        status_of_residence: code(
            has("record.foreign.status_of_residence"),
            items.status_of_residence,
            "record.foreign.status_of_residence",
        )?,
        period_of_stay: text(
            has("record.foreign.period_of_stay"),
            Some(&items.period_of_stay),
        ),
        period_expires_on: Field::granted(
            has("record.foreign.period_expires_on"),
            items.period_expires_on,
        ),
        nationality_code: text(
            has("record.foreign.nationality_code"),
            Some(&items.nationality_code),
        ),
        nationality_name: text(
            has("record.foreign.nationality_name"),
            Some(&items.nationality_name),
        ),
        became_foreign_resident_on: Field::granted(
            has("record.foreign.became_foreign_resident_on"),
            items.became_foreign_resident_on,
        ),
    })
}

fn read_destinations(change: &mut PersonChange, payload: &Payload, granted: Granted<'_>) {
    let planned = match payload {
        Payload::ResidentMoveOutNotified(event) => event.planned_destination.as_ref(),
        Payload::ResidentMovedOut(event) => event.planned_destination.as_ref(),
        _ => None,
    };
    change.planned_destination = address(granted.covers("planned_destination"), planned);
    if let Payload::ResidentMoveOutConfirmed(event) = payload {
        change.confirmed_destination = address(
            granted.covers("confirmed_destination"),
            event.confirmed_destination.as_ref(),
        );
        change.confirmed_out_on = Field::granted(
            granted.covers("confirmed_out_on"),
            event.confirmed_out_on.clone(),
        );
    }
}

fn text(granted: bool, value: Option<&String>) -> Field<String> {
    Field::granted(granted, value.filter(|value| !value.is_empty()).cloned())
}

/// An address that was withheld is neither new nor empty.
fn address(granted: bool, value: Option<&Address>) -> Field<Address> {
    let withheld = value.is_some_and(|address| {
        matches!(
            address.redaction(),
            RedactionKind::Token | RedactionKind::Removed
        )
    });
    Field::granted(granted && !withheld, value.cloned())
}

/// A code of 0 is empty; a code that this version does not know is refused, never dropped.
fn code<E: TryFrom<i32>>(granted: bool, raw: i32, field: &str) -> Result<Field<E>, Refusal> {
    if !granted || raw == 0 {
        return Ok(Field::granted(granted, None));
    }
    E::try_from(raw).map(Field::Set).map_err(|_| {
        Refusal::reject(
            "CODE_UNKNOWN",
            field,
            format!("the adapter does not know the code {raw}"),
        )
    })
}

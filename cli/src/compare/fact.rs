//! What there is to know of a person, apart from any product's form.
//! Between the town's columns and the form of one product.
//! Must never hold a value that the registry did not write.
//! Read next: `grants.rs`, which says who learns which fact from which event.

use std::collections::BTreeMap;

use super::table::Row;

/// One item of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    Name,
    Kana,
    Alias,
    AliasKana,
    Birth,
    BirthNote,
    Sex,
    Kind,
    Prefecture,
    City,
    Town,
    TownCode,
    Lot,
    Building,
    Postcode,
    Since,
    SinceNote,
    Household,
    Head,
    HeadUnset,
    Relationship,
    ResidentSince,
    ResidentSinceNote,
    ForeignCategory,
    StatusOfResidence,
    StayPeriod,
    StayUntil,
    ForeignSince,
    State,
    StateOn,
    StateOnNote,
}

/// Items of a person; an empty one is absent.
pub(crate) type Facts = BTreeMap<Fact, String>;

/// Parts of the current address (住所).
pub(crate) const ADDRESS: &[Fact] = &[
    Fact::Prefecture,
    Fact::City,
    Fact::Town,
    Fact::TownCode,
    Fact::Lot,
    Fact::Building,
    Fact::Postcode,
];

/// Facts that a granted path of the contract shows, for the paths that a product may hold.
/// The state is not here: events tell it by their meaning too (see `fold.rs`).
pub(crate) fn facts_of(path: &str) -> &'static [Fact] {
    match path {
        "record.name" => &[Fact::Name, Fact::Kana],
        "record.alias" => &[Fact::Alias, Fact::AliasKana],
        "record.birth_on" => &[Fact::Birth, Fact::BirthNote],
        "record.gender" => &[Fact::Sex],
        "record.resident_type" => &[Fact::Kind],
        "record.address" => ADDRESS,
        "record.address_since" => &[Fact::Since, Fact::SinceNote],
        "record.household" => &[Fact::Household],
        "record.head" => &[Fact::Head],
        "record.head_unset" => &[Fact::HeadUnset],
        "record.relationship" => &[Fact::Relationship],
        "record.became_resident_on" => &[Fact::ResidentSince, Fact::ResidentSinceNote],
        "record.foreign.category" => &[Fact::ForeignCategory],
        "record.foreign.status_of_residence" => &[Fact::StatusOfResidence],
        "record.foreign.period_of_stay" => &[Fact::StayPeriod],
        "record.foreign.period_expires_on" => &[Fact::StayUntil],
        "record.foreign.became_foreign_resident_on" => &[Fact::ForeignSince],
        _ => &[],
    }
}

/// Column that holds a fact; `None` for the head, whose number stands on another row.
pub(crate) fn column_of(fact: Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::Name => "shimei",
        Fact::Kana => "shimei_furigana",
        Fact::Alias => "tsusho",
        Fact::AliasKana => "tsusho_furigana",
        Fact::Birth => "seinengappi",
        Fact::BirthNote => "seinengappi_fushohyoki",
        Fact::Sex => "seibetsu",
        Fact::Kind => "juminshubetsu",
        Fact::Prefecture => "jusho_todofuken",
        Fact::City => "jusho_shikugunchosonmei",
        Fact::Town => "jusho_choaza",
        Fact::TownCode => "jusho_choazakodo",
        Fact::Lot => "jusho_banchigohyoki",
        Fact::Building => "jusho_katagaki",
        Fact::Postcode => "jusho_yubinbango",
        Fact::Since => "jushoosadametanengappi",
        Fact::SinceNote => "jushoosadametanengappi_fushohyoki",
        Fact::Household => "setaibango",
        Fact::Head => return None,
        Fact::HeadUnset => "setainushimisetteifuragu",
        Fact::Relationship => "zokugara",
        Fact::ResidentSince => "jumintonattanengappi",
        Fact::ResidentSinceNote => "jumintonattanengappi_fushohyoki",
        Fact::ForeignCategory => "dai30jono45kubun",
        Fact::StatusOfResidence => "zairyushikaku",
        Fact::StayPeriod => "zairyukikan",
        Fact::StayUntil => "zairyukikannomanryobi",
        Fact::ForeignSince => "gaikokujinjumintonattanengappi",
        Fact::State => "juminjotai",
        Fact::StateOn => "shojonengappi",
        Fact::StateOnNote => "shojonengappi_fushohyoki",
    })
}

/// Value of a fact in a row; `head` is the 宛名番号 of the head of the row's household.
pub(crate) fn value_of(fact: Fact, row: &Row, head: Option<&str>) -> Option<String> {
    let text = match column_of(fact) {
        Some(column) => row.get(column),
        None => head.unwrap_or(""),
    };
    (!text.is_empty()).then(|| text.to_owned())
}

/// Sets or clears a fact.
pub(crate) fn put(facts: &mut Facts, fact: Fact, value: Option<String>) {
    match value {
        Some(value) => {
            facts.insert(fact, value);
        }
        None => {
            facts.remove(&fact);
        }
    }
}

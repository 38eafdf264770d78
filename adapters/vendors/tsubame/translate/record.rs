//! An image as the standard's resident record, as fully as the vendor holds it.
//! Every event of a person carries it; what the receivers see of it is the hub's affair.
//! It must never fill an item that the vendor left empty.
//! Read next: `payload.rs`.

use musubi_proto::standard::common::v1::{
    Address, AliasName, DeletionInfo, FamilyRegisterDisplay, ForeignResidentStatus, FormerName,
    HouseholdRef, LastChange, PersonName, PersonRef, ProtectionFlags, Relationship, ResidentRecord,
};

use super::codes;
use crate::vendors::tsubame::check::relationship_steps;
use crate::vendors::tsubame::row::Row;

/// Most characters of a town in the standard.
const TOWN_CHARS_MAX: usize = 120;

/// The record of a row. `head` is the 宛名番号 of the head of its household.
pub(super) fn record(row: &Row, head: Option<&str>, as_of: &str) -> ResidentRecord {
    ResidentRecord {
        person: Some(PersonRef {
            atenabango: row.atenabango().to_owned(),
            rirekibango: row.version(),
        }),
        household: household(row.household()),
        resident_type: codes::resident_type(row.get("juminshubetsu")).into(),
        resident_state: codes::resident_state(row.get("juminjotai")).into(),
        name: Some(name(row)),
        former_name: former_name(row),
        alias: alias(row),
        birth_on: row.date("seinengappi"),
        gender: codes::gender(row.get("seibetsu")).into(),
        head: head.map(person),
        head_name: head_name(row),
        head_unset: Some(row.flag("setainushimisetteifuragu")),
        relationship: relationship(row),
        family_register: family_register(row),
        became_resident_on: row.date("jumintonattanengappi"),
        address: Some(address(row, "jusho_")),
        address_since: row.date("jushoosadametanengappi"),
        previous_address: one_line_address(
            row.get("tennyumaejusho_shikuchosonkodo"),
            row.get("tennyumaejusho_kokumeikodo"),
            row.get("tennyumaejusho"),
        ),
        foreign: foreign(row),
        deletion: deletion(row),
        protection: Some(protection(row, as_of)),
        last_change: last_change(row),
        ..ResidentRecord::default()
    }
}

/// Reference to a person.
pub(super) fn person(atenabango: &str) -> PersonRef {
    PersonRef {
        atenabango: atenabango.to_owned(),
        rirekibango: 0,
    }
}

/// Reference to a household; `None` when there is none.
pub(super) fn household(setaibango: &str) -> Option<HouseholdRef> {
    let setaibango = setaibango.to_owned();
    (!setaibango.is_empty()).then_some(HouseholdRef { setaibango })
}

/// 氏名.
pub(super) fn name(row: &Row) -> PersonName {
    let undecided = row.get("shimei").is_empty();
    PersonName {
        full_name: row.get("shimei").to_owned(),
        family_name: row.get("uji_nihonjin").to_owned(),
        given_name: row.get("na_nihonjin").to_owned(),
        roman_name: row.get("shimei_gaikokujinromaji").to_owned(),
        kanji_name: row.get("shimei_gaikokujinkanji").to_owned(),
        furigana: row.get("shimei_furigana").to_owned(),
        furigana_confirmed: Some(row.flag("shimei_furiganakakuninjokyo")),
        name_undecided: undecided.then_some(true),
        ..PersonName::default()
    }
}

/// 旧氏.
pub(super) fn former_name(row: &Row) -> Option<FormerName> {
    let kyuuji = row.get("kyuuji").to_owned();
    (!kyuuji.is_empty()).then(|| FormerName {
        kyuuji,
        kyuuji_furigana: row.get("kyuuji_furigana").to_owned(),
        kyuuji_furigana_confirmed: None,
    })
}

/// 通称.
pub(super) fn alias(row: &Row) -> Option<AliasName> {
    let tsusho = row.get("tsusho").to_owned();
    (!tsusho.is_empty()).then(|| AliasName {
        tsusho,
        tsusho_furigana: row.get("tsusho_furigana").to_owned(),
        tsusho_furigana_confirmed: Some(row.flag("tsusho_furiganakakuninjokyo")),
        ..AliasName::default()
    })
}

fn head_name(row: &Row) -> Option<PersonName> {
    let full_name = row.get("setainushi_shimei").to_owned();
    (!full_name.is_empty()).then(|| PersonName {
        full_name,
        ..PersonName::default()
    })
}

/// 続柄.
pub(super) fn relationship(row: &Row) -> Option<Relationship> {
    let text = row.get("zokugara").to_owned();
    let steps = relationship_steps(row.get("zokugarakodo")).unwrap_or_default();
    (!text.is_empty()).then(|| Relationship {
        steps: steps.into_iter().map(|(step, _)| step).collect(),
        text,
    })
}

fn family_register(row: &Row) -> Option<FamilyRegisterDisplay> {
    let display = FamilyRegisterDisplay {
        honseki: row.get("honseki").to_owned(),
        head_of_register: row.get("hittosha").to_owned(),
        ..FamilyRegisterDisplay::default()
    };
    (display != FamilyRegisterDisplay::default()).then_some(display)
}

/// The address in the items that begin with `prefix`.
pub(super) fn address(row: &Row, prefix: &str) -> Address {
    let text = |name: &str| row.get_in(prefix, name).to_owned();
    Address {
        municipality_code: text("shikuchosonkodo"),
        machiaza_id: text("choazakodo"),
        prefecture: text("todofuken"),
        municipality_name: text("shikugunchosonmei"),
        town: text("choaza"),
        lot: text("banchigohyoki"),
        building: text("katagaki"),
        building_furigana: text("katagaki_furigana"),
        postal_code: text("yubinbango"),
        country_code: text("kokumeikodo"),
        overseas_address: text("kokugaijusho"),
        ..Address::default()
    }
}

/// An address that the vendor holds in one line; `None` when it is empty. Abroad it is the
/// overseas address. At home the standard has no such item: town and building, run together, are
/// the wording.
pub(super) fn one_line_address(code: &str, country: &str, line: &str) -> Option<Address> {
    if code.is_empty() && country.is_empty() && line.is_empty() {
        return None;
    }
    let mut address = Address {
        municipality_code: code.to_owned(),
        country_code: country.to_owned(),
        ..Address::default()
    };
    if country.is_empty() {
        address.town = line.chars().take(TOWN_CHARS_MAX).collect();
        address.building = line.chars().skip(TOWN_CHARS_MAX).collect();
    } else {
        address.overseas_address = line.to_owned();
    }
    Some(address)
}

/// 外国人住民に関する事項.
pub(super) fn foreign(row: &Row) -> Option<ForeignResidentStatus> {
    let status = ForeignResidentStatus {
        category: codes::foreign_category(row.get("dai30jono45kubun")).into(),
        status_of_residence: codes::status_of_residence(row.get("zairyushikaku")).into(),
        period_of_stay: row.get("zairyukikan").to_owned(),
        period_expires_on: row.date("zairyukikannomanryobi"),
        nationality_code: row.get("kokusekichiikikodo").to_owned(),
        nationality_name: row.get("kokusekichiiki").to_owned(),
        became_foreign_resident_on: row.date("gaikokujinjumintonattanengappi"),
        ..ForeignResidentStatus::default()
    };
    (status != ForeignResidentStatus::default()).then_some(status)
}

/// 転出先住所（予定）.
pub(super) fn planned_destination(row: &Row) -> Option<Address> {
    one_line_address(
        row.get("tenshutsusakijusho_yotei_shikuchosonkodo"),
        row.get("tenshutsusakijusho_yotei_kokumeikodo"),
        row.get("tenshutsusakijusho_yotei"),
    )
}

/// 転出先住所（確定）.
pub(super) fn confirmed_destination(row: &Row) -> Option<Address> {
    let code = row.get("tenshutsusakijusho_kakutei_shikuchosonkodo");
    one_line_address(code, "", row.get("tenshutsusakijusho_kakutei"))
}

fn deletion(row: &Row) -> Option<DeletionInfo> {
    let info = DeletionInfo {
        reason: codes::deletion_reason(row.get("shojojiyukodo")).into(),
        occurred_on: row.date("shojonengappi"),
        scheduled_out_on: row.date("tenshutsuyoteinengappi"),
        planned_destination: planned_destination(row),
        notice_on: row.date("tennyutsuchinengappi"),
        moved_out_on: row.date("tenshutsukakuteinengappi"),
        confirmed_destination: confirmed_destination(row),
        deleted_on: row.date("shojonengappi"),
        ..DeletionInfo::default()
    };
    (info != DeletionInfo::default()).then_some(info)
}

fn protection(row: &Row, as_of: &str) -> ProtectionFlags {
    let kubun = row.get("shiensochikubun");
    let mut flags = ProtectionFlags {
        level: codes::protection_level(kubun).into(),
        as_of: as_of.to_owned(),
        ..ProtectionFlags::default()
    };
    if matches!(kubun, "1" | "2") {
        flags
            .measure_ids
            .push(row.get("shiensochibango").to_owned());
        flags.scopes = codes::support_scopes(row.get("shiensochitaishohani"));
        flags.expires_on = row.date("shiensochishuryonengappi");
    }
    flags
}

fn last_change(row: &Row) -> Option<LastChange> {
    let code = row.get("idojiyukodo");
    (!code.is_empty()).then(|| LastChange {
        reason: codes::move_reason(code),
        changed_on: row.date("idobi"),
        processed_on: processed_on(row),
        notice_kind: codes::notice_kind(row.get("todokedekubun")).into(),
        noticed_on: row.date("todokedebi"),
    })
}

fn processed_on(row: &Row) -> Option<musubi_proto::standard::common::v1::FlexibleDate> {
    let day = row.get("shorinichiji").get(.."2026-03-01".len())?;
    musubi_proto::rules::flexible_date(day, false, "")
        .ok()
        .flatten()
}

//! The payload of a row: which standard event it is, and what only the change knows.
//! By the vendor's 異動事由; corrections are told apart in `attributes.rs`.
//! It must never leave a required item out that the row or its surroundings hold.
//! Read next: `attributes.rs` and `support.rs`.

use musubi_adapter_sdk::Payload;
use musubi_proto::standard::common::v1::{
    Address, AuthorityRecordReason, DestinationKind, HouseholdScope, MoveInKind, MoveOutBasis,
    MoveOutCertificateKind, NoticeKind, NoticeRoute, PersonRef, ReEntryBasis, RecordBasis,
    ResidentRecord, ResidentType,
};
use musubi_proto::standard::resident::v1 as resident;

use super::gather::Member;
use super::{attributes, codes, record, support};
use crate::vendors::tsubame::ids::Ids;
use crate::vendors::tsubame::row::Row;

/// The payload of a row.
pub(super) fn payload(member: &Member, ids: &Ids) -> Payload {
    let row = &member.row;
    let image = record::record(row, member.head.as_deref(), row.get("shorinichiji"));
    match row.get("idojiyukodo") {
        "01" | "02" => moved_in(member, image),
        "03" => born(row, image),
        "04" | "05" | "06" => recorded(member, ids, image),
        "09" | "26" | "58" => attributes::cancelled(member, ids, image),
        "20" | "21" => moved_out(member, image),
        "22" => died(member, image),
        "23" | "24" | "25" => deleted(member, ids, image),
        "40" => moved_within(member, image),
        "49" => split(member, image),
        "50" => merged(member, image),
        "51" => membership_changed(member, image),
        "52" => head_changed(member, image),
        "53" | "54" | "55" => attributes::former_name_changed(member, image),
        "56" | "57" => attributes::alias_changed(member, image),
        "60" => move_out_notified(member, image),
        "61" => move_out_confirmed(row, image),
        "62" => support::started(member),
        "63" => support::changed(member),
        "64" => support::ended(member),
        // 41, 42, 43: every other code was refused when the row was checked.
        _ => attributes::correction(member, image),
    }
}

fn moved_in(member: &Member, image: ResidentRecord) -> Payload {
    let from_abroad = member.row.get("idojiyukodo") == "02";
    let re_entry = member.before.is_some();
    let scope = if member.joined_existing {
        HouseholdScope::Part
    } else {
        HouseholdScope::Whole
    };
    let kind = if from_abroad {
        MoveInKind::FromAbroad
    } else {
        MoveInKind::Domestic
    };
    let certificate = if from_abroad {
        MoveOutCertificateKind::None
    } else {
        MoveOutCertificateKind::Unspecified
    };
    let basis = if re_entry {
        ReEntryBasis::NumberMatch
    } else {
        ReEntryBasis::Unspecified
    };
    Payload::from(resident::ResidentMovedIn {
        record: Some(with_arrival(member, image)),
        move_in_kind: kind.into(),
        from_abroad,
        whole_or_part: scope.into(),
        re_entry,
        re_entry_basis: basis.into(),
        joined_existing_household: member.joined_existing,
        certificate_kind: certificate.into(),
        ..resident::ResidentMovedIn::default()
    })
}

/// The record of an arrival: the change names the former address in its parts.
fn with_arrival(member: &Member, image: ResidentRecord) -> ResidentRecord {
    ResidentRecord {
        notified_on: member.row.date("todokedebi"),
        previous_address: old_address(member).or_else(|| image.previous_address.clone()),
        ..image
    }
}

fn born(row: &Row, image: ResidentRecord) -> Payload {
    Payload::from(resident::ResidentBorn {
        record: Some(image),
        record_basis: record_basis(row).into(),
        notice_received_on: row.date("todokedebi"),
        ..resident::ResidentBorn::default()
    })
}

fn recorded(member: &Member, ids: &Ids, image: ResidentRecord) -> Payload {
    let row = &member.row;
    let code = row.get("idojiyukodo");
    let reason = match code {
        "04" => AuthorityRecordReason::Naturalization,
        "05" => AuthorityRecordReason::NationalityLost,
        _ if row.get("shosaijiyu").contains("実態調査") => {
            AuthorityRecordReason::ResidenceConfirmed
        }
        _ => AuthorityRecordReason::Other,
    };
    let inherits_number = matches!(code, "04" | "05");
    let previous = match &member.before {
        Some(before) if inherits_number => codes::resident_type(before.get("juminshubetsu")),
        _ => ResidentType::Unspecified,
    };
    Payload::from(resident::ResidentRecordedByAuthority {
        record: Some(with_arrival(member, image)),
        authority_reason: reason.into(),
        previous_resident_type: previous.into(),
        inherits_number,
        paired_event_id: paired_event_id(member, ids),
    })
}

fn moved_out(member: &Member, image: ResidentRecord) -> Payload {
    let row = &member.row;
    let basis = match codes::notice_kind(row.get("todokedekubun")) {
        NoticeKind::Tsuchi => MoveOutBasis::MoveInNotice,
        NoticeKind::Shokken => MoveOutBasis::ByAuthority,
        _ => MoveOutBasis::ScheduledDate,
    };
    Payload::from(resident::ResidentMovedOut {
        record: Some(image),
        deletion_reason: codes::deletion_reason(row.get("shojojiyukodo")).into(),
        deleted_on: row.date("shojonengappi"),
        basis: basis.into(),
        planned_destination: record::planned_destination(row),
        whole_or_part: scope_left(member).into(),
        new_head: new_head(member),
        remaining_members: remaining(member),
    })
}

fn died(member: &Member, image: ResidentRecord) -> Payload {
    let row = &member.row;
    Payload::from(resident::ResidentDied {
        record: Some(image),
        death_on: row.date("shojonengappi"),
        record_basis: record_basis(row).into(),
        notice_received_on: row.date("todokedebi"),
        new_head: new_head(member),
        remaining_members: remaining(member),
    })
}

fn deleted(member: &Member, ids: &Ids, image: ResidentRecord) -> Payload {
    let row = &member.row;
    let inherits_number = matches!(row.get("idojiyukodo"), "23" | "24");
    Payload::from(resident::ResidentDeletedByAuthority {
        record: Some(image),
        deletion_reason: codes::deletion_reason(row.get("shojojiyukodo")).into(),
        deleted_on: row.date("shojonengappi"),
        inherits_number,
        paired_event_id: paired_event_id(member, ids),
        new_head: new_head(member),
        remaining_members: remaining(member),
    })
}

fn moved_within(member: &Member, image: ResidentRecord) -> Payload {
    let old_household = member.old_household();
    Payload::from(resident::ResidentMovedWithin {
        record: Some(image),
        old_address: old_address(member),
        old_household: record::household(old_household),
        household_changed: old_household != member.row.household(),
        whole_or_part: scope_left(member).into(),
        joined_existing_household: member.joined_existing,
        ..resident::ResidentMovedWithin::default()
    })
}

fn split(member: &Member, image: ResidentRecord) -> Payload {
    Payload::from(resident::HouseholdSplit {
        from_household: record::household(member.old_household()),
        to_household: image.household.clone(),
        record: Some(image),
        old_relationship: member.before.as_ref().and_then(record::relationship),
        old_head: person(member.old_head.as_deref()),
        whole_or_part: scope_left(member).into(),
    })
}

fn merged(member: &Member, image: ResidentRecord) -> Payload {
    Payload::from(resident::HouseholdMerged {
        from_household: record::household(member.old_household()),
        to_household: image.household.clone(),
        record: Some(image),
        old_relationship: member.before.as_ref().and_then(record::relationship),
        old_head: person(member.old_head.as_deref()),
    })
}

fn membership_changed(member: &Member, image: ResidentRecord) -> Payload {
    Payload::from(resident::HouseholdMembershipChanged {
        from_household: record::household(member.old_household()),
        to_household: image.household.clone(),
        record: Some(image),
        old_relationship: member.before.as_ref().and_then(record::relationship),
        old_head: person(member.old_head.as_deref()),
        whole_or_part: scope_left(member).into(),
    })
}

/// 世帯主変更, and every correction that is about nothing else.
pub(super) fn head_changed(member: &Member, image: ResidentRecord) -> Payload {
    Payload::from(resident::HouseholdHeadChanged {
        old_head: person(member.old_head.as_deref()),
        new_head: image.head.clone(),
        record: Some(image),
        old_relationship: member.before.as_ref().and_then(record::relationship),
        by_authority: codes::notice_kind(member.row.get("todokedekubun")) == NoticeKind::Shokken,
    })
}

fn move_out_notified(member: &Member, image: ResidentRecord) -> Payload {
    let row = &member.row;
    let kind = if !row.get("tenshutsusakijusho_yotei_kokumeikodo").is_empty() {
        DestinationKind::Abroad
    } else if !row.get("tenshutsusakijusho_yotei").is_empty() {
        DestinationKind::Domestic
    } else {
        DestinationKind::Unknown
    };
    Payload::from(resident::ResidentMoveOutNotified {
        record: Some(image),
        scheduled_out_on: row.date("tenshutsuyoteinengappi"),
        destination_kind: kind.into(),
        planned_destination: record::planned_destination(row),
        special_case: row.get("shosaijiyu") == "特例転出",
        by_authority: codes::notice_kind(row.get("todokedekubun")) == NoticeKind::Shokken,
        // They still live there: the whole household leaves when nobody else does.
        whole_or_part: if member.joined_existing {
            HouseholdScope::Part.into()
        } else {
            HouseholdScope::Whole.into()
        },
        ..resident::ResidentMoveOutNotified::default()
    })
}

fn move_out_confirmed(row: &Row, image: ResidentRecord) -> Payload {
    let planned = record::planned_destination(row);
    let confirmed = record::confirmed_destination(row);
    let planned_on = row.date("tenshutsuyoteinengappi");
    let confirmed_on = row.date("tenshutsukakuteinengappi");
    Payload::from(resident::ResidentMoveOutConfirmed {
        record: Some(image),
        notice_on: row.date("tennyutsuchinengappi"),
        notice_route: NoticeRoute::Cs.into(),
        differs_from_planned: planned != confirmed || planned_on != confirmed_on,
        confirmed_out_on: confirmed_on,
        confirmed_destination: confirmed,
    })
}

/// 異動前住所; `None` when the row does not name it.
pub(super) fn old_address(member: &Member) -> Option<Address> {
    let address = record::address(&member.row, "idomaejusho_");
    (address != Address::default()).then_some(address)
}

fn record_basis(row: &Row) -> RecordBasis {
    match codes::notice_kind(row.get("todokedekubun")) {
        NoticeKind::Todokede => RecordBasis::LocalFamilyRegisterNotice,
        NoticeKind::Tsuchi => RecordBasis::Article92Notice,
        _ => RecordBasis::Other,
    }
}

/// Whether the household that was left is empty now.
fn scope_left(member: &Member) -> HouseholdScope {
    let own = member.row.atenabango();
    let others = member.remaining.iter().any(|other| other != own);
    if others {
        HouseholdScope::Part
    } else {
        HouseholdScope::Whole
    }
}

fn person(atenabango: Option<&str>) -> Option<PersonRef> {
    atenabango.map(record::person)
}

/// The head that the household left behind got by this 届出.
fn new_head(member: &Member) -> Option<PersonRef> {
    let changed = member.new_head_of_old != member.old_head && !member.remaining.is_empty();
    if changed {
        person(member.new_head_of_old.as_deref())
    } else {
        None
    }
}

fn remaining(member: &Member) -> Vec<PersonRef> {
    member
        .remaining
        .iter()
        .map(|other| record::person(other))
        .collect()
}

fn paired_event_id(member: &Member, ids: &Ids) -> String {
    member
        .paired_number
        .map(|number| ids.change(number).to_string())
        .unwrap_or_default()
}

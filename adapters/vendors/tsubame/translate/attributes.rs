//! Corrections and changes of names: 41, 42, 43, 53 to 57 and the cancellations.
//! What a correction is, its images say; what it is called, the vendor's reason says.
//! It must never call a change of an address or a birth date a change of the name.
//! Read next: `changed.rs`.

use musubi_adapter_sdk::Payload;
use musubi_proto::standard::common::v1::{
    AliasOperation, CancelKind, CorrectionKind, ForeignChangeItem, FormerNameOperation,
    MinorCorrectionCause, MoveReason, NameChangeCause, NoticeKind, ResidentRecord,
};
use musubi_proto::standard::resident::v1 as resident;

use super::changed::{About, about, changed_paths};
use super::gather::Member;
use super::{codes, payload, record};
use crate::vendors::tsubame::ids::Ids;
use crate::vendors::tsubame::row::Row;

/// 軽微な修正, 職権修正, 誤記修正.
pub(super) fn correction(member: &Member, image: ResidentRecord) -> Payload {
    let row = &member.row;
    let paths = changed_paths(member.before.as_ref(), row);
    match (about(&paths, row.is_head()), &member.before) {
        (About::Name, Some(before)) => name_changed(member, before, &paths, image),
        (About::Foreign, Some(before)) => foreign_changed(row, before, &paths, image),
        (About::Household, Some(_)) => payload::head_changed(member, image),
        _ => corrected(member, &paths, image),
    }
}

fn corrected(member: &Member, paths: &[&'static str], image: ResidentRecord) -> Payload {
    let row = &member.row;
    let changed_fields = paths.iter().map(|path| (*path).to_owned()).collect();
    if row.get("idojiyukodo") == "41" {
        let cause = match row.get("shosaijiyu") {
            "住居表示の実施" => MinorCorrectionCause::ResidenceIndication,
            "文字同定" => MinorCorrectionCause::CharacterIdentification,
            _ => MinorCorrectionCause::Other,
        };
        return Payload::from(resident::MinorCorrectionMade {
            record: Some(image),
            changed_fields,
            cause: cause.into(),
            old_address: payload::old_address(member),
            ..resident::MinorCorrectionMade::default()
        });
    }
    let error = row.get("idojiyukodo") == "43";
    let kind = if error {
        CorrectionKind::GokiShusei
    } else {
        CorrectionKind::ShokkenShusei
    };
    Payload::from(resident::ResidentAttributesCorrected {
        record: Some(image),
        changed_fields,
        correction_kind: kind.into(),
        retroactive_from: if error { row.date("idobi") } else { None },
        corrected_history_no: member.corrected.as_ref().map(|change| change.version),
    })
}

fn name_changed(
    member: &Member,
    before: &Row,
    paths: &[&'static str],
    image: ResidentRecord,
) -> Payload {
    let detail = member.row.get("shosaijiyu");
    let cause = match detail {
        "氏名の追完" => NameChangeCause::NameSettled,
        "氏名の振り仮名の記載" => NameChangeCause::FuriganaRecorded,
        "氏名の振り仮名の変更" => NameChangeCause::FuriganaChanged,
        _ if detail.contains("婚姻") => NameChangeCause::Marriage,
        _ if detail.contains("離婚") => NameChangeCause::Divorce,
        _ => NameChangeCause::Other,
    };
    Payload::from(resident::ResidentNameChanged {
        record: Some(image),
        old_name: Some(record::name(before)),
        cause: cause.into(),
        furigana_only: paths
            .iter()
            .all(|path| path.starts_with("record.name.furigana")),
        characters_only: false,
        event_on: member.row.date("idobi"),
    })
}

fn foreign_changed(
    row: &Row,
    before: &Row,
    paths: &[&'static str],
    image: ResidentRecord,
) -> Payload {
    const ITEMS: [(&str, ForeignChangeItem); 5] = [
        (
            "record.foreign.status_of_residence",
            ForeignChangeItem::StatusOfResidence,
        ),
        ("record.foreign.period", ForeignChangeItem::PeriodOfStay),
        (
            "record.foreign.nationality",
            ForeignChangeItem::NationalityRegion,
        ),
        ("record.foreign.category", ForeignChangeItem::Category),
        ("record.foreign.became", ForeignChangeItem::Category),
    ];
    let mut changed_items: Vec<i32> = ITEMS
        .into_iter()
        .filter(|(group, _)| paths.iter().any(|path| path.starts_with(group)))
        .map(|(_, item)| item.into())
        .collect();
    changed_items.dedup();
    let noticed = codes::notice_kind(row.get("todokedekubun")) == NoticeKind::Tsuchi;
    Payload::from(resident::ForeignStatusChanged {
        record: Some(image),
        changed_items,
        old_status: record::foreign(before),
        immigration_notice_on: if noticed {
            row.date("todokedebi")
        } else {
            None
        },
        restricted: None,
    })
}

/// 旧氏の記載, 変更, 削除.
pub(super) fn former_name_changed(member: &Member, image: ResidentRecord) -> Payload {
    let operation = match member.row.get("idojiyukodo") {
        "53" => FormerNameOperation::Record,
        "54" => FormerNameOperation::Change,
        _ => FormerNameOperation::Delete,
    };
    Payload::from(resident::FormerNameChanged {
        record: Some(image),
        operation: operation.into(),
        old_former_name: member.before.as_ref().and_then(record::former_name),
        requested_on: member.row.date("todokedebi"),
    })
}

/// 通称の記載, 削除.
pub(super) fn alias_changed(member: &Member, image: ResidentRecord) -> Payload {
    let recorded = member.row.get("idojiyukodo") == "56";
    let operation = if recorded {
        AliasOperation::Record
    } else {
        AliasOperation::Delete
    };
    Payload::from(resident::AliasChanged {
        record: Some(image),
        operation: operation.into(),
        old_alias: member.before.as_ref().and_then(record::alias),
        declared_on: member.row.date("todokedebi"),
    })
}

/// 異動の取消し.
pub(super) fn cancelled(member: &Member, ids: &Ids, image: ResidentRecord) -> Payload {
    let kind = match member.row.get("idojiyukodo") {
        "09" => CancelKind::Increase,
        "26" => CancelKind::Decrease,
        _ => CancelKind::Modify,
    };
    let corrected = member.corrected.as_ref();
    let reason = corrected.map(|change| codes::move_reason(&change.reason));
    let id = member
        .corrected_number
        .map(|number| ids.change(number).to_string());
    Payload::from(resident::ResidentTransactionCancelled {
        cancelled_event_id: id.unwrap_or_default(),
        cancelled_history_no: corrected.map(|change| change.version).unwrap_or_default(),
        cancelled_reason: reason.unwrap_or(MoveReason::Unspecified.into()),
        cancel_kind: kind.into(),
        restored_household: image.household.clone(),
        restored_head: image.head.clone(),
        record: Some(image),
    })
}

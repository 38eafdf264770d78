//! Support measures (支援措置): their start, change and end.
//! They carry no record: they overtake every other event of the person.
//! An end must never name another measure than the one that the row is about.
//! Read next: `codes.rs`.

use musubi_adapter_sdk::Payload;
use musubi_proto::standard::common::v1::{ProtectionLevel, SupportChangeKind, SupportEndReason};
use musubi_proto::standard::resident::v1 as resident;

use super::gather::Member;
use super::{codes, record};

/// 支援措置の開始.
pub(super) fn started(member: &Member) -> Payload {
    let row = &member.row;
    Payload::from(resident::SupportMeasureStarted {
        measure_id: row.get("taishoshiensochibango").to_owned(),
        measure_version: member.measure_version,
        role: codes::support_role(row.get("shiensochitaishoshakubun")).into(),
        level: codes::protection_level(row.get("shiensochikubun")).into(),
        scopes: codes::support_scopes(row.get("shiensochitaishohani")),
        from_on: row.date("shiensochikaishinengappi"),
        to_on: row.date("shiensochishuryonengappi"),
        declared_on: row.date("todokedebi"),
        household: record::household(row.household()),
        auto_reply_blocked: true,
        disclosure_blocked: true,
        ..resident::SupportMeasureStarted::default()
    })
}

/// 支援措置の変更.
pub(super) fn changed(member: &Member) -> Payload {
    let row = &member.row;
    let detail = row.get("shosaijiyu");
    let kind = match &member.before {
        _ if detail.contains("延長") => SupportChangeKind::Extended,
        Some(before)
            if before.get("shiensochikubun") == "1" && row.get("shiensochikubun") == "2" =>
        {
            SupportChangeKind::Confirmed
        }
        Some(before)
            if before.get("shiensochikubun") == "2" && row.get("shiensochikubun") == "1" =>
        {
            SupportChangeKind::ToProvisional
        }
        Some(before) if before.get("shiensochitaishohani") != row.get("shiensochitaishohani") => {
            SupportChangeKind::ScopeChanged
        }
        _ => SupportChangeKind::MemberChanged,
    };
    Payload::from(resident::SupportMeasureChanged {
        measure_id: row.get("taishoshiensochibango").to_owned(),
        measure_version: member.measure_version,
        role: codes::support_role(row.get("shiensochitaishoshakubun")).into(),
        level: codes::protection_level(row.get("shiensochikubun")).into(),
        change_kind: kind.into(),
        scopes: codes::support_scopes(row.get("shiensochitaishohani")),
        from_on: row.date("shiensochikaishinengappi"),
        to_on: row.date("shiensochishuryonengappi"),
        previous_to_on: member
            .before
            .as_ref()
            .and_then(|before| before.date("shiensochishuryonengappi")),
        household: record::household(row.household()),
        auto_reply_blocked: true,
        disclosure_blocked: true,
        restricted: None,
    })
}

/// 支援措置の終了.
pub(super) fn ended(member: &Member) -> Payload {
    let row = &member.row;
    let measure_id = row.get("taishoshiensochibango").to_owned();
    let own = measure_id == row.get("shiensochibango");
    let level_after = codes::protection_level(row.get("shiensochikubun"));
    let still = level_after != ProtectionLevel::None && !own;
    let reason = match row.get("shosaijiyu") {
        detail if detail.contains("申出") => SupportEndReason::Withdrawn,
        detail if detail.contains("期間") => SupportEndReason::PeriodOverNotExtended,
        _ => SupportEndReason::NoLongerNeeded,
    };
    let ended_on = if own {
        row.date("shiensochishuryonengappi")
    } else {
        row.date("idobi")
    };
    Payload::from(resident::SupportMeasureEnded {
        measure_id,
        measure_version: member.measure_version,
        role: codes::support_role(row.get("shiensochitaishoshakubun")).into(),
        ended_on,
        end_reason: reason.into(),
        still_active_measure_ids: still
            .then(|| row.get("shiensochibango").to_owned())
            .into_iter()
            .collect(),
        level_after: level_after.into(),
    })
}

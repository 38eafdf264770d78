//! Rules on what items mean: codes, their names, and items that belong together.
//! The lists are the vendor's; the hub's codes are made from them in `translate/`.
//! It must never accept a code that cannot be told to others.
//! Read next: `../group.rs`.

use musubi_proto::rules::municipality_code_valid;
use musubi_proto::standard::common::v1::StatusOfResidence;

use super::Violation;
use crate::vendors::tsubame::row::Row;
use crate::vendors::tsubame::translate::codes::status_of_residence;

/// 異動事由: code, name, and whether it can be told as a standard event.
const REASONS: &[(&str, &str, bool)] = &[
    ("01", "国内転入", true),
    ("02", "国外転入等", true),
    ("03", "出生", true),
    ("04", "職権記載（帰化等）", true),
    ("05", "職権記載（国籍喪失）", true),
    ("06", "職権記載", true),
    ("07", "改製", false),
    ("08", "再製", false),
    ("09", "異動の取消し（増）", true),
    ("20", "国内転出", true),
    ("21", "国外転出", true),
    ("22", "死亡", true),
    ("23", "職権消除（帰化等）", true),
    ("24", "職権消除（国籍喪失）", true),
    ("25", "職権消除", true),
    ("26", "異動の取消し（減）", true),
    ("40", "転居", true),
    ("41", "軽微な修正", true),
    ("42", "職権修正", true),
    ("43", "誤記修正", true),
    ("44", "個人番号の変更請求", false),
    ("45", "個人番号の職権修正", false),
    ("46", "個人番号の職権記載", false),
    ("47", "住民票コードの変更請求", false),
    ("48", "住民票コードの職権記載", false),
    ("49", "世帯分離", true),
    ("50", "世帯合併", true),
    ("51", "世帯変更", true),
    ("52", "世帯主変更", true),
    ("53", "旧氏の記載", true),
    ("54", "旧氏の変更", true),
    ("55", "旧氏の削除", true),
    ("56", "通称の記載", true),
    ("57", "通称の削除", true),
    ("58", "異動の取消し（修正）", true),
    ("60", "転出届の受理", true),
    ("61", "転入通知の受理", true),
    ("62", "支援措置の開始", true),
    ("63", "支援措置の変更", true),
    ("64", "支援措置の終了", true),
];

/// 続柄: code and word. The place in the list, from 1, leads to the standard's step.
const RELATIONS: &[(&str, &str, i32)] = &[
    ("01", "世帯主", 1),
    ("02", "夫", 2),
    ("03", "妻", 3),
    ("04", "夫（未届）", 4),
    ("05", "妻（未届）", 5),
    ("06", "子", 6),
    ("07", "父", 9),
    ("08", "母", 10),
    ("09", "兄", 11),
    ("10", "姉", 12),
    ("11", "弟", 13),
    ("12", "妹", 14),
    ("90", "縁故者", 15),
    ("91", "同居人", 16),
];

/// Codes that are one of a few characters, with the rule that names them.
const CODES: &[(&str, &str, &str)] = &[
    ("juminshubetsu", "12", "UNKNOWN_TYPE"),
    ("juminjotai", "1239", "UNKNOWN_STATE"),
    ("seibetsu", "012", "UNKNOWN_SEX"),
    ("dai30jono45kubun", "123456", "UNKNOWN_FOREIGN_CATEGORY"),
    ("shiensochikubun", "0123", "UNKNOWN_SUPPORT_LEVEL"),
    ("shiensochitaishoshakubun", "12", "UNKNOWN_SUPPORT_ROLE"),
    ("todokedekubun", "12345", "UNKNOWN_NOTICE_KIND"),
    ("teiseikubun", "01234", "UNKNOWN_CORRECTION"),
];

/// Checks the items of an image.
pub(super) fn check(row: &Row, municipality: &str) -> Result<(), Violation> {
    let broken = |rule: &'static str, item: &'static str, message: &'static str| {
        Err(Violation::new(rule, item, message))
    };
    let code = row.get("shikuchosonkodo");
    if !municipality_code_valid(code) {
        let message = "the municipality code has a wrong check digit";
        return broken("MUNICIPALITY_CHECK_DIGIT", "shikuchosonkodo", message);
    }
    if code != municipality {
        let message = "the row belongs to another municipality";
        return broken("WRONG_MUNICIPALITY", "shikuchosonkodo", message);
    }
    if row.version() == 0 {
        return broken("VERSION_ZERO", "rirekibango", "a 履歴番号 starts at 1");
    }
    for (item, known, rule) in CODES {
        let text = row.get(item);
        let right = text.is_empty() || (text.len() == 1 && known.contains(text));
        if !right {
            return broken(rule, item, "the code is not one of the list");
        }
    }
    let status = status_of_residence(row.get("zairyushikaku"));
    if status == StatusOfResidence::Unspecified && !row.get("zairyushikaku").is_empty() {
        let message = "the 在留資格 is not one of the list";
        return broken("UNKNOWN_STATUS_OF_RESIDENCE", "zairyushikaku", message);
    }
    check_relation(row)?;
    check_support(row)
}

fn check_relation(row: &Row) -> Result<(), Violation> {
    let broken = |item| {
        let message = "the 続柄 is no chain of the allowed words";
        Err(Violation::new("FORBIDDEN_RELATION", item, message))
    };
    let (code, text) = (row.get("zokugarakodo"), row.get("zokugara"));
    match relationship_steps(code) {
        None => broken("zokugarakodo"),
        Some(steps) => {
            let words: Vec<&str> = steps.iter().map(|(_, word)| *word).collect();
            if words.join("の") == text {
                Ok(())
            } else {
                broken("zokugara")
            }
        }
    }
}

/// Steps of a 続柄コード as (standard's step, word); `None` when a part of it is unknown.
pub(in crate::vendors::tsubame) fn relationship_steps(
    code: &str,
) -> Option<Vec<(i32, &'static str)>> {
    let bytes = code.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks(2)
        .map(|two| {
            let known = RELATIONS.iter().find(|(code, _, _)| code.as_bytes() == two);
            known.map(|(_, word, step)| (*step, *word))
        })
        .collect()
}

/// A measure has a number and a version while it is named at all.
fn check_support(row: &Row) -> Result<(), Violation> {
    if row.get("shiensochikubun") == "0" {
        return Ok(());
    }
    for item in ["shiensochibango", "shiensochihan"] {
        if row.get(item).is_empty() {
            let message = "a 支援措置 needs its number and version";
            return Err(Violation::new("SUPPORT_WITHOUT_MEASURE", item, message));
        }
    }
    Ok(())
}

/// Checks the items of a change.
pub(super) fn check_change(row: &Row) -> Result<(), Violation> {
    let broken = |rule: &'static str, item: &'static str, message: &'static str| {
        Err(Violation::new(rule, item, message))
    };
    let reason = row.get("idojiyukodo");
    let Some((_, name, told)) = REASONS.iter().find(|(code, _, _)| *code == reason) else {
        return broken(
            "UNKNOWN_REASON",
            "idojiyukodo",
            "the 異動事由 is not one of the list",
        );
    };
    if row.get("idojiyu") != *name {
        let message = "the name of the 異動事由 does not fit its code";
        return broken("REASON_NAME_MISMATCH", "idojiyu", message);
    }
    if !told {
        let message = "the 異動事由 cannot be told to other systems yet";
        return broken("UNSUPPORTED_REASON", "idojiyukodo", message);
    }
    if matches!(reason, "62" | "63" | "64") && row.get("taishoshiensochibango").is_empty() {
        let rule = if reason == "64" {
            "SUPPORT_END_WITHOUT_MEASURE"
        } else {
            "SUPPORT_WITHOUT_MEASURE"
        };
        return broken(
            rule,
            "taishoshiensochibango",
            "the 支援措置 that it is about is not named",
        );
    }
    if row.number("gurupunaijunjo") == 0 || row.number("gurupunaijunjo") > row.number("gurupukensu")
    {
        let message = "the place in the group is not between 1 and its size";
        return broken("GROUP_SEQ_OUT_OF_RANGE", "gurupunaijunjo", message);
    }
    Ok(())
}

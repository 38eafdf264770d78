//! What really changed between two images of a person, as paths of the resident record.
//! 41, 42 and 43 say only that something was corrected; the images say what.
//! It must never name an item that is the same in both.
//! Read next: `attributes.rs`.

use crate::vendors::tsubame::columns::Columns;
use crate::vendors::tsubame::row::Row;

/// Items whose path is their own; items of a version, an operator or a measure are no facts.
const PATHS: &[(&str, &str)] = &[
    ("setaibango", "record.household"),
    ("juminshubetsu", "record.resident_type"),
    ("juminjotai", "record.resident_state"),
    ("shimei", "record.name.full_name"),
    ("uji_nihonjin", "record.name.family_name"),
    ("na_nihonjin", "record.name.given_name"),
    ("shimei_furigana", "record.name.furigana"),
    (
        "shimei_furiganakakuninjokyo",
        "record.name.furigana_confirmed",
    ),
    ("shimei_gaikokujinromaji", "record.name.roman_name"),
    ("shimei_gaikokujinkanji", "record.name.kanji_name"),
    ("kyuuji", "record.former_name.kyuuji"),
    ("kyuuji_furigana", "record.former_name.kyuuji_furigana"),
    ("tsusho", "record.alias.tsusho"),
    ("tsusho_furigana", "record.alias.tsusho_furigana"),
    (
        "tsusho_furiganakakuninjokyo",
        "record.alias.tsusho_furigana_confirmed",
    ),
    ("seibetsu", "record.gender"),
    ("zokugara", "record.relationship"),
    ("zokugarakodo", "record.relationship"),
    ("setainushi_shimei", "record.head_name"),
    ("setainushimisetteifuragu", "record.head_unset"),
    ("jusho_shikuchosonkodo", "record.address.municipality_code"),
    ("jusho_choazakodo", "record.address.machiaza_id"),
    ("jusho_todofuken", "record.address.prefecture"),
    (
        "jusho_shikugunchosonmei",
        "record.address.municipality_name",
    ),
    ("jusho_choaza", "record.address.town"),
    ("jusho_banchigohyoki", "record.address.lot"),
    (
        "jusho_katagaki_furigana",
        "record.address.building_furigana",
    ),
    ("jusho_katagaki", "record.address.building"),
    ("jusho_yubinbango", "record.address.postal_code"),
    ("honseki", "record.family_register.honseki"),
    ("hittosha", "record.family_register.head_of_register"),
    ("kokusekichiikikodo", "record.foreign.nationality_code"),
    ("kokusekichiiki", "record.foreign.nationality_name"),
    ("dai30jono45kubun", "record.foreign.category"),
    ("zairyushikaku", "record.foreign.status_of_residence"),
    ("zairyukikannomanryobi", "record.foreign.period_expires_on"),
    ("zairyukikan", "record.foreign.period_of_stay"),
    (
        "gaikokujinjumintonattanengappi",
        "record.foreign.became_foreign_resident_on",
    ),
    ("tennyutsuchinengappi", "record.deletion.notice_on"),
    ("tenshutsuyoteinengappi", "record.deletion.scheduled_out_on"),
    ("tenshutsukakuteinengappi", "record.deletion.moved_out_on"),
    ("shojojiyukodo", "record.deletion.reason"),
];

/// Items that come in several columns with one beginning.
const PREFIXES: &[(&str, &str)] = &[
    ("seinengappi", "record.birth_on"),
    ("jumintonattanengappi", "record.became_resident_on"),
    ("jushoosadametanengappi", "record.address_since"),
    ("tennyumaejusho", "record.previous_address"),
    (
        "tenshutsusakijusho_yotei",
        "record.deletion.planned_destination",
    ),
    (
        "tenshutsusakijusho_kakutei",
        "record.deletion.confirmed_destination",
    ),
    ("shojonengappi", "record.deletion.deleted_on"),
    ("shiensochi", "record.protection"),
];

/// Paths of the record that differ between two images, without repeats, in the order of the items.
/// Without a former image every item that is not empty counts as changed.
pub(super) fn changed_paths(before: Option<&Row>, after: &Row) -> Vec<&'static str> {
    let mut paths = Vec::new();
    for column in Columns::get().image() {
        let old = before.map(|row| row.get(column.name)).unwrap_or_default();
        if old == after.get(column.name) {
            continue;
        }
        if let Some(path) = path_of(column.name)
            && !paths.contains(&path)
        {
            paths.push(path);
        }
    }
    paths
}

fn path_of(item: &str) -> Option<&'static str> {
    let whole = PATHS.iter().find(|(name, _)| *name == item);
    let begins = || PREFIXES.iter().find(|(prefix, _)| item.starts_with(prefix));
    whole.or_else(begins).map(|(_, path)| *path)
}

/// What a set of changed paths is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Only the legal name or its reading.
    Name,
    /// Only items of a foreign resident.
    Foreign,
    /// Only the household, its head or the relationship to the head.
    Household,
    /// Anything else, or nothing.
    Mixed,
}

/// What the change is about. The head's own name is repeated as the head's name.
pub(super) fn about(paths: &[&'static str], is_head: bool) -> About {
    let only = |groups: &[&str]| {
        !paths.is_empty()
            && paths
                .iter()
                .all(|path| groups.iter().any(|group| path.starts_with(group)))
    };
    let name = "record.name";
    let own_name_repeated = is_head && paths.iter().any(|path| path.starts_with(name));
    if only(&[name]) || (own_name_repeated && only(&[name, "record.head_name"])) {
        About::Name
    } else if only(&["record.foreign"]) {
        About::Foreign
    } else if only(&["record.household", "record.head", "record.relationship"]) {
        About::Household
    } else {
        About::Mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_of_the_image_has_a_path_or_is_no_fact() {
        const NO_FACTS: [&str; 7] = [
            "shikuchosonkodo",
            "atenabango",
            "rirekibango",
            "tagyomusanshofukafuragu",
            "sosashaid",
            "sosanengappi",
            "sosajikoku",
        ];
        for column in Columns::get().image() {
            let none = path_of(column.name).is_none();
            assert_eq!(none, NO_FACTS.contains(&column.name), "{}", column.name);
        }
    }

    #[test]
    fn a_change_is_about_what_all_its_items_share() {
        let name = "record.name.full_name";
        for (paths, is_head, expected) in [
            (vec![name, "record.name.furigana"], false, About::Name),
            (vec![name, "record.head_name"], true, About::Name),
            (vec![name, "record.head_name"], false, About::Mixed),
            (vec!["record.head_name"], true, About::Household),
            (
                vec!["record.relationship", "record.head_unset"],
                false,
                About::Household,
            ),
            (
                vec!["record.foreign.period_expires_on"],
                false,
                About::Foreign,
            ),
            (
                vec![name, "record.family_register.honseki"],
                false,
                About::Mixed,
            ),
            (vec![], false, About::Mixed),
        ] {
            assert_eq!(about(&paths, is_head), expected, "{paths:?}");
        }
    }
}

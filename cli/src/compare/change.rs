//! What a changed row is: its event, what a correction changed, which measure it is about.
//! Between the rows and the fold.
//! Must never take the name of the reason for the change: corrections are named by what changed.
//! Read next: `fold.rs`.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::table::Row;

/// Columns about the operator, and the version: they never say what a change is about.
pub(super) const AUDIT: &[&str] = &["rirekibango", "sosashaid", "sosanengappi", "sosajikoku"];
const NAMES: &[&str] = &[
    "shimei",
    "uji_nihonjin",
    "na_nihonjin",
    "shimei_furigana",
    "shimei_furiganakakuninjokyo",
    "shimei_gaikokujinromaji",
    "shimei_gaikokujinkanji",
];
const FOREIGN: &[&str] = &[
    "kokusekichiikikodo",
    "kokusekichiiki",
    "dai30jono45kubun",
    "zairyushikaku",
    "zairyukikan",
    "zairyukikannomanryobi",
    "gaikokujinjumintonattanengappi",
];
const HOUSEHOLD: &[&str] = &[
    "setaibango",
    "zokugara",
    "zokugarakodo",
    "setainushi_shimei",
    "setainushimisetteifuragu",
];

/// What happened to a support measure (支援措置).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    /// 支援措置版.
    pub(crate) version: u32,
    /// True once it ended.
    pub(crate) ended: bool,
}

/// Splits the changes into 届出.
pub(super) fn groups(changes: Vec<Row>) -> Vec<Vec<Row>> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for row in changes {
        match groups.last_mut() {
            Some(group) if group[0].get("todokedegurupuid") == row.get("todokedegurupuid") => {
                group.push(row);
            }
            _ => groups.push(vec![row]),
        }
    }
    groups
}

/// Columns of the image that a row changed.
pub(super) fn changed<'a>(row: &Row, former: Option<&Row>, columns: &'a [String]) -> Vec<&'a str> {
    columns
        .iter()
        .map(String::as_str)
        .filter(|column| former.is_none_or(|former| former.get(column) != row.get(column)))
        .collect()
}

/// Name of the event that a row is.
pub(super) fn event_of(row: &Row, changed: &[&str]) -> Result<&'static str> {
    Ok(match row.get("idojiyukodo") {
        "01" | "02" => "ResidentMovedIn",
        "03" => "ResidentBorn",
        "04" | "05" | "06" => "ResidentRecordedByAuthority",
        "09" | "26" | "58" => "ResidentTransactionCancelled",
        "20" | "21" => "ResidentMovedOut",
        "22" => "ResidentDied",
        "23" | "24" | "25" => "ResidentDeletedByAuthority",
        "40" => "ResidentMovedWithin",
        "41" | "42" | "43" => correction_of(row, changed),
        "49" => "HouseholdSplit",
        "50" => "HouseholdMerged",
        "51" => "HouseholdMembershipChanged",
        "52" => "HouseholdHeadChanged",
        "53" | "54" | "55" => "FormerNameChanged",
        "56" | "57" => "AliasChanged",
        "60" => "ResidentMoveOutNotified",
        "61" => "ResidentMoveOutConfirmed",
        "62" => "SupportMeasureStarted",
        "63" => "SupportMeasureChanged",
        "64" => "SupportMeasureEnded",
        other => bail!("the reason `{other}` is not known"),
    })
}

/// A correction is named by what really changed.
fn correction_of(row: &Row, changed: &[&str]) -> &'static str {
    let only =
        |items: &[&str]| !changed.is_empty() && changed.iter().all(|column| items.contains(column));
    // The head's own name is repeated as the name of the head.
    let own: Vec<&str> = NAMES.iter().copied().chain(["setainushi_shimei"]).collect();
    let renamed = changed.iter().any(|column| NAMES.contains(column));
    let is_head = row.get("zokugarakodo") == "01";
    if only(NAMES) || (is_head && renamed && only(&own)) {
        "ResidentNameChanged"
    } else if only(FOREIGN) {
        "ForeignStatusChanged"
    } else if only(HOUSEHOLD) {
        "HouseholdHeadChanged"
    } else if row.get("idojiyukodo") == "41" {
        "MinorCorrectionMade"
    } else {
        "ResidentAttributesCorrected"
    }
}

/// Paths below `record` that a correction names as changed.
pub(super) fn changed_paths(event: &str, changed: &[&str]) -> Vec<&'static str> {
    if !matches!(event, "ResidentAttributesCorrected" | "MinorCorrectionMade") {
        return Vec::new();
    }
    changed
        .iter()
        .filter_map(|column| path_of(column))
        .collect()
}

/// Path below `record` of a column; `None` for what the contract does not carry.
fn path_of(column: &str) -> Option<&'static str> {
    const PREFIXES: &[(&str, &str)] = &[
        ("setaibango", "household"),
        ("juminshubetsu", "resident_type"),
        ("juminjotai", "resident_state"),
        ("shimei", "name"),
        ("uji_", "name"),
        ("na_", "name"),
        ("kyuuji", "former_name"),
        ("tsusho", "alias"),
        ("seibetsu", "gender"),
        ("seinengappi", "birth_on"),
        ("zokugara", "relationship"),
        ("setainushimisettei", "head_unset"),
        ("setainushi_", "head_name"),
        ("jumintonatta", "became_resident_on"),
        ("jushoosadameta", "address_since"),
        ("jusho_", "address"),
        ("honseki", "family_register"),
        ("hittosha", "family_register"),
        ("tennyumae", "previous_address"),
        ("kokuseki", "foreign.nationality_code"),
        ("dai30jo", "foreign.category"),
        ("zairyushikaku", "foreign.status_of_residence"),
        ("zairyukikannomanryo", "foreign.period_expires_on"),
        ("zairyukikan", "foreign.period_of_stay"),
        ("gaikokujinjumin", "foreign.became_foreign_resident_on"),
        ("shiensochi", "protection"),
        ("tenshutsu", "deletion"),
        ("tennyutsuchi", "deletion"),
        ("shojo", "deletion"),
    ];
    PREFIXES
        .iter()
        .find(|(prefix, _)| column.starts_with(prefix))
        .map(|(_, path)| *path)
}

/// Highest version of each measure that any row has shown.
#[derive(Debug, Default)]
pub(super) struct Measures {
    known: HashMap<(String, String), u32>,
}

impl Measures {
    /// Notes the measure that stands on a row.
    pub(super) fn see(&mut self, row: &Row) {
        let measure = row.get("shiensochibango");
        if !measure.is_empty() {
            let version = row.get("shiensochihan").parse().unwrap_or(0);
            self.raise(row, measure, version);
        }
    }

    fn raise(&mut self, row: &Row, measure: &str, version: u32) {
        let key = (row.person().to_owned(), measure.to_owned());
        let known = self.known.entry(key).or_default();
        *known = version.max(*known);
    }

    /// The measure that a row 62 to 64 is about. A row that ends an older measure shows the newer
    /// one; the ended one then rises by one.
    pub(super) fn told_by(&mut self, row: &Row) -> Option<(String, Measure)> {
        let ended = match row.get("idojiyukodo") {
            "62" | "63" => false,
            "64" => true,
            _ => return None,
        };
        let measure = row.get("taishoshiensochibango");
        let key = (row.person().to_owned(), measure.to_owned());
        let version = match row.get("shiensochibango") == measure {
            true => row.get("shiensochihan").parse().unwrap_or(0),
            false => self.known.get(&key).map_or(1, |version| version + 1),
        };
        self.raise(row, measure, version);
        Some((measure.to_owned(), Measure { version, ended }))
    }
}

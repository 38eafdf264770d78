//! もみじ国民健康保険 as its manual describes it: a ledger in an SQL database.
//! Reads the ledger page by page and says what it must show.
//! Must never write to the database.
//! Read next: `ayame.rs`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use sqlx::any::{AnyConnectOptions, AnyRow};
use sqlx::{AnyConnection, ConnectOptions, Row as _};

use super::dates::{INDEFINITE, NoForm};
use super::fact::{Fact, Facts};
use super::fold::Person;
use super::kaede::code;
use super::{Product, Shown, State, flatten};

const PAGE: i64 = 500;

/// Text columns of the ledger.
const COLUMNS: &[&str] = &[
    "shimei",
    "shimei_kana",
    "tsusho",
    "tsusho_kana",
    "umare_ymd",
    "umare_fusho",
    "seibetsu",
    "jumin_kbn",
    "jumin_ymd",
    "jumin_fusho",
    "ken",
    "shi",
    "machi",
    "banchi",
    "katagaki",
    "machi_cd",
    "yubin_no",
    "jutei_ymd",
    "jutei_fusho",
    "setai_no",
    "nushi_no",
    "nushi_misettei",
    "zokugara",
    "gaikoku_kbn",
    "zairyu_shikaku",
    "zairyu_kikan",
    "zairyu_manryo",
    "gaikoku_jumin_ymd",
    "jotai_kbn",
    "jotai_ymd",
    "jotai_fusho",
];

/// The insurance product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Momiji;

impl Product for Momiji {
    fn holds_protection(&self) -> bool {
        true
    }

    fn cannot_hold(&self, _: &Facts) -> bool {
        false
    }

    fn expected(&self, person: &Person) -> Result<Value, NoForm> {
        let get = |fact| person.get(fact);
        let date = |fact| get(fact).map(|date| date.replace('-', ""));
        let sochi: Map<String, Value> = person
            .measures
            .iter()
            .map(|(id, measure)| {
                (
                    id.clone(),
                    json!({"han": measure.version, "shuryo": i64::from(measure.ended)}),
                )
            })
            .collect();
        Ok(json!({
            "shimei": get(Fact::Name),
            "shimei_kana": get(Fact::Kana),
            "tsusho": get(Fact::Alias),
            "tsusho_kana": get(Fact::AliasKana),
            "umare_ymd": date(Fact::Birth),
            "umare_fusho": get(Fact::BirthNote),
            "seibetsu": code(get(Fact::Sex), &[("1", "1"), ("2", "2")], "9"),
            "jumin_kbn": code(get(Fact::Kind), &[("1", "01"), ("2", "02")], "?"),
            "jumin_ymd": date(Fact::ResidentSince),
            "jumin_fusho": get(Fact::ResidentSinceNote),
            "ken": get(Fact::Prefecture),
            "shi": get(Fact::City),
            "machi": get(Fact::Town),
            "banchi": get(Fact::Lot),
            "katagaki": get(Fact::Building),
            "machi_cd": get(Fact::TownCode),
            "yubin_no": get(Fact::Postcode),
            "jutei_ymd": date(Fact::Since),
            "jutei_fusho": get(Fact::SinceNote),
            "setai_no": get(Fact::Household),
            "nushi_no": get(Fact::Head),
            "nushi_misettei": code(get(Fact::HeadUnset), &[("1", "1")], "0"),
            "zokugara": get(Fact::Relationship),
            "gaikoku_kbn": get(Fact::ForeignCategory).map(|code| format!("G{code}")),
            "zairyu_shikaku": get(Fact::StatusOfResidence),
            "zairyu_kikan": get(Fact::StayPeriod),
            "zairyu_manryo": match get(Fact::StayUntil) {
                Some(INDEFINITE) => Some("99999999".to_owned()),
                _ => date(Fact::StayUntil),
            },
            "gaikoku_jumin_ymd": date(Fact::ForeignSince),
            "jotai_kbn": code(
                get(Fact::State),
                &[("2", "20"), ("3", "30"), ("9", "90")],
                "10",
            ),
            "jotai_ymd": date(Fact::StateOn),
            "jotai_fusho": get(Fact::StateOnNote),
            "hogo_flg": i64::from(person.is_protected()),
            "hogo_sochi": sochi,
        }))
    }
}

/// Reads everybody back.
pub(crate) async fn read(url: &str) -> Result<State> {
    sqlx::any::install_default_drivers();
    let options: AnyConnectOptions = url.parse().context("address of the ledger")?;
    let mut connection = options.connect().await.context("open the ledger")?;
    let mut measures = read_measures(&mut connection).await?;
    let columns = COLUMNS.join(", ");
    let query = format!(
        "SELECT kojin_no, rireki, hogo_flg, {columns} FROM hihokensha \
         WHERE kojin_no > $1 ORDER BY kojin_no LIMIT {PAGE}"
    );
    let mut state = State::new();
    let mut after = String::new();
    loop {
        let rows = sqlx::query(sqlx::AssertSqlSafe(query.as_str()))
            .bind(after.clone())
            .fetch_all(&mut connection)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(state);
        };
        after = last.try_get("kojin_no")?;
        for row in &rows {
            let number: String = row.try_get("kojin_no")?;
            let held = measures.remove(&number).unwrap_or_default();
            state.insert(number, shown(row, held)?);
        }
    }
}

async fn read_measures(
    connection: &mut AnyConnection,
) -> Result<HashMap<String, Map<String, Value>>> {
    let mut measures: HashMap<String, Map<String, Value>> = HashMap::new();
    let query = "SELECT kojin_no, sochi_no, han, shuryo FROM hogo_sochi";
    for row in sqlx::query(query).fetch_all(connection).await? {
        let (number, measure): (String, String) =
            (row.try_get("kojin_no")?, row.try_get("sochi_no")?);
        let (version, ended): (i64, i64) = (row.try_get("han")?, row.try_get("shuryo")?);
        let value = json!({"han": version, "shuryo": ended});
        measures.entry(number).or_default().insert(measure, value);
    }
    Ok(measures)
}

fn shown(row: &AnyRow, measures: Map<String, Value>) -> Result<Shown> {
    let mut fields = Map::new();
    for column in COLUMNS {
        let value: Option<String> = row.try_get(*column)?;
        fields.insert((*column).to_owned(), json!(value));
    }
    fields.insert(
        "hogo_flg".to_owned(),
        json!(row.try_get::<i64, _>("hogo_flg")?),
    );
    fields.insert("hogo_sochi".to_owned(), Value::Object(measures));
    let version = u32::try_from(row.try_get::<i64, _>("rireki")?).unwrap_or(0);
    Ok(Shown {
        version,
        fields: flatten(&Value::Object(fields)),
    })
}

//! かえで個人住民税 as its manual describes it: 和暦, one-line addresses, letters for codes.
//! Reads the product back page by page and says what it must show.
//! Must never use the adapter's tables: it has its own.
//! Read next: `momiji.rs`.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::dates::{NoForm, era_day};
use super::fact::{Fact, Facts};
use super::fold::Person;
use super::{Product, Shown, State, flatten};

const PAGE: u32 = 500;

/// The tax product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kaede;

impl Product for Kaede {
    fn holds_protection(&self) -> bool {
        true
    }

    fn cannot_hold(&self, _: &Facts) -> bool {
        false
    }

    fn expected(&self, person: &Person) -> Result<Value, NoForm> {
        let get = |fact| person.get(fact);
        let date = |fact| get(fact).map(wareki).transpose();
        let sochi: Vec<Value> = person
            .measures
            .iter()
            .map(|(id, measure)| {
                json!({"bango": id, "han": measure.version, "shuryo": measure.ended})
            })
            .collect();
        Ok(json!({
            "shimei": get(Fact::Name),
            "shimeiKana": get(Fact::Kana),
            "tsusho": get(Fact::Alias),
            "tsushoKana": get(Fact::AliasKana),
            "umare": date(Fact::Birth)?,
            "umareFusho": get(Fact::BirthNote),
            "seibetsu": code(get(Fact::Sex), &[("1", "M"), ("2", "F"), ("", "X")], "X"),
            "kubun": code(get(Fact::Kind), &[("1", "N"), ("2", "G")], "?"),
            "jusho": one_line(person),
            "yubin": get(Fact::Postcode),
            "jushoSadame": date(Fact::Since)?,
            "jushoSadameFusho": get(Fact::SinceNote),
            "setai": get(Fact::Household),
            "setainushi": get(Fact::Head),
            "zokugara": get(Fact::Relationship),
            "jotai": code(
                get(Fact::State),
                &[("1", "ZAIJU"), ("2", "TENSHUTSU"), ("3", "SHIBO"), ("9", "SHOJO")],
                "ZAIJU",
            ),
            "jotaiHi": date(Fact::StateOn)?,
            "jotaiHiFusho": get(Fact::StateOnNote),
            "hogo": {"hogochu": person.is_protected(), "sochi": sochi},
        }))
    }
}

fn wareki(date: &str) -> Result<String, NoForm> {
    let day = era_day(date)?;
    Ok(format!(
        "{}{}-{:02}-{:02}",
        day.era, day.year, day.month, day.day
    ))
}

fn one_line(person: &Person) -> Option<String> {
    let parts = [Fact::Prefecture, Fact::City, Fact::Town, Fact::Lot];
    let mut line: String = parts.iter().filter_map(|fact| person.get(*fact)).collect();
    if let Some(building) = person.get(Fact::Building) {
        line.push('　');
        line.push_str(&building.replace('\n', "　"));
    }
    (!line.is_empty()).then_some(line)
}

/// Looks a code up; `other` stands for what is not in the table.
pub(super) fn code(
    value: Option<&str>,
    table: &[(&str, &'static str)],
    other: &'static str,
) -> &'static str {
    let value = value.unwrap_or("");
    table
        .iter()
        .find(|(from, _)| *from == value)
        .map_or(other, |(_, to)| to)
}

/// Reads everybody back.
pub(crate) async fn read(client: &reqwest::Client, base: &str) -> Result<State> {
    let mut state = State::new();
    let mut after = String::new();
    loop {
        let url = format!("{base}/api/nozeisha?after={after}&limit={PAGE}");
        let page: Value = client
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        for person in page["nozeisha"].as_array().context("no list of persons")? {
            let (number, shown) = shown(person.clone())?;
            state.insert(number, shown);
        }
        match page["tsugi"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return Ok(state),
        }
    }
}

fn shown(mut person: Value) -> Result<(String, Shown)> {
    let members = person.as_object_mut().context("a person is no object")?;
    let number = members.remove("atenabango");
    let number = number
        .as_ref()
        .and_then(Value::as_str)
        .context("a person without a number")?;
    let version = members
        .remove("rireki")
        .and_then(|value| value.as_u64())
        .unwrap_or(0);
    if let Some(measures) = members
        .get_mut("hogo")
        .and_then(|hogo| hogo["sochi"].as_array_mut())
    {
        measures.sort_by_key(|measure| measure["bango"].to_string());
    }
    let number = number.to_owned();
    let version = u32::try_from(version).unwrap_or(0);
    Ok((
        number,
        Shown {
            version,
            fields: flatten(&person),
        },
    ))
}

//! あやめ国民年金 as its manual describes it: English names, a history of addresses.
//! Reads the product back page by page and says what it must show.
//! Must never use the adapter's tables: it has its own.
//! Read next: `hinoki.rs`, the product that it replaces.

use std::collections::HashSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::dates::{INDEFINITE, NoForm};
use super::fact::{Fact, Facts};
use super::fold::Person;
use super::kaede::code;
use super::{Product, Shown, State, flatten};

const PAGE: u32 = 500;
/// Entries of the address history that are kept.
const HISTORY_MAX: usize = 100;

/// The replacing pension product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ayame;

impl Product for Ayame {
    fn holds_protection(&self) -> bool {
        true
    }

    fn cannot_hold(&self, _: &Facts) -> bool {
        false
    }

    fn expected(&self, person: &Person) -> Result<Value, NoForm> {
        let get = |fact| person.get(fact);
        let date = |day, note| date_object(&person.facts, day, note);
        let measures: Vec<Value> = person
            .measures
            .iter()
            .map(|(id, measure)| {
                json!({"measure": id, "version": measure.version, "ended": measure.ended})
            })
            .collect();
        Ok(json!({
            "name": pair("full", get(Fact::Name), "reading", get(Fact::Kana)),
            "alias": pair("full", get(Fact::Alias), "reading", get(Fact::AliasKana)),
            "birth": date(Fact::Birth, Fact::BirthNote),
            "sex": code(get(Fact::Sex), &[("1", "male"), ("2", "female")], "unknown"),
            "nationalityClass": code(get(Fact::Kind), &[("1", "japanese"), ("2", "foreign")], "?"),
            "headOfHousehold": get(Fact::Head),
            "stay": pair(
                "category",
                get(Fact::ForeignCategory).map(category),
                "expires",
                get(Fact::StayUntil).map(|day| if day == INDEFINITE { "indefinite" } else { day }),
            ),
            "residence": {
                "status": code(
                    get(Fact::State),
                    &[("2", "moved_out"), ("3", "deceased"), ("9", "removed")],
                    "resident",
                ),
                "on": date(Fact::StateOn, Fact::StateOnNote),
            },
            "addresses": history(&person.addresses),
            "confidential": {"active": person.is_protected(), "measures": measures},
        }))
    }
}

/// Two members, or null when both are empty.
fn pair(first: &str, one: Option<&str>, second: &str, two: Option<&str>) -> Value {
    match (one, two) {
        (None, None) => Value::Null,
        (one, two) => json!({first: one, second: two}),
    }
}

fn date_object(facts: &Facts, day: Fact, note: Fact) -> Value {
    match facts.get(&day) {
        Some(date) => json!({"date": date, "wording": facts.get(&note)}),
        None => Value::Null,
    }
}

fn category(code: &str) -> &'static str {
    match code {
        "1" => "mid_to_long_term",
        "2" => "special_permanent",
        "3" => "temporary_refuge",
        "4" => "provisional_stay",
        "5" => "transitional_birth",
        "6" => "transitional_nationality_loss",
        _ => "?",
    }
}

/// Enters each address after the other by the rules of the manual (§3).
fn history(told: &[Facts]) -> Vec<Value> {
    let mut entries: Vec<Value> = Vec::new();
    for address in told {
        let mut entry = entry(address);
        match entries.last().map(|current| current["from"].clone()) {
            None => {}
            Some(from) if entry["from"].is_null() => {
                entry["from"] = from;
                entries.pop();
            }
            Some(from) if !from.is_null() && day(&entry["from"]) > day(&from) => {
                if let Some(current) = entries.last_mut() {
                    current["to"] = entry["from"]["date"].clone();
                }
            }
            Some(_) => {
                entries.pop();
            }
        }
        entries.push(entry);
    }
    let surplus = entries.len().saturating_sub(HISTORY_MAX);
    entries.split_off(surplus)
}

fn day(date: &Value) -> &str {
    date["date"].as_str().unwrap_or("")
}

fn entry(address: &Facts) -> Value {
    let get = |fact| address.get(&fact);
    json!({
        "from": date_object(address, Fact::Since, Fact::SinceNote),
        "to": null,
        "prefecture": get(Fact::Prefecture),
        "city": get(Fact::City),
        "town": get(Fact::Town),
        "lot": get(Fact::Lot),
        "building": get(Fact::Building),
        "postalCode": get(Fact::Postcode),
    })
}

/// Reads everybody back.
pub(crate) async fn read(client: &reqwest::Client, base: &str) -> Result<State> {
    let mut state = State::new();
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let url = format!("{base}/v2/persons?size={PAGE}{after}");
        let page: Value = client
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        for person in page["items"].as_array().context("no list of persons")? {
            let (number, shown) = shown(person.clone())?;
            state.insert(number, shown);
        }
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(state),
        }
    }
}

fn shown(mut person: Value) -> Result<(String, Shown)> {
    let members = person.as_object_mut().context("a person is no object")?;
    let number = members.remove("no");
    let number = number
        .as_ref()
        .and_then(Value::as_str)
        .context("a person without a number")?;
    let version = members
        .remove("version")
        .and_then(|value| value.as_u64())
        .unwrap_or(0);
    if let Some(measures) = members
        .get_mut("confidential")
        .and_then(|held| held["measures"].as_array_mut())
    {
        measures.sort_by_key(|measure| measure["measure"].to_string());
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

/// What the product applied: versions of persons, and measures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// 宛名番号 and 履歴番号.
    pub(crate) versions: HashSet<(String, u32)>,
    /// 宛名番号, 支援措置番号 and its version.
    pub(crate) measures: HashSet<(String, String, u32)>,
}

/// Reads the list of applied changes.
pub(crate) async fn read_applied(client: &reqwest::Client, base: &str) -> Result<Applied> {
    let mut applied = Applied::default();
    let mut after = 0;
    loop {
        let url = format!("{base}/v2/applied?after={after}&size={PAGE}");
        let page: Value = client
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        for item in page["items"].as_array().context("no list of changes")? {
            let number = item["no"]
                .as_str()
                .context("a change of nobody")?
                .to_owned();
            let version = u32::try_from(item["version"].as_u64().unwrap_or(0)).unwrap_or(0);
            match item["measure"].as_str() {
                Some(measure) => {
                    applied
                        .measures
                        .insert((number, measure.to_owned(), version));
                }
                None => {
                    applied.versions.insert((number, version));
                }
            }
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(applied),
        }
    }
}

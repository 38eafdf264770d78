//! Compares what a product holds with the truth of the town's files.
//! At the end of the demo, and in tests: the last word on whether a change really arrived.
//! Must never use a function of an adapter, of a product or of the SDK: it judges them.
//! Read next: `compare/fold.rs` (the truth), then one product such as `compare/kaede.rs`.

pub(crate) mod ayame;
mod change;
mod characters;
pub(crate) mod dates;
pub(crate) mod fact;
pub(crate) mod fold;
pub(crate) mod grants;
pub(crate) mod hinoki;
mod household;
pub(crate) mod kaede;
pub(crate) mod momiji;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use self::fold::{Person, Truth};

/// Most differences that a report names.
pub(crate) const DIFFERENCES_MAX: usize = 20;

/// Fields of one person by name, each as JSON text so that empty and absent stay apart.
pub(crate) type Fields = BTreeMap<String, String>;

/// One person as a product shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// 履歴番号 that the product holds.
    pub(crate) version: u32,
    /// Every field that it holds.
    pub(crate) fields: Fields,
}

/// Everybody that a product holds, by 宛名番号.
pub(crate) type State = BTreeMap<String, Shown>;

/// What the comparer must know of a product: its manual, read again on its own.
pub(crate) trait Product: Sync {
    /// True when the product holds the protection flag (支援措置).
    fn holds_protection(&self) -> bool;
    /// True when a value that the product is given has no agreed form in it.
    fn cannot_hold(&self, given: &fact::Facts) -> bool;
    /// Fields of a person as the product must show them; an error says why it has no form.
    fn expected(&self, person: &Person) -> Result<Value, dates::NoForm>;
}

/// One person whose fields differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// 業務ID.
    pub(crate) system: String,
    /// 宛名番号.
    pub(crate) person: String,
    /// Names of the fields that differ, or what is wrong with the person as a whole.
    pub(crate) fields: Vec<String>,
}

/// The result for one product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Persons who are equal.
    pub(crate) equal: usize,
    /// Persons whom the product must hold.
    pub(crate) total: usize,
    /// Persons who wait for a clerk and are expected to.
    pub(crate) waiting: usize,
    /// Persons who are not equal, who wait and should not, or should wait and do not.
    pub(crate) differences: Vec<Difference>,
}

impl Comparison {
    /// True when everybody is equal or rightly waits.
    pub(crate) fn holds(&self) -> bool {
        self.differences.is_empty() && self.equal + self.waiting == self.total
    }
}

/// Compares a product's state, and the set of persons who wait there, with the truth.
pub(crate) fn compare(
    system: &str,
    product: &dyn Product,
    truth: &Truth,
    state: &State,
    waiting: &BTreeSet<String>,
) -> Comparison {
    let mut comparison = Comparison {
        total: truth.persons.len(),
        ..Comparison::default()
    };
    let mut differ = |person: &str, fields: Vec<String>| {
        comparison.differences.push(Difference {
            system: system.to_owned(),
            person: person.to_owned(),
            fields,
        });
    };
    let mut equal = 0;
    let mut waits = 0;
    for (number, person) in &truth.persons {
        match (person.waits, waiting.contains(number)) {
            (true, true) => waits += 1,
            (true, false) => differ(number, vec!["(must wait for a clerk and does not)".into()]),
            (false, true) => differ(number, vec!["(waits for a clerk and must not)".into()]),
            (false, false) => match differing_at_best(product, person, state.get(number)) {
                fields if fields.is_empty() => equal += 1,
                fields => differ(number, fields),
            },
        }
    }
    for number in state
        .keys()
        .filter(|number| !truth.persons.contains_key(*number))
    {
        differ(number, vec!["(is held and must not be)".into()]);
    }
    for number in waiting
        .iter()
        .filter(|number| !truth.persons.contains_key(*number))
    {
        differ(
            number,
            vec!["(waits and is unknown to the registry)".into()],
        );
    }
    comparison.equal = equal;
    comparison.waiting = waits;
    comparison
}

/// A person's differing fields; where an address may have been withheld, those of the closest
/// form that the product may show.
fn differing_at_best(product: &dyn Product, person: &Person, shown: Option<&Shown>) -> Vec<String> {
    let fields = differing(product, person, shown);
    if fields.is_empty() || product.holds_protection() || !person.ever_protected {
        return fields;
    }
    let others = person.with_withheld_address();
    let equal = others
        .iter()
        .any(|other| differing(product, other, shown).is_empty());
    if equal { Vec::new() } else { fields }
}

fn differing(product: &dyn Product, person: &Person, shown: Option<&Shown>) -> Vec<String> {
    let Some(shown) = shown else {
        return vec!["(is missing)".into()];
    };
    let expected = match product.expected(person) {
        Ok(expected) => flatten(&expected),
        Err(no_form) => return vec![format!("{no_form}")],
    };
    let names: BTreeSet<&String> = expected.keys().chain(shown.fields.keys()).collect();
    let mut fields: Vec<String> = names
        .into_iter()
        .filter(|name| expected.get(*name) != shown.fields.get(*name))
        .cloned()
        .collect();
    if !(person.version_least..=person.version_last).contains(&shown.version) {
        fields.push("(version)".into());
    }
    fields
}

/// Flattens a JSON object into dotted names; an empty object or array keeps its own entry.
pub(crate) fn flatten(value: &Value) -> Fields {
    let mut fields = Fields::new();
    flatten_into(&mut fields, String::new(), value);
    fields
}

fn flatten_into(fields: &mut Fields, name: String, value: &Value) {
    let below = |key: &str| match name.as_str() {
        "" => key.to_owned(),
        name => format!("{name}.{key}"),
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                flatten_into(fields, below(key), member);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten_into(fields, below(&index.to_string()), item);
            }
        }
        leaf => {
            fields.insert(name, leaf.to_string());
        }
    }
}

#[cfg(test)]
mod tests;

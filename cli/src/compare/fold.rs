//! What a product must hold in the end: the town's rows, folded event by event as it is granted.
//! Between the town's files and the product's own form.
//! Must never read the hub: the truth comes from the registry's files and the grants alone.
//! Read next: `kaede.rs`, `hinoki.rs`, `ayame.rs`, `momiji.rs`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Product;
use super::change::{self, Measure, Measures};
use super::fact::{self, Fact, Facts};
use super::grants::Grants;
use super::household::Households;
use super::table::{self, Row};

/// One row as an event.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    /// Short name of the event.
    pub(crate) event: &'static str,
    /// The row with the image after the change.
    pub(crate) row: Row,
    head: Option<String>,
    /// The measure that a row 62 to 64 is about.
    pub(crate) measure: Option<(String, Measure)>,
    /// Paths that a correction names as changed; empty for every other event.
    pub(crate) changed: Vec<&'static str>,
}

/// A town's files as events in order.
#[derive(Debug)]
pub(crate) struct Town {
    /// The snapshot's persons, then the changes.
    pub(crate) happenings: Vec<Happening>,
}

/// One person as a product must hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Person {
    /// Its items.
    pub(crate) facts: Facts,
    /// Its support measures.
    pub(crate) measures: BTreeMap<String, Measure>,
    /// Each address that the product was told, in order, with the day since which it holds.
    pub(crate) addresses: Vec<Facts>,
    /// Last version that changed an item of the product.
    pub(crate) version_least: u32,
    /// Last version that the product was told.
    pub(crate) version_last: u32,
    /// True when a value without an agreed form was given: it waits for a clerk, with all that
    /// follows.
    pub(crate) waits: bool,
    /// True once any measure protected the person.
    pub(crate) ever_protected: bool,
    held: bool,
}

impl Person {
    /// The person as a product that cannot hold the flag may show it: the hub withholds an
    /// address from the moment at which it knows of a measure, so that any address told before
    /// the first measure may never have come, or an earlier one may still stand.
    pub(crate) fn with_withheld_address(&self) -> Vec<Person> {
        let facts_of_address = fact::facts_of("record.address");
        let mut told: Vec<Facts> = vec![Facts::default()];
        told.extend(self.addresses.iter().cloned());
        told.into_iter()
            .map(|address| {
                let mut person = self.clone();
                person.version_least = 0;
                for fact in facts_of_address {
                    fact::put(&mut person.facts, *fact, address.get(fact).cloned());
                }
                person
            })
            .collect()
    }

    /// True while any measure protects the person.
    pub(crate) fn is_protected(&self) -> bool {
        self.measures.values().any(|measure| !measure.ended)
    }

    /// An item; `None` when it is empty.
    pub(crate) fn get(&self, fact: Fact) -> Option<&str> {
        self.facts.get(&fact).map(String::as_str)
    }
}

/// Everybody whom a product must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    /// By 宛名番号.
    pub(crate) persons: BTreeMap<String, Person>,
}

impl Town {
    /// Reads a town's folder and proves it against the files that say how it ends.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let persons = |name: &str| table::read_persons(&folder.join(name));
        let mut snapshot = persons("residents_before.csv")?;
        snapshot.extend(persons("removed_before.csv")?);
        let changes = table::read_changes(&folder.join("changes.csv"))?;
        let (town, last) = Self::build(snapshot, changes)?;
        let mut ends = persons("residents_after.csv")?;
        ends.extend(persons("removed.csv")?);
        prove(&last, &ends).with_context(|| format!("town in `{}`", folder.display()))?;
        Ok(town)
    }

    /// Makes events of rows; also returns the last image of everybody.
    pub(crate) fn build(snapshot: Vec<Row>, changes: Vec<Row>) -> Result<(Self, Households)> {
        let columns: Vec<String> = snapshot
            .first()
            .context("the snapshot is empty")?
            .columns()
            .filter(|column| !change::AUDIT.contains(column))
            .map(str::to_owned)
            .collect();
        let mut homes = Households::default();
        let mut measures = Measures::default();
        for row in &snapshot {
            homes.put(row);
            measures.see(row);
        }
        let mut happenings: Vec<Happening> = snapshot
            .into_iter()
            .map(|row| happening("ResidentSnapshotPublished", row, &homes, None))
            .collect();
        for group in change::groups(changes) {
            let formers: Vec<Option<Row>> = group.iter().map(|row| homes.put(row)).collect();
            for (row, former) in group.into_iter().zip(formers) {
                let changed = change::changed(&row, former.as_ref(), &columns);
                let event = change::event_of(&row, &changed)
                    .with_context(|| format!("change {}", row.get("idorenban")))?;
                let paths = change::changed_paths(event, &changed);
                let measure = measures.told_by(&row);
                measures.see(&row);
                let happening = happening(event, row, &homes, measure);
                happenings.push(Happening {
                    changed: paths,
                    ..happening
                });
            }
        }
        Ok((Self { happenings }, homes))
    }
}

fn happening(
    event: &'static str,
    row: Row,
    homes: &Households,
    measure: Option<(String, Measure)>,
) -> Happening {
    let head = homes.head_of(&row).map(str::to_owned);
    Happening {
        event,
        row,
        head,
        measure,
        changed: Vec::new(),
    }
}

/// Proves the fold of the rows against `residents_after.csv` and `removed.csv`.
fn prove(last: &Households, ends: &[Row]) -> Result<()> {
    let ends: HashMap<&str, &Row> = ends.iter().map(|row| (row.person(), row)).collect();
    for image in last.images() {
        match ends.get(image.person()) {
            Some(end) => {
                if let Some(column) = end.columns().find(|c| end.get(c) != image.get(c)) {
                    bail!(
                        "`{column}` of {} does not end as its files say",
                        image.person()
                    );
                }
            }
            None if image.is_resident() => {
                bail!("{} is missing in `residents_after.csv`", image.person())
            }
            // Somebody who had left before the first day and has no row.
            None => {}
        }
    }
    Ok(())
}

/// Folds the events into what a product of a system must hold.
pub(crate) fn fold(town: &Town, grants: &Grants, product: &dyn Product) -> Truth {
    let mut persons: BTreeMap<String, Person> = BTreeMap::new();
    for happening in &town.happenings {
        let person = persons
            .entry(happening.row.person().to_owned())
            .or_default();
        apply(person, happening, grants, product);
    }
    persons.retain(|_, person| person.held);
    Truth { persons }
}

fn apply(person: &mut Person, happening: &Happening, grants: &Grants, product: &dyn Product) {
    let Happening { event, row, .. } = happening;
    let Some(paths) = grants.paths(event).filter(|_| grants.receives(happening)) else {
        return;
    };
    if let Some((id, told)) = &happening.measure {
        // A product keeps a measure for a person to come; the highest version counts.
        person.ever_protected = true;
        let held = person.measures.entry(id.clone()).or_insert(*told);
        if told.version > held.version {
            *held = *told;
        }
        return;
    }
    person.held |= creates(event);
    if !person.held || person.waits {
        return;
    }
    let protects = matches!(row.get("shiensochikubun"), "1" | "2");
    if protects && grants.covers(event, "record.protection") {
        person.ever_protected = true;
        let seen = Measure {
            version: 0,
            ended: false,
        };
        person
            .measures
            .entry(row.get("shiensochibango").to_owned())
            .or_insert(seen);
    }
    let withheld = !product.holds_protection() && (protects || person.is_protected());
    let given = given(happening, paths, grants, withheld);
    let values: Facts = given
        .iter()
        .filter_map(|(fact, value)| Some((*fact, value.clone()?)))
        .collect();
    if product.cannot_hold(&values) {
        person.waits = true;
        return;
    }
    person.version_last = row.version();
    if !given.is_empty() {
        person.version_least = row.version();
    }
    if given.iter().any(|(fact, _)| *fact == Fact::Town) {
        person.addresses.push(values);
    }
    for (fact, value) in given {
        fact::put(&mut person.facts, fact, value);
    }
}

fn creates(event: &str) -> bool {
    matches!(
        event,
        "ResidentSnapshotPublished"
            | "ResidentMovedIn"
            | "ResidentRecordedByAuthority"
            | "ResidentBorn"
    )
}

/// Items that an event gives to the receiver, empty ones too.
fn given(
    happening: &Happening,
    paths: &[String],
    grants: &Grants,
    withheld: bool,
) -> Vec<(Fact, Option<String>)> {
    let row = &happening.row;
    let mut given: Vec<(Fact, Option<String>)> = paths
        .iter()
        .filter(|path| !(withheld && is_address(path)))
        .flat_map(|path| fact::facts_of(path))
        .map(|fact| (*fact, fact::value_of(*fact, row, happening.head.as_deref())))
        .collect();
    given.extend(state(happening, grants));
    given
}

/// The day since which it holds is no address.
fn is_address(path: &str) -> bool {
    path == "record.address"
}

/// State of the person, where the event tells it by its meaning or by a granted path.
fn state(happening: &Happening, grants: &Grants) -> Vec<(Fact, Option<String>)> {
    let Happening { event, row, .. } = happening;
    let inherits = matches!(row.get("idojiyukodo"), "23" | "24");
    let told = matches!(
        *event,
        "ResidentMovedIn" | "ResidentRecordedByAuthority" | "ResidentBorn"
    ) || (grants.covers(event, "record.resident_state") && !inherits);
    if !told {
        return Vec::new();
    }
    let value = |fact| (fact, fact::value_of(fact, row, None));
    let mut state = vec![value(Fact::State)];
    if row.is_resident() {
        state.extend([(Fact::StateOn, None), (Fact::StateOnNote, None)]);
    } else if *event != "ResidentSnapshotPublished" {
        state.extend([value(Fact::StateOn), value(Fact::StateOnNote)]);
    } else if grants.covers(event, "record.deletion.moved_out_on") {
        // Of a removed record (除票) a snapshot shows only the day of a confirmed move.
        let day = row.get("tenshutsukakuteinengappi");
        state.push((Fact::StateOn, (!day.is_empty()).then(|| day.to_owned())));
    }
    state
}

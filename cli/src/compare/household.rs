//! Who is the head of a household: the rows name the head, the contract tells the number.
//! Beside the fold: it keeps the last image of everybody, by person and by household.
//! Must never look at a household inside a 届出: households agree at its end only.
//! Read next: `fold.rs`.

use std::collections::{BTreeSet, HashMap};

use super::table::Row;

/// 続柄コード of the head.
const HEAD: &str = "01";

/// The last image of everybody.
#[derive(Debug, Default)]
pub(crate) struct Households {
    images: HashMap<String, Row>,
    members: HashMap<String, BTreeSet<String>>,
}

impl Households {
    /// Replaces the image of a person and returns the former one.
    pub(crate) fn put(&mut self, row: &Row) -> Option<Row> {
        let person = row.person().to_owned();
        let former = self.images.insert(person.clone(), row.clone());
        if let Some(former) = &former
            && let Some(members) = self.members.get_mut(former.get("setaibango"))
        {
            members.remove(&person);
        }
        let home = row.get("setaibango").to_owned();
        self.members.entry(home).or_default().insert(person);
        former
    }

    /// Last image of everybody.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Row> {
        self.images.values()
    }

    /// 宛名番号 of the head of the household that a row names.
    pub(crate) fn head_of(&self, row: &Row) -> Option<&str> {
        if row.get("setainushimisetteifuragu") == "1" {
            return None;
        }
        let heads = || {
            self.members
                .get(row.get("setaibango"))
                .into_iter()
                .flatten()
                .filter_map(|person| self.images.get(person))
                .filter(|image| image.get("zokugarakodo") == HEAD)
        };
        let own = || heads().find(|image| image.person() == row.person());
        let registered = || heads().find(|image| image.is_resident());
        let named = || heads().find(|image| image.get("shimei") == row.get("setainushi_shimei"));
        let head = match row.is_resident() {
            true => registered(),
            false => own().or_else(registered).or_else(named),
        };
        head.map(Row::person)
    }
}

//! The demo's result: a table for people, one JSON document for programs.
//! Last step of the demo; the exit status comes from here.
//! Must never hold personal data but the 宛名番号 of persons that differ.
//! Read next: `demo.rs`.

use serde::Serialize;
use serde_json::{Value, json};

use crate::compare::{DIFFERENCES_MAX, Difference};
use crate::output::Table;

/// One system's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SystemResult {
    /// 業務ID.
    pub(crate) system: String,
    /// Product that serves it in the end.
    pub(crate) product: String,
    /// Events routed to it.
    pub(crate) received: u64,
    /// Events that the product took over.
    pub(crate) applied: u64,
    /// Events that it had already.
    pub(crate) duplicate: u64,
    /// Events that a later one made needless.
    pub(crate) superseded: u64,
    /// Events that it has no use for.
    pub(crate) not_relevant: u64,
    /// Persons who wait for a clerk.
    pub(crate) waiting: u64,
    /// Events that were refused and are parked.
    pub(crate) refused: u64,
    /// Persons whose state is equal to the truth.
    pub(crate) state_equal: u64,
    /// Persons whom it must hold.
    pub(crate) state_total: u64,
}

/// The swap's numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SwapResult {
    /// 業務ID.
    pub(crate) system: String,
    /// Product that served before.
    pub(crate) from: String,
    /// Product that serves now.
    pub(crate) to: String,
    /// Position of the cut.
    pub(crate) position: u64,
    /// How long publishing waited.
    pub(crate) publish_pause_ms: f64,
    /// Events that neither reached the new product nor have an outcome that explains it.
    pub(crate) lost: u64,
    /// Events after the cut that both products applied.
    pub(crate) by_both: u64,
    /// Events after the cut that neither applied, without an outcome that explains it.
    pub(crate) by_neither: u64,
    /// True when the old product had a file without results at the cut.
    pub(crate) open_file: bool,
    /// Persons parked at the old product at the cut.
    pub(crate) parked: u64,
}

/// The whole result.
#[derive(Debug, Clone, Default)]
pub(crate) struct DemoResult {
    /// By 業務ID.
    pub(crate) systems: Vec<SystemResult>,
    /// `None` without a swap.
    pub(crate) swap: Option<SwapResult>,
    /// Rows that were refused with the right rule.
    pub(crate) invalid_refused: u64,
    /// Rows that must be refused.
    pub(crate) invalid_total: u64,
    /// Duration.
    pub(crate) seconds: f64,
    /// Most memory that the hub had.
    pub(crate) hub_rss_bytes: u64,
    /// Processes that were started again.
    pub(crate) restarts: u32,
    /// What was killed on purpose and not started again.
    pub(crate) killed: Vec<String>,
    /// Persons that differ.
    pub(crate) differences: Vec<Difference>,
    /// Other things that are wrong.
    pub(crate) problems: Vec<String>,
}

impl DemoResult {
    /// True when everything holds.
    pub(crate) fn ok(&self) -> bool {
        let equal = |system: &SystemResult| {
            system.state_total > 0 && system.state_equal + system.waiting == system.state_total
        };
        let swapped = |swap: &SwapResult| (swap.lost, swap.by_both, swap.by_neither) == (0, 0, 0);
        !self.systems.is_empty()
            && self.systems.iter().all(equal)
            && self.swap.as_ref().is_none_or(swapped)
            && self.invalid_refused == self.invalid_total
            && self.differences.is_empty()
            && self.problems.is_empty()
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let differences: Vec<&Difference> = self.differences.iter().take(DIFFERENCES_MAX).collect();
        json!({
            "ok": self.ok(),
            "systems": self.systems,
            "swap": self.swap,
            "invalid_refused": self.invalid_refused,
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "hub_rss_bytes": self.hub_rss_bytes,
            "restarts": self.restarts,
            "killed": self.killed,
            "differences": differences,
            "problems": self.problems,
        })
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let mut text = self.table().render();
        text.push('\n');
        if let Some(swap) = &self.swap {
            text.push_str(&format!(
                "Swap of {} from {} to {} at position {}: publishing paused {:.1} ms; lost {}, \
                 after the cut applied by both {}, by neither {}\n",
                name_of(&swap.system),
                swap.from,
                swap.to,
                swap.position,
                swap.publish_pause_ms,
                swap.lost,
                swap.by_both,
                swap.by_neither
            ));
        }
        text.push_str(&format!(
            "Rows that break a rule: {} of {} refused with the rule, and held\n",
            self.invalid_refused, self.invalid_total
        ));
        text.push_str(&format!(
            "{:.1} s, hub {:.1} MB, {} processes started again\n",
            self.seconds,
            megabytes(self.hub_rss_bytes),
            self.restarts
        ));
        if !self.killed.is_empty() {
            let killed = self.killed.join(", ");
            text.push_str(&format!(
                "Killed half-way and not started again: {killed}\n"
            ));
        }
        for problem in &self.problems {
            text.push_str(&format!("WRONG  {problem}\n"));
        }
        for difference in self.differences.iter().take(DIFFERENCES_MAX) {
            let fields = difference.fields.join(", ");
            text.push_str(&format!(
                "WRONG  {} {}: {fields}\n",
                difference.system, difference.person
            ));
        }
        let more = self.differences.len().saturating_sub(DIFFERENCES_MAX);
        if more > 0 {
            text.push_str(&format!("WRONG  and {more} persons more\n"));
        }
        text.push_str(match self.ok() {
            true => "All of it holds.\n",
            false => "It does not hold.\n",
        });
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "SYSTEM",
            "PRODUCT",
            "RECEIVED",
            "APPLIED",
            "DUPLICATE",
            "SUPERSEDED",
            "NOT RELEVANT",
            "REFUSED",
            "WAITING",
            "STATE EQUAL TO THE REGISTRY'S TRUTH",
        ]);
        for system in &self.systems {
            let numbers = [
                system.received,
                system.applied,
                system.duplicate,
                system.superseded,
                system.not_relevant,
                system.refused,
                system.waiting,
            ];
            let mut row = vec![name_of(&system.system), system.product.clone()];
            row.extend(numbers.iter().map(u64::to_string));
            row.push(format!("{} of {}", system.state_equal, system.state_total));
            table.row(row);
        }
        table
    }
}

/// 業務ID with its name.
fn name_of(system: &str) -> String {
    let name = match system {
        "001" => "住民基本台帳",
        "010" => "個人住民税",
        "024" => "国民健康保険",
        "026" => "国民年金",
        _ => "",
    };
    format!("{system} {name}").trim_end().to_owned()
}

fn megabytes(bytes: u64) -> f64 {
    let kilobytes = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    f64::from(kilobytes) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> DemoResult {
        let system = |id: &str| SystemResult {
            system: id.to_owned(),
            product: "p".to_owned(),
            state_equal: 9,
            waiting: 1,
            state_total: 10,
            ..SystemResult::default()
        };
        let swap = SwapResult {
            system: "026".into(),
            from: "hinoki".into(),
            to: "ayame".into(),
            position: 7,
            publish_pause_ms: 0.4,
            lost: 0,
            by_both: 0,
            by_neither: 0,
            open_file: true,
            parked: 1,
        };
        DemoResult {
            systems: vec![system("010"), system("024"), system("026")],
            swap: Some(swap),
            invalid_refused: 42,
            invalid_total: 42,
            ..DemoResult::default()
        }
    }

    #[test]
    fn it_holds_only_when_all_of_it_holds() {
        assert!(good().ok());
        let wrong: [fn(&mut DemoResult); 7] = [
            |result| result.systems[1].state_equal -= 1,
            |result| result.systems.clear(),
            |result| result.swap.as_mut().unwrap().lost = 1,
            |result| result.swap.as_mut().unwrap().by_both = 1,
            |result| result.swap.as_mut().unwrap().by_neither = 1,
            |result| result.invalid_refused = 41,
            |result| result.problems.push("x".into()),
        ];
        for spoil in wrong {
            let mut result = good();
            spoil(&mut result);
            assert!(!result.ok());
            assert_eq!(result.json()["ok"], false);
        }
    }

    #[test]
    fn the_document_has_every_key() {
        let document = good().json();
        for key in [
            "ok",
            "systems",
            "swap",
            "invalid_refused",
            "seconds",
            "hub_rss_bytes",
        ] {
            assert!(document.get(key).is_some(), "{key}");
        }
        let swap = [
            "system",
            "from",
            "to",
            "position",
            "publish_pause_ms",
            "lost",
            "by_both",
        ];
        assert!(swap.iter().all(|key| document["swap"].get(key).is_some()));
        assert!(good().text().contains("9 of 10"));
    }
}

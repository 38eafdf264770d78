//! Runs the rules of a row: one that does not hold is a panic, and becomes a violation.
//! For rows that are many small rules, each an assertion.
//! Must never lose the words of the rule that did not hold.
//! Read next: `rows/data.rs`.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::row::{RowReport, Running};

/// Runs a row; its panic ends nothing else.
pub fn judged(rules: impl Future<Output = RowReport> + 'static) -> Running {
    Box::pin(async move {
        // A row that broke is dropped as a whole: nobody sees what it left half done.
        let report = AssertUnwindSafe(rules).catch_unwind().await;
        Ok(report.unwrap_or_else(|panic| broken(&*panic)))
    })
}

fn broken(panic: &(dyn std::any::Any + Send)) -> RowReport {
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    RowReport {
        injected: 1,
        violations: vec![words.unwrap_or_else(|| "a rule does not hold".to_owned())],
        ..RowReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rule_that_does_not_hold_is_a_violation_with_its_words() {
        let number = 7;
        let report = judged(async move { panic!("{number} is not 8") }).await;
        assert_eq!(report.unwrap().violations, ["7 is not 8"]);
        let passed = judged(async { RowReport::default() }).await.unwrap();
        assert!(passed.violations.is_empty());
    }
}

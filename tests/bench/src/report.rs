//! What a measurement is reported as: the aim, the value with its spread, passed or missed.
//! Printed at the end of a run and copied into `docs/performance.md`.
//! Must never report a value without its spread, nor an aim that cannot be missed.
//! Read next: `figures.rs`.

use std::fmt;

/// Median, lowest and highest of some measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    lowest: f64,
    highest: f64,
    rounds: usize,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(values.len() / 2),
            lowest: at(0),
            highest: at(values.len().saturating_sub(1)),
            rounds: values.len(),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$}", self.median)?;
        if self.rounds > 1 {
            write!(f, " ({:.digits$}–{:.digits$})", self.lowest, self.highest)?;
        }
        Ok(())
    }
}

/// What a value should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// Reported for the reader; the figures that it explains have the aims.
    None,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) aim: Aim,
    pub(crate) value: Spread,
}

impl Figure {
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        aim: Aim,
        values: Vec<f64>,
    ) -> Self {
        Self {
            name: name.into(),
            unit,
            aim,
            value: Spread::of(values),
        }
    }

    fn verdict(&self) -> &'static str {
        let met = match self.aim {
            Aim::AtLeast(least) => self.value.median >= least,
            Aim::AtMost(most) => self.value.median <= most,
            Aim::None => return "",
        };
        // A value that is no number meets nothing.
        if met { "pass" } else { "MISS" }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aim = match self.aim {
            Aim::AtLeast(least) => format!("≥ {least}"),
            Aim::AtMost(most) => format!("≤ {most}"),
            Aim::None => String::new(),
        };
        let digits = if self.value.median.abs() >= 100.0 {
            0
        } else {
            3
        };
        write!(
            f,
            "| {} | {aim} | {:.digits$} {} | {} |",
            self.name,
            self.value,
            self.unit,
            self.verdict()
        )
    }
}

//! Medians, and the table that is printed.

use super::Outcome;
use std::time::{Duration, Instant};

/// What a figure has to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Told for the reader; nothing is asked of it.
    None,
}

/// The unit of a pair of figures.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    PerSecond,
    Micros,
    Millis,
    Kilobytes,
    Times,
}

/// One line: our figure, the floor's, and a ratio (or our figure itself) that the goal judges.
pub(crate) struct Row<'a> {
    pub(crate) what: &'a str,
    pub(crate) size: u32,
    pub(crate) unit: Unit,
    pub(crate) ours: f64,
    /// What it is held against, in words, and its figure.
    pub(crate) floor: Option<(&'a str, f64)>,
    pub(crate) goal: Goal,
}

/// Counts what was missed while the lines are printed.
#[derive(Default)]
pub(crate) struct Table {
    missed: u32,
}

impl Table {
    /// A table whose head is printed.
    pub(crate) fn begin() -> Self {
        say(&format!(
            "{:<38} {:>6}  {:>13}  {:>13} {:<22} {:>7}  {:>8}  {}",
            "what", "VMs", "gateway", "floor", "", "ratio", "goal", "verdict"
        ));
        Self::default()
    }

    /// Prints a line. A goal is about the ratio; without a floor, about the figure itself.
    pub(crate) fn row(&mut self, row: &Row<'_>) {
        let judged = row.floor.map_or(row.ours, |(_, floor)| row.ours / floor);
        let (goal, met) = match row.goal {
            Goal::AtLeast(least) => (format!("≥ {least}"), judged >= least),
            Goal::AtMost(most) => (format!("≤ {most}"), judged <= most),
            Goal::None => (String::new(), true),
        };
        let verdict = match (row.goal, met) {
            (Goal::None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        self.missed += u32::from(!met);
        let ratio = row.floor.map_or(String::new(), |_| format!("{judged:.2}"));
        let (floor, words) = row.floor.map_or((String::new(), ""), |(words, floor)| {
            (shown(floor, row.unit), words)
        });
        say(&format!(
            "{:<38} {:>6}  {:>13}  {:>13} {:<22} {:>7}  {:>8}  {}",
            row.what,
            row.size,
            shown(row.ours, row.unit),
            floor,
            words,
            ratio,
            goal,
            verdict
        ));
    }

    /// Says how it went.
    pub(crate) fn end(&self) {
        match self.missed {
            0 => say("all goals are met"),
            missed => say(&format!("{missed} goals are missed")),
        }
    }
}

fn shown(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => format!("{figure:.0} /s"),
        Unit::Micros => format!("{figure:.0} µs"),
        Unit::Millis => format!("{figure:.1} ms"),
        Unit::Times => format!("{figure:.0}"),
        Unit::Kilobytes => format!("{figure:.1} kB"),
    }
}

/// Microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median.
pub(crate) fn middle(times: &mut [Duration]) -> Outcome<Duration> {
    percentile(times, 50)
}

/// The time that so many of a hundred do not exceed.
pub(crate) fn percentile(times: &mut [Duration], hundredths: usize) -> Outcome<Duration> {
    times.sort_unstable();
    let place = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
    times
        .get(place)
        .copied()
        .ok_or_else(|| "nothing was measured".into())
}

/// The time that each of several runs takes.
pub(crate) fn time(times: usize, mut run: impl FnMut() -> Outcome<()>) -> Outcome<Vec<Duration>> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        run()?;
        taken.push(start.elapsed());
    }
    Ok(taken)
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

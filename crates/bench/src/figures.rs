//! Figures of several runs: median, minimum, maximum, unit; as a table, as JSON, as a dated report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::machine::Machine;

/// One figure over all runs.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub unit: &'static str,
    /// What the project holds itself to, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// Gathers the runs of one workload.
#[derive(Default)]
pub struct Figures {
    runs: Vec<(&'static str, &'static str, Option<String>, Vec<f64>)>,
}

impl Figures {
    /// Adds one run's value of a figure.
    pub fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        match self.runs.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push(value),
            None => self.runs.push((name, unit, None, vec![value])),
        }
    }

    /// States what a figure is held to.
    pub fn limit(&mut self, name: &str, limit: &str) {
        if let Some((_, _, stated, _)) = self.runs.iter_mut().find(|(known, ..)| *known == name) {
            *stated = Some(limit.to_owned());
        }
    }

    fn finish(self) -> Vec<(&'static str, Figure)> {
        self.runs
            .into_iter()
            .map(|(name, unit, limit, mut values)| {
                values.sort_by(f64::total_cmp);
                let (min, max) = (values[0], values[values.len() - 1]);
                (name, Figure { median: median(&values), min, max, unit, limit })
            })
            .collect()
    }
}

/// The middle of sorted values; the mean of the two middle ones of an even number.
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

pub struct Report {
    name: &'static str,
    date: String,
    machine: Machine,
    figures: Vec<(&'static str, Figure)>,
}

impl Report {
    pub fn new(name: &'static str, figures: Figures) -> Self {
        Self { name, date: crate::machine::today(), machine: Machine::look(), figures: figures.finish() }
    }

    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            name: &'a str,
            date: &'a str,
            machine: &'a Machine,
            figures: BTreeMap<&'a str, &'a Figure>,
        }
        let figures = self.figures.iter().map(|(name, figure)| (*name, figure)).collect();
        let object = Object { name: self.name, date: &self.date, machine: &self.machine, figures };
        serde_json::to_string(&object).unwrap_or_default()
    }

    pub fn to_table(&self) -> String {
        let mut table = format!("{} on {}, {}\n\n", self.name, self.machine, self.date);
        let _ = writeln!(
            table,
            "| figure | median | min | max | unit | held to |\n| --- | ---: | ---: | ---: | --- | --- |"
        );
        for (name, f) in &self.figures {
            let [median, min, max] = [f.median, f.min, f.max].map(human);
            let limit = f.limit.as_deref().unwrap_or("");
            let _ = writeln!(table, "| `{name}` | {median} | {min} | {max} | {} | {limit} |", f.unit);
        }
        table
    }

    /// Writes `docs/reports/DATE-NAME.md` and `.json` below the working directory.
    pub fn save(&self) -> std::io::Result<PathBuf> {
        let folder = PathBuf::from("docs/reports");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.md", self.date, self.name));
        // Whoever repeats it has another home.
        let home = std::env::var("HOME").unwrap_or_default();
        let at_home = |argument: String| match argument.strip_prefix(&home) {
            Some(below) if !home.is_empty() && below.starts_with('/') => format!("~{below}"),
            _ => argument,
        };
        let arguments: Vec<String> = std::env::args().skip(1).map(at_home).collect();
        let command = format!("Repeat with: `cargo run --release -p omma-bench -- {}`\n", arguments.join(" "));
        std::fs::write(&path, format!("# {}\n\n{}\n{command}", self.name, self.to_table()))?;
        std::fs::write(path.with_extension("json"), self.to_json() + "\n")?;
        Ok(path)
    }
}

/// Four significant digits.
fn human(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        v if v >= 1.0 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

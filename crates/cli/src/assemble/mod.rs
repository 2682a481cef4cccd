//! From a checked configuration to the parts of an engine: opens what the configuration names, and says what it chose.
//!
//! Runs once at start, on the main thread. The one place that knows both the configuration and the adapters.

mod models;
mod outputs;
mod python;
#[cfg(feature = "redis")]
mod redis;
mod sinks;
mod sources;
mod store;
#[cfg(feature = "triton")]
mod triton;

use std::collections::BTreeMap;
use std::sync::Arc;

use omma_adapters::sink::jsonl::ModelLabels;
use omma_adapters::threads::schedule;
use omma_config::Config;
use omma_engine::cameras::{CameraPlan, Cameras};
use omma_engine::clock::{Clock, SystemClock};
use omma_engine::pipeline::{ModelStore, Parts, SourcePart};
use omma_engine::plan::Plan;
use omma_frame::{CameraId, CameraIndex};

pub use models::{Opened, OpenedModel, embedded};
pub use outputs::plan as output_plan;
pub use sources::Place;
pub use store::Store;

use crate::exit::Failure;
use crate::human;
use crate::usage;

/// Adds a camera to a source that runs; `false`: too many wait to be taken up, try again in a moment.
pub type AddCamera = Box<dyn Fn(CameraId) -> bool + Send>;

/// Parts that an engine can be started with, and what is worth saying about them.
pub struct Assembled {
    pub parts: Parts,
    /// Where other versions of the models come from; the parts have it too.
    pub store: Arc<Store>,
    /// By name the sources that take further cameras while they run.
    pub growing: BTreeMap<String, AddCamera>,
    pub notes: Vec<String>,
    /// What the models' results are called.
    pub labels: Vec<ModelLabels>,
}

/// Opens everything.
///
/// # Errors
/// A model, source or sink cannot be opened as configured; nothing runs then.
pub fn assemble(config: &Config) -> Result<Assembled, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let cores = usage::cores();
    let store = Arc::new(Store::new(config));
    let mut opened = models::open(config, cores)?;
    let labels = std::mem::take(&mut opened.labels);
    let (sinks, ways) = sinks::open(config, &labels, &mut opened.notes)?;
    let cameras = Arc::new(Cameras::new(config.engine.shards));
    let plans: Vec<CameraPlan> = config.cameras().map(|plan| ways.lead(plan)).collect();
    let indexes = cameras.add(plans.iter().cloned());
    let mut growing = BTreeMap::new();
    let sources = sources::open(config, &cameras, &indexes, &ways, &clock, cores, &mut growing)?;
    let found = config.sources.iter().any(|source| source.cameras.is_empty());
    opened.notes.push(format!(
        "{}{} of {}, results to {}",
        human::counted(indexes.len(), "camera"),
        if found { ", and those that are found," } else { "" },
        list(config.sources.iter().map(|source| source.name.as_str())),
        list(config.sinks.iter().map(|sink| sink.plan.name.as_str())),
    ));
    let plan = Plan {
        engine: config.engine.clone(),
        models: opened.plans,
        sinks: sinks.plans,
        routes: sinks.routes,
        cameras: plans,
    };
    let parts = Parts {
        plan,
        cameras,
        clock,
        sources,
        models: opened.parts,
        store: Some(Arc::clone(&store) as Arc<dyn ModelStore>),
        sinks: sinks.opened,
        cores,
        begin_thread: schedule,
    };
    Ok(Assembled { parts, store, growing, notes: opened.notes, labels })
}

/// Opens the models alone, for whoever brings cameras and sinks of their own.
///
/// # Errors
/// As [`assemble`].
pub fn open_models(config: &Config) -> Result<Opened, Failure> {
    models::open(config, usage::cores())
}

/// Opens one configured source for all its cameras at once, for whoever polls it without an engine.
///
/// # Errors
/// As [`assemble`].
pub fn open_source(
    config: &Config,
    number: usize,
    cameras: &[CameraIndex],
    clock: &Arc<dyn Clock>,
) -> Result<Vec<SourcePart>, Failure> {
    if config.sources[number].cameras.is_empty() {
        let message = "its cameras are found while an engine runs, expected a source that names them";
        return Err(Failure::usage(format!("source {}: {message}", config.sources[number].name)));
    }
    let places: Vec<Place> =
        cameras.iter().enumerate().map(|(position, &index)| Place { index, position, reader: 0 }).collect();
    sources::open_one(config, number, &places, clock, usage::cores())
}

/// The first few names, and how many more there are.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 4;
    let count = names.len();
    let shown: Vec<&str> = names.take(SHOWN).collect();
    let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        for (names, expected) in [
            (&["a"][..], "a"),
            (&["a", "b", "c", "d"], "a, b, c, d"),
            (&["a", "b", "c", "d", "e", "f"], "a, b, c, d and 2 more"),
        ] {
            assert_eq!(list(names.iter().copied()), expected);
        }
    }
}

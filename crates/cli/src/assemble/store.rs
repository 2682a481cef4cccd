//! Where versions of models come from while an engine runs: the configuration, which may be another one by now, and the
//! files that it names.
//!
//! Asked by the control plane only; keeps no model in memory.

use std::sync::atomic::{AtomicU32, Ordering};

use omma_adapters::infer::{self, Lookout, Stamp};
use omma_config::{BackendConfig, Config, ModelConfig};
use omma_engine::pipeline::{ModelStore, NewVersion};
use parking_lot::Mutex;

use super::models::{FIRST, open_version};

pub struct Store {
    bytes_max: usize,
    models: Vec<Kept>,
}

struct Kept {
    config: Mutex<ModelConfig>,
    /// The state of its files before anything of it was opened: what has changed since is newer than what runs.
    first: Option<Stamp>,
    /// The last number that was given to a version without one of its own.
    counted: AtomicU32,
}

impl Store {
    /// Before the models are opened.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let kept = |model: &ModelConfig| Kept {
            config: Mutex::new(model.clone()),
            first: stamp(model),
            counted: AtomicU32::new(FIRST),
        };
        Self { bytes_max: config.engine.payload_bytes_max, models: config.models.iter().map(kept).collect() }
    }

    /// From now on versions of this model are opened as this configuration says.
    pub fn configure(&self, model: usize, config: ModelConfig) {
        if let Some(kept) = self.models.get(model) {
            *kept.config.lock() = config;
        }
    }

    /// For each model the watch over its files, as of the start.
    #[must_use]
    pub fn lookouts(&self) -> Vec<Lookout> {
        self.models.iter().map(|kept| Lookout::new(kept.first.clone())).collect()
    }

    /// The models that are to be watched, and the state of their files now.
    pub fn watched(&self) -> impl Iterator<Item = (usize, Option<Stamp>)> {
        self.models.iter().enumerate().filter_map(|(number, kept)| {
            let config = kept.config.lock();
            matches!(config.backend, BackendConfig::Onnx { watch: true, .. }).then(|| (number, stamp(&config)))
        })
    }
}

fn stamp(config: &ModelConfig) -> Option<Stamp> {
    match &config.backend {
        BackendConfig::Onnx { path, version, .. } => Stamp::of(path, *version),
        _ => None,
    }
}

impl ModelStore for Store {
    fn open(&self, model: usize, version: Option<u32>) -> Result<NewVersion, String> {
        let kept = self.models.get(model).ok_or("the configuration has no such model")?;
        let config = kept.config.lock().clone();
        let next = kept.counted.load(Ordering::Relaxed).saturating_add(1);
        let opened = open_version(&config, self.bytes_max, version, next)?;
        let plan = opened.plan(&config);
        let parts = opened.parts;
        if parts.version == next {
            kept.counted.store(next, Ordering::Relaxed);
        }
        Ok(NewVersion { plan, parts })
    }

    fn versions(&self, model: usize) -> Vec<u32> {
        self.models.get(model).map_or_else(Vec::new, |kept| match &kept.config.lock().backend {
            BackendConfig::Onnx { path, .. } => infer::versions(path),
            _ => Vec::new(),
        })
    }
}

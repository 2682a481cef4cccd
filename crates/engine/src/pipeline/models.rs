//! The models of a running engine as the control plane sees them, and how it changes them: load, swap, unload.
//!
//! A change runs on the thread of whoever asks for it and blocks nobody else; changes of one model come one after the
//! other. The data plane learns of it at the model's desk: in one step another version is the one that may take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omma_frame::DropReason;
use parking_lot::Mutex;

use super::engine::{ModelParts, StartError};
use super::shared::Shared;
use super::version::Version;
use crate::infer::backend::ModelInfo;
use crate::infer::mode::Chosen;
use crate::lifecycle::Phase;
use crate::panics::caught;
use crate::picture::PictureSpec;
use crate::plan::ModelPlan;
use crate::report::Level;

/// How long a change waits for the one before it.
const CHANGE_WAIT: Duration = Duration::from_secs(660);
/// What a version that was sent away is waited for beyond its deadline, which even a hung instance meets.
const END_GRACE: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_millis(2);

/// Where versions of models come from: files, a server, a test. Asked on the thread of whoever wants a change.
pub trait ModelStore: Send + Sync {
    /// Opens a version of the plan's model `model`; `None`: the one that the store prefers now.
    ///
    /// # Errors
    /// There is no such version, or what is wrong with it.
    fn open(&self, model: usize, version: Option<u32>) -> Result<NewVersion, String>;

    /// The versions that could be opened now, rising.
    fn versions(&self, model: usize) -> Vec<u32>;
}

/// A version that a store has opened: inspected, not yet running.
pub struct NewVersion {
    pub plan: ModelPlan,
    pub parts: ModelParts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// Nothing serves yet; a version is being opened.
    Loading,
    Ready,
    Unloaded,
}

impl ModelState {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Unloaded => "unloaded",
        }
    }
}

/// What serves a model now.
#[derive(Debug, Clone)]
pub struct Serving {
    pub version: u32,
    pub info: ModelInfo,
    pub chosen: Chosen,
    pub picture: PictureSpec,
}

/// A model at this moment.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    pub name: String,
    pub state: ModelState,
    pub serving: Option<Arc<Serving>>,
    /// What became of the last change, if it failed.
    pub reason: Option<String>,
}

/// Why a model was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    UnknownModel(String),
    /// The engine was started without a store.
    NoStore,
    /// The engine does not run (yet, or any more).
    NotRunning(Phase),
    /// Another change of this model takes too long.
    Busy,
    /// The new version does not do; the one before it goes on.
    Refused(String),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownModel(name) => write!(f, "there is no model {name:?}"),
            Self::NoStore => {
                f.write_str("this engine's models cannot be changed: it was started without a store of versions")
            }
            Self::NotRunning(phase) => write!(f, "the engine is {}, expected running", phase.name()),
            Self::Busy => write!(f, "another change of this model is not over after {} s", CHANGE_WAIT.as_secs()),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ChangeError {}

/// A model for the process's life, whatever serves it.
pub(super) struct Model {
    pub(super) name: String,
    /// Held by the change that is under way.
    changing: Mutex<()>,
    current: Mutex<Current>,
    /// Those that may have threads: the one that serves, one that opens, those that end.
    versions: Mutex<Vec<Arc<Version>>>,
    /// Instances of all versions, also of those that were let go of, that hang now.
    pub(super) hanging: AtomicIsize,
    terms: AtomicU64,
}

struct Current {
    state: ModelState,
    serving: Option<Arc<Serving>>,
    reason: Option<String>,
}

impl Model {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            changing: Mutex::default(),
            current: Mutex::new(Current { state: ModelState::Loading, serving: None, reason: None }),
            versions: Mutex::default(),
            hanging: AtomicIsize::new(0),
            terms: AtomicU64::new(1),
        }
    }

    /// All versions that may have frames in hand, also those on their way out.
    pub(super) fn versions(&self) -> Vec<Arc<Version>> {
        self.versions.lock().clone()
    }

    /// Lets go of versions that have ended.
    pub(super) fn reap(&self, shared: &Shared) {
        // Not under the lock: what a version leaves behind is settled, and its memory given back, on the way.
        let ended: Vec<_> = self.versions().into_iter().filter(|version| version.gone(shared)).collect();
        ended.iter().for_each(|version| version.pass_on(shared));
        if !ended.is_empty() {
            self.versions.lock().retain(|version| !ended.iter().any(|ended| Arc::ptr_eq(ended, version)));
        }
    }

    /// Forgets everything at the engine's end.
    pub(super) fn clear(&self) {
        self.versions.lock().clear();
    }

    pub(super) fn state(&self) -> ModelState {
        self.current.lock().state
    }

    fn status(&self) -> ModelStatus {
        let current = self.current.lock();
        ModelStatus {
            name: self.name.clone(),
            state: current.state,
            serving: current.serving.clone(),
            reason: current.reason.clone(),
        }
    }

    /// Opens a version beside whatever serves, and lets it take over once it is ready in all its instances.
    pub(super) fn take_over(
        &self,
        shared: &Arc<Shared>,
        number: usize,
        plan: &ModelPlan,
        parts: ModelParts,
        on_trial: bool,
    ) -> Result<(), StartError> {
        let term = self.terms.fetch_add(1, Ordering::Relaxed);
        let version = Arc::new(Version::new(number, term, plan, parts, shared.cores, on_trial));
        self.versions.lock().push(Arc::clone(&version));
        let failed = |message| StartError::Model { name: self.name.clone(), message };
        let version = version.open(shared)?.serve(shared).map_err(failed)?;
        let serving = Serving {
            version: version.served_by.version,
            info: version.info.clone(),
            chosen: version.chosen.clone(),
            picture: version.plan.picture.clone(),
        };
        *self.current.lock() = Current { state: ModelState::Ready, serving: Some(Arc::new(serving)), reason: None };
        self.retire_others(shared, Some(term));
        Ok(())
    }

    fn retire_others(&self, shared: &Shared, but: Option<u64>) {
        for version in self.versions().iter().filter(|version| Some(version.term) != but) {
            version.retire(shared);
        }
    }

    /// Waits until the versions that were sent away have ended; no longer than a hung instance may take.
    fn wait_ended(&self, shared: &Shared) {
        let deadline = self.versions().iter().map(|version| version.plan.deadline).max().unwrap_or_default();
        let until = Instant::now() + deadline + END_GRACE;
        loop {
            self.reap(shared);
            if self.versions().iter().all(|version| !version.retired()) || Instant::now() >= until {
                return;
            }
            std::thread::sleep(TURN);
        }
    }
}

impl Shared {
    /// All models, in the plan's order.
    #[must_use]
    pub fn models(&self) -> Vec<ModelStatus> {
        self.served.iter().map(Model::status).collect()
    }

    /// One model by its place in the plan.
    #[must_use]
    pub fn model(&self, number: usize) -> Option<ModelStatus> {
        self.served.get(number).map(Model::status)
    }

    /// A model's place in the plan.
    #[must_use]
    pub fn find_model(&self, name: &str) -> Option<usize> {
        self.served.iter().position(|model| model.name == name)
    }

    /// Versions of a model that could be loaded now.
    #[must_use]
    pub fn model_versions(&self, name: &str) -> Vec<u32> {
        let number = self.find_model(name);
        number.zip(self.store.as_ref()).map_or_else(Vec::new, |(number, store)| store.versions(number))
    }

    /// Loads a version out of the store and lets it take over: the first one, the next one, or the same again. `None`:
    /// the version that the store prefers. Returns the number of the version that serves now; by then the one before it
    /// has ended, or what it hung with has met its deadline. Blocks the caller, nobody else.
    ///
    /// # Errors
    /// Whatever is wrong with it; what served before serves on.
    pub fn load(self: &Arc<Self>, name: &str, version: Option<u32>) -> Result<u32, ChangeError> {
        self.change(name, || {
            let store = self.store.as_ref().ok_or(ChangeError::NoStore)?;
            let number = self.find_model(name).unwrap_or_default();
            let opened = caught(|| store.open(number, version));
            opened.unwrap_or_else(|said| Err(format!("opening it panicked: {said}"))).map_err(ChangeError::Refused)
        })
    }

    /// As [`Shared::load`], with a version that the caller brings.
    ///
    /// # Errors
    /// As there.
    pub fn swap(self: &Arc<Self>, name: &str, version: NewVersion) -> Result<u32, ChangeError> {
        self.change(name, || Ok(version))
    }

    fn change(
        self: &Arc<Self>,
        name: &str,
        open: impl FnOnce() -> Result<NewVersion, ChangeError>,
    ) -> Result<u32, ChangeError> {
        let number = self.find_model(name).ok_or_else(|| ChangeError::UnknownModel(name.to_owned()))?;
        let model = &self.served[number];
        let _turn = model.changing.try_lock_for(CHANGE_WAIT).ok_or(ChangeError::Busy)?;
        self.running()?;
        let begun = Instant::now();
        {
            let mut current = model.current.lock();
            if current.state == ModelState::Unloaded {
                current.state = ModelState::Loading;
            }
        }
        let before = model.status().serving.map(|serving| serving.version);
        let subject = format!("model {name}");
        let changed = open().and_then(|NewVersion { plan, parts }| {
            let version = parts.version;
            model.take_over(self, number, &plan, parts, true).map(|()| version).map_err(|error| {
                ChangeError::Refused(match error {
                    StartError::Model { message, .. } => message,
                    error @ StartError::Thread { .. } => error.to_string(),
                })
            })
        });
        let counters = &self.metrics.models[number];
        match &changed {
            Ok(version) => {
                counters.loads.fetch_add(1, Ordering::Relaxed);
                self.reports.say(Level::Info, &subject, "loaded", || {
                    let took = begun.elapsed().as_secs_f64();
                    let before = before.map_or(String::new(), |before| format!(" in the place of version {before}"));
                    format!("version {version} serves{before}, opened in {took:.1} s")
                });
            }
            Err(error) => {
                counters.loads_failed.fetch_add(1, Ordering::Relaxed);
                let mut current = model.current.lock();
                if current.serving.is_none() {
                    current.state = ModelState::Unloaded;
                }
                current.reason = Some(error.to_string());
                drop(current);
                self.reports.say(Level::Error, &subject, "load", || match before {
                    Some(before) => format!("not loaded, version {before} serves on: {error}"),
                    None => format!("not loaded: {error}"),
                });
            }
        }
        model.wait_ended(self);
        changed
    }

    /// Lets nobody serve a model any more and gives its memory back. Cameras with `delivery = "every"` are not read
    /// until it is loaded again, frames of others are dropped as `model_unloaded`, direct requests are refused.
    ///
    /// # Errors
    /// There is no such model, or the engine does not run.
    pub fn unload(&self, name: &str) -> Result<(), ChangeError> {
        let number = self.find_model(name).ok_or_else(|| ChangeError::UnknownModel(name.to_owned()))?;
        let model = &self.served[number];
        let _turn = model.changing.try_lock_for(CHANGE_WAIT).ok_or(ChangeError::Busy)?;
        self.running()?;
        let mut refused = Vec::new();
        self.desks[number].unserve(&mut refused);
        self.refuse(&mut refused, DropReason::ModelUnloaded, self.clock.mono());
        *model.current.lock() = Current { state: ModelState::Unloaded, serving: None, reason: None };
        model.retire_others(self, None);
        self.reports.say(Level::Info, &format!("model {name}"), "unloaded", || "unloaded".to_owned());
        model.wait_ended(self);
        Ok(())
    }

    fn running(&self) -> Result<(), ChangeError> {
        match self.lifecycle.phase() {
            Phase::Running => Ok(()),
            phase => Err(ChangeError::NotRunning(phase)),
        }
    }
}

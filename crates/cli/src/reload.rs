//! What changes while omma runs: files of models that are watched, and the configuration when SIGHUP asks for it.
//!
//! One thread of the control plane, `omma-reload`, which wakes ten times a second, looks at the watched files once a
//! second, and opens one version after the other. What it cannot do it reports; what runs goes on.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use omma_adapters::infer::Lookout;
use omma_config::{BackendConfig, Config, ModelConfig, SourceConfig};
use omma_engine::pipeline::{AssignError, Shared};
use omma_engine::report::{Level, Message};
use omma_frame::CameraId;
use signal_hook::consts::SIGHUP;

use crate::assemble::{AddCamera, Store};
use crate::human;
use crate::signals::Signals;

const TURN: Duration = Duration::from_millis(100);
/// Between two looks at the files: what two of them find alike is complete.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end waits for a version that is being opened; the runtime's call cannot be stopped.
const END_WAIT: Duration = Duration::from_secs(2);

/// Ends with its owner.
pub struct Reload {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reload {
    /// `config` is what runs, `file` where it was read.
    ///
    /// # Errors
    /// The system refuses the thread or the signal's handler.
    pub fn start(
        shared: &Arc<Shared>,
        store: Arc<Store>,
        growing: BTreeMap<String, AddCamera>,
        config: Config,
        file: &Path,
        signals: &Signals,
    ) -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, Arc::clone(&asked))?;
        let work = Work {
            shared: Arc::clone(shared),
            lookouts: store.lookouts(),
            store,
            growing,
            coming: VecDeque::new(),
            strangers: Vec::new(),
            models_at_start: config.sources.iter().map(|source| source.model).collect(),
            config,
            file: file.to_owned(),
            signals: signals.clone(),
            asked,
            on_terminal: io::stderr().is_terminal(),
        };
        let (stop, stopped) = sync_channel(0);
        let thread = thread::Builder::new().name("omma-reload".to_owned()).spawn(move || work.run(&stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.stop = None;
        let until = Instant::now() + END_WAIT;
        while let Some(thread) = &self.thread
            && Instant::now() < until
        {
            if thread.is_finished() {
                // A panic of it was shown when it happened, and takes nothing else with it.
                let _ = self.thread.take().map(JoinHandle::join);
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    store: Arc<Store>,
    lookouts: Vec<Lookout>,
    /// By name the sources that take further cameras.
    growing: BTreeMap<String, AddCamera>,
    /// Cameras that are to be added, with the place of their source.
    coming: VecDeque<(usize, CameraId)>,
    /// Cameras that were added and are to go over to a model, for their source began with another.
    strangers: Vec<(CameraId, String)>,
    /// By source.
    models_at_start: Vec<usize>,
    /// What runs: as it was at the start, but for the models' own settings and the cameras that were added.
    config: Config,
    file: PathBuf,
    signals: Signals,
    asked: Arc<AtomicBool>,
    on_terminal: bool,
}

impl Work {
    fn run(mut self, stopped: &Receiver<()>) {
        let mut look = Instant::now() + LOOK;
        while stopped.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            if self.asked.swap(false, Ordering::AcqRel) {
                if self.on_terminal && !io::stderr().is_terminal() {
                    // The terminal is gone, and with it whoever would have pressed Ctrl-C.
                    self.signals.ask();
                    return;
                }
                self.reload();
            }
            self.welcome();
            if Instant::now() >= look {
                self.look();
                look = Instant::now() + LOOK;
            }
        }
    }

    /// Loads what has changed in the files of watched models.
    fn look(&mut self) {
        let watched: Vec<_> = self.store.watched().collect();
        for (number, stamp) in watched {
            if self.lookouts.get_mut(number).is_some_and(|lookout| lookout.look(stamp))
                && let Some(model) = self.config.models.get(number)
            {
                // How it went the engine reports.
                let _ = self.shared.load(&model.name, None);
            }
        }
    }

    fn say(&self, level: Level, text: String) {
        self.shared.reports.pass_on(Message { level, subject: "configuration".to_owned(), text, times: 1 });
    }

    fn reload(&mut self) {
        let new = match omma_config::load(&self.file) {
            Ok(new) => new,
            Err(problems) => {
                return self.say(Level::Error, format!("not reloaded, what runs goes on: {problems}"));
            }
        };
        let assigned = self.assign(&new);
        let added = self.add(&new);
        let mut later = needs_restart(&self.config, &new);
        let mut changed = 0;
        for number in 0..self.config.models.len() {
            let running = &self.config.models[number];
            let Some(wanted) = new.models.iter().find(|model| model.name == running.name) else { continue };
            if wanted.output.labels != running.output.labels {
                later.push(format!("model {}: output.labels", running.name));
            }
            if wanted != running {
                changed += usize::from(self.change(number, wanted.clone()));
            }
        }
        if !later.is_empty() {
            let text = format!("changed in the file, and in effect from the next start only: {}", later.join(", "));
            self.say(Level::Warning, text);
        }
        let assigned = match assigned {
            0 => String::new(),
            cameras => format!(", {} to another model", human::counted(cameras, "camera")),
        };
        let added = match added {
            0 => String::new(),
            cameras => format!(", {} added", human::counted(cameras, "camera")),
        };
        self.say(Level::Info, format!("reloaded: {} changed{assigned}{added}", human::counted(changed, "model")));
    }

    /// Notes the cameras that have come to sources that take them while they run; returns how many.
    fn add(&mut self, new: &Config) -> usize {
        let before = self.coming.len();
        let growing = &self.growing;
        let sources = self.config.sources.iter_mut().enumerate();
        for (number, source) in sources.filter(|(_, source)| growing.contains_key(&source.name)) {
            let Some(wanted) = new.sources.iter().find(|wanted| wanted.name == source.name) else { continue };
            let known: HashSet<&CameraId> = source.cameras.iter().collect();
            let stays = wanted.cameras.iter().filter(|camera| known.contains(camera)).count();
            // What else has changed, or gone, waits for the next start, and what has come to it too.
            if source.cameras.is_empty() || stays < known.len() || without_cameras(source) != without_cameras(wanted) {
                continue;
            }
            let come = wanted.cameras.iter().filter(|camera| !known.contains(camera));
            self.coming.extend(come.map(|camera| (number, camera.clone())));
            source.cameras = wanted.cameras.clone();
        }
        self.coming.len() - before
    }

    /// Adds cameras as far as their sources take them up.
    fn welcome(&mut self) {
        while let Some((number, camera)) = self.coming.front() {
            let source = &self.config.sources[*number];
            if !self.growing.get(&source.name).is_some_and(|add| add(camera.clone())) {
                break;
            }
            if source.model != self.models_at_start[*number]
                && let Some(model) = self.config.models.get(source.model)
            {
                self.strangers.push((camera.clone(), model.name.clone()));
            }
            self.coming.pop_front();
        }
        let shared = &self.shared;
        self.strangers
            .retain(|(camera, model)| matches!(shared.assign(camera, model), Err(AssignError::UnknownCamera(_))));
    }

    /// Brings the cameras of sources that name another model to it; returns how many.
    fn assign(&mut self, new: &Config) -> usize {
        let mut cameras = 0;
        for source in self.config.sources.iter_mut().filter(|source| !source.cameras.is_empty()) {
            let wanted = new.sources.iter().find(|wanted| wanted.name == source.name);
            let wanted = wanted.and_then(|wanted| new.models.get(wanted.model)).map(|model| &model.name);
            let number = self.config.models.iter().position(|model| Some(&model.name) == wanted);
            let (Some(name), Some(number)) = (wanted, number) else { continue };
            if number != source.model {
                cameras += source.cameras.iter().filter(|camera| self.shared.assign(camera, name).is_ok()).count();
                source.model = number;
            }
        }
        cameras
    }

    /// Whether the model runs as `wanted` now.
    fn change(&mut self, number: usize, wanted: ModelConfig) -> bool {
        let running = self.config.models[number].clone();
        self.store.configure(number, wanted.clone());
        if without_watch(&running) != without_watch(&wanted) {
            // Before it is loaded: what changes meanwhile is newer.
            let stamp = self.store.watched().find_map(|(watched, stamp)| (watched == number).then_some(stamp));
            if self.shared.load(&wanted.name, None).is_err() {
                // Reported by the engine. The next reload tries again.
                self.store.configure(number, running);
                return false;
            }
            if let Some((lookout, stamp)) = self.lookouts.get_mut(number).zip(stamp) {
                *lookout = Lookout::new(stamp);
            }
        }
        self.config.models[number] = wanted;
        true
    }
}

/// What only a new start brings into effect.
fn needs_restart(running: &Config, new: &Config) -> Vec<String> {
    // Which models there are is said by name below. A source's model by now is the one that it names, but for cameras that
    // it finds: those that it will find would get the one of the start.
    let sources = |config: &Config| -> Vec<SourceConfig> {
        let of = |source: &SourceConfig| if source.cameras.is_empty() { source.model } else { 0 };
        config.sources.iter().map(|source| SourceConfig { model: of(source), ..source.clone() }).collect()
    };
    let sections = [
        ("[engine]", running.engine != new.engine || running.http != new.http),
        ("[direct]", running.direct != new.direct),
        ("[[sources]]", sources(running) != sources(new)),
        ("[[sinks]]", running.sinks != new.sinks),
    ];
    let mut later: Vec<String> =
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect();
    let missing = |from: &Config, to: &Config, what: &str| -> Vec<String> {
        let gone = from.models.iter().filter(|model| to.models.iter().all(|other| other.name != model.name));
        gone.map(|model| format!("{what} of model {}", model.name)).collect()
    };
    later.extend(missing(running, new, "the end"));
    later.extend(missing(new, running, "the beginning"));
    later
}

/// What a source's cameras, and which model looks at them, do not change.
fn without_cameras(source: &SourceConfig) -> SourceConfig {
    SourceConfig { cameras: Vec::new(), model: 0, ..source.clone() }
}

/// A model's settings but for the one that no version depends on.
fn without_watch(model: &ModelConfig) -> ModelConfig {
    let mut model = model.clone();
    if let BackendConfig::Onnx { watch, .. } = &mut model.backend {
        *watch = false;
    }
    model
}

//! The engine that the server looks at, once there is one.

use std::sync::{Arc, OnceLock};

use omma_engine::lifecycle::Phase;
use omma_engine::pipeline::{ModelState, Shared};

/// Given to the server at its start and to the engine's starter: the server runs while models still load, so that a
/// probe sees "not ready" instead of a closed port. Cloning shares it.
#[derive(Clone, Default)]
pub struct Watched(Arc<OnceLock<Arc<Shared>>>);

impl Watched {
    /// From now on this engine is shown; a second one is ignored.
    pub fn show(&self, shared: &Arc<Shared>) {
        let _ = self.0.set(Arc::clone(shared));
    }

    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.0.get()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.shared().map_or(Phase::Starting, |shared| shared.lifecycle.phase())
    }

    /// Why no frames can be served; `None` if they can.
    pub(crate) fn unready(&self) -> Option<String> {
        let Some(shared) = self.shared() else {
            return Some("models load and warm up".to_owned());
        };
        if shared.ready() {
            return None;
        }
        Some(match shared.lifecycle.phase() {
            Phase::Starting => "models load and warm up".to_owned(),
            Phase::Running => {
                let models = shared.models();
                let without = models
                    .iter()
                    .zip(&shared.metrics.models)
                    .filter(|(model, counters)| {
                        counters.instances_running.load(std::sync::atomic::Ordering::Relaxed) == 0
                            && model.state != ModelState::Unloaded
                    })
                    .map(|(model, _)| model.name.as_str());
                format!("no running instance of model {}", without.collect::<Vec<_>>().join(", "))
            }
            Phase::Draining | Phase::Flushing => "the engine drains".to_owned(),
            Phase::Stopped => "the engine has stopped".to_owned(),
        })
    }
}

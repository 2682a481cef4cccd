//! Which model looks at a camera's frames, changed while they flow.
//!
//! The control plane writes what is wanted into the table of cameras and rings the readers; a camera's reader lets it
//! deliver nothing until its frames under way are settled, then changes it over. So no frame is lost, and the results of
//! both models leave in the camera's order. What is wanted last counts: there is no queue of changes.

use std::fmt;
use std::sync::atomic::Ordering;

use omma_frame::{CameraId, CameraIndex};

use super::shared::Shared;
use crate::lifecycle::Phase;
use crate::shard::Shards;

/// Why a camera's model was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignError {
    UnknownCamera(CameraId),
    UnknownModel(String),
    /// The engine does not run (yet, or any more).
    NotRunning(Phase),
}

impl fmt::Display for AssignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCamera(id) => write!(f, "there is no camera {:?}", id.as_str()),
            Self::UnknownModel(name) => write!(f, "there is no model {name:?}"),
            Self::NotRunning(phase) => write!(f, "the engine is {}, expected running", phase.name()),
        }
    }
}

impl std::error::Error for AssignError {}

impl Shared {
    /// From soon on this model looks at the camera's frames: as soon as those under way to the one before are settled,
    /// until when the camera is not read. Does not wait for it; [`crate::cameras::Camera::model`] tells.
    ///
    /// # Errors
    /// There is no such camera or model, or the engine does not run; nothing has changed then.
    pub fn assign(&self, camera: &CameraId, model: &str) -> Result<(), AssignError> {
        let number = self.find_model(model).ok_or_else(|| AssignError::UnknownModel(model.to_owned()))?;
        match self.lifecycle.phase() {
            Phase::Running => {}
            phase => return Err(AssignError::NotRunning(phase)),
        }
        let unknown = || AssignError::UnknownCamera(camera.clone());
        let index = self.cameras.find(camera).ok_or_else(unknown)?;
        let table = self.cameras.snapshot();
        let camera = table.get(index.slot()).ok_or_else(unknown)?;
        camera.want(number);
        let inbox = &self.inboxes[camera.shard as usize % self.inboxes.len()];
        inbox.reassigned.store(true, Ordering::Release);
        Ok(())
    }
}

/// A reader's cameras that wait for their frames under way.
#[derive(Default)]
pub(super) struct Changing(Vec<CameraIndex>);

impl Changing {
    /// Called once per turn of the reader; costs one load while nothing changes.
    pub(super) fn turn(&mut self, shared: &Shared, reader: usize, shards: &mut Shards) {
        let rung = &shared.inboxes[reader].reassigned;
        let rung = rung.load(Ordering::Relaxed) && rung.swap(false, Ordering::AcqRel);
        if !rung && self.0.is_empty() {
            return;
        }
        let table = shared.cameras.snapshot();
        if rung {
            // Also those whose change was taken back meanwhile.
            self.0.drain(..).for_each(|camera| shards.hold(camera, false));
            let own = table.iter().filter(|camera| camera.shard as usize % shared.inboxes.len() == reader);
            self.0.extend(own.filter(|camera| camera.model() != camera.model_wanted()).map(|camera| camera.index));
            self.0.iter().for_each(|camera| shards.hold(*camera, true));
        }
        self.0.retain(|index| {
            let camera = &table[index.slot()];
            let wanted = camera.model_wanted();
            if !shards.assign(*index, wanted) {
                return true;
            }
            camera.changed(wanted);
            shards.hold(*index, false);
            false
        });
    }
}

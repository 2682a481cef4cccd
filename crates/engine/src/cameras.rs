//! The table of cameras: id, index, shard and policies. Append-only, read by every stage, locked by none per frame. Of a
//! camera that is there only one thing changes: which model looks at its frames.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use omma_frame::{CameraId, CameraIndex};
use parking_lot::Mutex;

use crate::shard_hash::shard_of;

/// What to do when frames come faster than they can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Live video: the newest frame wins; an overtaken or too old one is dropped before it is decoded.
    Latest { age_max: Duration },
    /// Nothing is dropped: a full stage stops reading, and the frames stay at the source.
    Every,
}

/// One camera's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraPlan {
    pub id: CameraId,
    pub delivery: Delivery,
    /// Which of the pipeline's models looks at its frames, to begin with.
    pub model: usize,
    /// Which of the pipeline's routes (sets of sinks) takes its results.
    pub route: usize,
    /// Its frames' tokens are entry ids of a Redis stream, rising: a sink may write their results under the same ids.
    pub entry_ids: bool,
    /// How many of its frames may wait for a batch: the room of a `latest` camera before the oldest is
    /// overtaken, of an `every` camera before reading stops.
    pub waiting_frames_max: u32,
    /// How many of its frames may be anywhere between source and settlement.
    pub in_flight_frames_max: u32,
}

#[derive(Debug)]
pub struct Camera {
    pub index: CameraIndex,
    pub shard: u32,
    pub plan: CameraPlan,
    /// Its reader alone writes it.
    model: AtomicUsize,
    wanted: AtomicUsize,
}

impl Camera {
    /// The model that looks at its frames now.
    #[must_use]
    pub fn model(&self) -> usize {
        self.model.load(Ordering::Acquire)
    }

    /// The model that is to look at its frames once those under way are done.
    #[must_use]
    pub fn model_wanted(&self) -> usize {
        self.wanted.load(Ordering::Acquire)
    }

    pub(crate) fn want(&self, model: usize) {
        self.wanted.store(model, Ordering::Release);
    }

    pub(crate) fn changed(&self, model: usize) {
        self.model.store(model, Ordering::Release);
    }
}

/// All cameras that this process has ever had. Reading is one atomic load; adding copies the table of pointers.
pub struct Cameras {
    shards: u32,
    by_index: ArcSwap<Vec<Arc<Camera>>>,
    by_id: Mutex<HashMap<CameraId, CameraIndex>>,
}

impl Cameras {
    #[must_use]
    pub fn new(shards: u32) -> Self {
        Self { shards, by_index: ArcSwap::default(), by_id: Mutex::default() }
    }

    /// Adds cameras in one step and returns their indexes, in order. A camera that is already there keeps its
    /// index and its first settings.
    pub fn add(&self, plans: impl IntoIterator<Item = CameraPlan>) -> Vec<CameraIndex> {
        let mut by_id = self.by_id.lock();
        let mut table = Vec::clone(&self.by_index.load());
        let indexes = plans
            .into_iter()
            .map(|plan| {
                *by_id.entry(plan.id.clone()).or_insert_with(|| {
                    let index = CameraIndex(u32::try_from(table.len()).unwrap_or(u32::MAX));
                    let shard = shard_of(&plan.id, self.shards);
                    let (model, wanted) = (AtomicUsize::new(plan.model), AtomicUsize::new(plan.model));
                    table.push(Arc::new(Camera { index, shard, plan, model, wanted }));
                    index
                })
            })
            .collect();
        self.by_index.store(Arc::new(table));
        indexes
    }

    #[must_use]
    pub fn find(&self, id: &CameraId) -> Option<CameraIndex> {
        self.by_id.lock().get(id).copied()
    }

    /// The table as it stands now; hold it for a batch, not for ever.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Vec<Arc<Camera>>> {
        self.by_index.load_full()
    }

    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shards
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_index.load().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

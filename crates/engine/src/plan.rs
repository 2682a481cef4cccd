//! What the engine is to do, checked and complete: whoever holds a [`Plan`] need not doubt it.
//!
//! A configuration file becomes a plan in the crate `omma-config`; a program may also write one by hand, starting
//! from the defaults, which are the specification's (its section 5).

use std::time::Duration;

use crate::cameras::CameraPlan;
use crate::picture::PictureSpec;

/// The whole pipeline. Sources, models and sinks themselves are handed over beside it, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub engine: EnginePlan,
    pub models: Vec<ModelPlan>,
    pub sinks: Vec<SinkPlan>,
    /// Sets of sinks, by index; a camera names one of these routes.
    pub routes: Vec<Vec<usize>>,
    pub cameras: Vec<CameraPlan>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EnginePlan {
    /// `max_consumer_shards`: cameras are pinned to this many owners.
    pub shards: u32,
    /// Threads that read; each owns the shards whose number modulo this is its own.
    pub readers: usize,
    /// `batch_read_count`: the most frames of one camera that one poll may take.
    pub read_frames_max: usize,
    /// `feeder_poll_timeout`: the shortest pause between two polls; it grows up to `poll_pause_max` while nothing comes.
    pub poll_pause_min: Duration,
    pub poll_pause_max: Duration,
    /// `metrics_aggregation_count`: frames gathered on a thread before it touches the shared metrics.
    pub metrics_aggregation_frames: u32,
    /// The longest that gathered figures wait for more frames before they show.
    pub metrics_interval: Duration,
    /// How long a drain may take before what is late is settled as `shutdown`.
    pub drain_timeout: Duration,
    /// The largest encoded payload that is looked at.
    pub payload_bytes_max: usize,
    /// Payload bytes that frames waiting for a batch may hold, all models together, in equal shares. A poll that begins
    /// below it may end above it, by what it brings.
    pub waiting_bytes_max: usize,
    /// Publish a result that names the reason for each dropped frame that had reached a batch.
    pub error_results: bool,
}

impl Default for EnginePlan {
    fn default() -> Self {
        Self {
            shards: 32,
            readers: 1,
            read_frames_max: 32,
            poll_pause_min: Duration::from_millis(1),
            poll_pause_max: Duration::from_millis(20),
            metrics_aggregation_frames: 100,
            metrics_interval: Duration::from_millis(250),
            drain_timeout: Duration::from_secs(10),
            payload_bytes_max: 32 << 20,
            waiting_bytes_max: 1 << 30,
            error_results: false,
        }
    }
}

/// How a model is served (the specification's section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By backend and device.
    #[default]
    Auto,
    /// Accelerators and servers: feeders decode the next batches while others are in the model.
    Async,
    /// CPU models: each thread of a fixed pool takes, decodes, runs and reads out, to completion.
    Sync,
    /// As `Sync` or `Async`, by the device, but a frame never waits for company.
    Direct,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelPlan {
    pub name: String,
    pub mode: Mode,
    /// Running copies; `None`: as many as are useful.
    pub instances: Option<usize>,
    /// `sync_mode_thread_pool_size`: the most threads of `sync` mode.
    pub sync_threads_max: usize,
    /// `feeder_executor_threads`: the most threads that decode ahead in `async` mode.
    pub feeder_threads_max: usize,
    /// Frames that may wait for a batch (`async_buffer_size` of the consumer manager, for each instance).
    pub waiting_frames_max: usize,
    /// Frames handed to the asynchronous side and not yet back (`async_buffer_size` of the inference worker).
    pub in_flight_frames_max: usize,
    pub batch: BatchPlan,
    pub picture: PictureSpec,
    /// Handed to the backend with every batch.
    pub parameters: Vec<(String, String)>,
    /// A batch that takes longer is given up: its frames are settled as `deadline_exceeded`.
    pub deadline: Duration,
    /// Batches run on a fresh instance before it counts as ready.
    pub warmup_batches: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlan {
    /// `batch_size`: what a batch aims at; it grows to `size_max` while frames pile up and comes back.
    pub size: usize,
    pub size_max: usize,
    /// `batch_timeout_ms`: the longest that a frame waits for company.
    pub timeout: Duration,
    /// The part of each batch that direct requests may take while camera frames wait, in percent (1 to 99); what one
    /// side leaves, the other uses.
    pub direct_share_percent: u32,
}

impl Default for BatchPlan {
    fn default() -> Self {
        Self { size: 16, size_max: 64, timeout: Duration::from_millis(5), direct_share_percent: 75 }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SinkPlan {
    pub name: String,
    /// Results that may wait for the writer; beyond it `latest` cameras lose the oldest, `every` cameras stop being read.
    pub buffer_frames_max: usize,
    /// Pauses between attempts grow from the first to the second.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

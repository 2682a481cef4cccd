//! Which mode serves a model, with how many threads, and why: the specification's mode matrix (its section 6).

use crate::infer::backend::{BatchLimit, Device};
use crate::plan::{BatchPlan, Mode, ModelPlan};

/// How a model is served, with `Auto` resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Whether feeders decode ahead of instances (`async`), or each thread runs to completion (`sync`).
    pub ahead: bool,
    pub instances: usize,
    /// Threads that decode ahead; 0 where instances decode for themselves.
    pub decode_threads: usize,
    pub batch: BatchPlan,
    /// For people: what was picked and why.
    pub why: String,
}

/// Picks by device and plan. `blocking` is whether an instance occupies a thread while it computes.
#[must_use]
pub fn choose(plan: &ModelPlan, device: Device, limit: BatchLimit, blocking: bool, cores: usize) -> Chosen {
    let cores = cores.max(1);
    let (ahead, reason) = match (plan.mode, device) {
        (Mode::Auto | Mode::Direct, Device::Cpu) if blocking => (false, "the model computes on the CPU"),
        (Mode::Auto | Mode::Direct, Device::Processes) if blocking => {
            (false, "the model computes on the CPU in processes of its own, to which the way is worth sharing")
        }
        (Mode::Auto | Mode::Direct, Device::Remote) => (true, "the model runs in another process"),
        (Mode::Auto | Mode::Direct, _) => (true, "the model computes beside the CPU"),
        (Mode::Sync, _) if blocking => (false, "as configured"),
        (Mode::Sync, _) => (true, "this backend has no blocking call, so sync cannot serve it"),
        (Mode::Async, _) => (true, "as configured"),
    };
    let useful = if ahead { 1 } else { cores.min(plan.sync_threads_max.max(1)) };
    let instances = plan.instances.unwrap_or(useful).max(1);
    let decode_threads = if ahead { cores.min(plan.feeder_threads_max.max(1)) } else { 0 };
    let mut batch = plan.batch;
    // On a CPU a batch computes no faster than its frames one by one, and a thread that waits for company is idle.
    let alone = plan.mode == Mode::Direct || (plan.mode == Mode::Auto && !ahead && device == Device::Cpu);
    if alone {
        batch.size = 1;
        batch.size_max = 1;
    }
    let most = match limit {
        BatchLimit::UpTo(most) | BatchLimit::Exactly(most) => most.max(1),
    };
    batch.size_max = batch.size_max.clamp(1, most);
    batch.size = batch.size.clamp(1, batch.size_max);
    let mode = match (plan.mode, ahead) {
        (Mode::Direct, _) => "direct",
        (_, true) => "async",
        (_, false) => "sync",
    };
    let threads = if ahead {
        format!("{instances} instance(s), {decode_threads} decoding thread(s)")
    } else {
        format!("{instances} thread(s), each decoding and running")
    };
    let batches = if batch.size_max == 1 {
        "no batching".to_owned()
    } else {
        format!("batches of {} to {}", batch.size, batch.size_max)
    };
    Chosen { ahead, instances, decode_threads, batch, why: format!("{mode}: {reason}; {threads}, {batches}") }
}

//! The faults that must not spread, provoked on a whole engine: pictures, models, sinks, sources, overload, clocks, the
//! end. After each one the laws of [`omma_testkit::engine_rig::Running::stop`] hold: the ledger balances, nothing is in
//! flight, each camera's results are in order and exactly once, and somebody has been told (docs/design/faults.md).

mod assign;
mod backends;
mod batches;
mod direct;
mod drain;
mod laws;
mod overload;
mod pictures;
mod remote;
mod sinks;
mod sources;
mod swaps;

use std::time::Duration;

use omma_engine::cameras::Delivery;
use omma_frame::FrameResult;

/// Every newest frame wins, none is too old.
const LATEST: Delivery = Delivery::Latest { age_max: Duration::from_secs(3600) };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The median time from reading to the model's answer, of some cameras.
fn median_latency(results: &[FrameResult], camera: impl Fn(usize) -> bool) -> Duration {
    let mut times: Vec<Duration> = results
        .iter()
        .filter(|result| camera(result.camera.slot()))
        .map(|result| result.timing.inferred.since(result.timing.received))
        .collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Whether a latency is that of an undisturbed run, as far as a busy machine can tell.
fn unaffected(disturbed: Duration, undisturbed: Duration) -> bool {
    disturbed < undisturbed * 20 + ms(200)
}

//! Any small engine, any faults: the laws hold. Found failures are kept as their own tests beside the others.
//!
//! Bounded in time: by the number of cases, by a watchdog over each that names the one that hangs, and by how long all
//! of them and the search for a smaller failing one may take. On a slow machine fewer cases are tried.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::plan::Mode;
use omma_engine::sink::Retry;
use omma_testkit::doubles_backend::{Model, Turn};
use omma_testkit::doubles_picture::{OnDecode, OnInfer, OnRead, Picture};
use omma_testkit::engine_rig::{Rig, sink_plan};
use omma_testkit::sink::Act;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{LATEST, ms};

const CASES: u32 = 32;
const SHRINKS_MAX: u32 = 40;

/// A case takes some tens of milliseconds.
const CASE_MAX: Duration = Duration::from_secs(20);

/// After this no further case is begun.
const ALL_MAX: Duration = Duration::from_secs(45);

#[derive(Debug, Clone)]
struct Scenario {
    /// By camera: `every`, and the route.
    cameras: Vec<(bool, usize)>,
    mode: Mode,
    remote: bool,
    readers: usize,
    instances: usize,
    batch: (usize, usize),
    buffer_frames_max: usize,
    error_results: bool,
    /// Batches that fail as a whole, by number modulo 16.
    turns: Vec<u8>,
    sink_acts: Vec<(usize, u8)>,
    frames: Vec<(usize, Picture, bool)>,
    /// Wait until all is settled before the drain, or drain at once.
    settled: bool,
}

fn picture() -> impl Strategy<Value = Picture> {
    let decode = prop_oneof![
        12 => Just(OnDecode::Fine),
        1 => Just(OnDecode::Corrupt),
        1 => Just(OnDecode::WrongSize),
        1 => Just(OnDecode::Panic)
    ];
    let infer = prop_oneof![
        20 => Just(OnInfer::Fine),
        2 => Just(OnInfer::FailItem),
        1 => Just(OnInfer::FailBatch),
        1 => Just(OnInfer::Panic)
    ];
    let read = prop_oneof![12 => Just(OnRead::Fine), 1 => Just(OnRead::Unreadable), 1 => Just(OnRead::Panic)];
    (decode, infer, read).prop_map(|(decode, infer, read)| Picture { decode, infer, read, value: 0 })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let mode = prop_oneof![Just(Mode::Sync), Just(Mode::Async), Just(Mode::Direct), Just(Mode::Auto)];
    let shape = (prop::collection::vec((any::<bool>(), 0..3_usize), 1..7), mode, any::<bool>(), 1..4_usize);
    let sizes = (1..4_usize, (1..5_usize, 0..6_usize), 1..40_usize, any::<bool>(), any::<bool>());
    let faults = (
        prop::collection::vec(0..16_u8, 0..4),
        prop::collection::vec((0..4_usize, 0..4_u8), 0..6),
        prop::collection::vec((0..7_usize, picture(), prop::bool::weighted(0.05)), 1..300),
    );
    (shape, sizes, faults).prop_map(|(shape, sizes, faults)| {
        let (cameras, mode, remote, readers) = shape;
        let (instances, (size, more), buffer_frames_max, error_results, settled) = sizes;
        let (turns, sink_acts, frames) = faults;
        let batch = (size, size + more);
        Scenario {
            cameras,
            mode,
            remote,
            readers,
            instances,
            batch,
            buffer_frames_max,
            error_results,
            turns,
            sink_acts,
            frames,
            settled,
        }
    })
}

fn hold_the_laws(scenario: &Scenario) {
    let turns = scenario.turns.clone();
    let model = Model::new(move |batch| match turns.iter().position(|turn| u64::from(*turn) == batch % 16) {
        None => Turn::Answer,
        Some(0) => Turn::Fail,
        Some(1) => Turn::Panic,
        Some(2) => Turn::Count(1),
        Some(_) => Turn::Silence,
    });
    let loaded = if scenario.remote { model.remote() } else { model.blocking(Device::Cpu) };
    let mut rig = Rig::new(scenario.cameras.len(), LATEST, loaded);
    rig.engine.readers = scenario.readers;
    rig.engine.error_results = scenario.error_results;
    rig.engine.poll_pause_max = ms(2);
    rig.sinks = vec![sink_plan("one"), sink_plan("two")];
    rig.routes = vec![vec![0], vec![0, 1], vec![1]];
    for sink in &mut rig.sinks {
        (sink.buffer_frames_max, sink.backoff_max) = (scenario.buffer_frames_max, ms(2));
    }
    for (camera, (every, route)) in rig.cameras.iter_mut().zip(&scenario.cameras) {
        camera.delivery = if *every { Delivery::Every } else { LATEST };
        camera.route = *route;
    }
    let plan = &mut rig.models[0].0;
    (plan.mode, plan.instances) = (scenario.mode, Some(scenario.instances));
    (plan.batch.size, plan.batch.size_max) = scenario.batch;
    plan.in_flight_frames_max = 2 * scenario.batch.1;
    let running = rig.start().expect("starts");
    for (published, retry) in &scenario.sink_acts {
        let retry = [Retry::Now, Retry::Backoff, Retry::Backoff, Retry::Never][usize::from(*retry)];
        let act = Act::Fail { published: *published, message: "told to fail".into(), retry };
        running.sinks[usize::from(*published % 2 == 1)].then(act);
    }
    let mut next = vec![0; scenario.cameras.len()];
    for (camera, picture, empty) in &scenario.frames {
        let camera = camera % next.len();
        match empty {
            true => running.push_bytes(camera, next[camera], bytes::Bytes::new()),
            false => running.push(camera, next[camera], *picture),
        }
        next[camera] += 1;
    }
    if scenario.settled {
        running.wait_settled();
        assert_eq!(running.total().received, scenario.frames.len() as u64);
    }
    let stopped = running.stop();
    assert_eq!(stopped.report.late, 0, "nothing hangs here");
    let every = scenario.cameras.iter().all(|(every, _)| *every);
    let lossy = [omma_frame::DropReason::Overtaken, omma_frame::DropReason::Stale, omma_frame::DropReason::SinkFull];
    for reason in lossy {
        assert!(!every || stopped.dropped(reason) == 0, "{} of `every` cameras", reason.name());
    }
}

/// As [`hold_the_laws`], on a thread of its own that is left behind if it hangs.
fn watched(scenario: &Scenario) -> Result<(), TestCaseError> {
    let (done, ended) = sync_channel::<()>(0);
    let own = scenario.clone();
    let case = std::thread::spawn(move || {
        // Dropped at the end, and by a panic.
        let _done = done;
        hold_the_laws(&own);
    });
    match ended.recv_timeout(CASE_MAX) {
        Err(RecvTimeoutError::Timeout) => Err(TestCaseError::fail(format!("it hangs: not over after {CASE_MAX:?}"))),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => case.join().map_err(|panic| resume_unwind(panic)),
    }
}

#[test]
fn whatever_happens_the_laws_hold() {
    let begun = Instant::now();
    let hung = AtomicBool::new(false);
    let config = ProptestConfig {
        cases: CASES,
        max_shrink_iters: SHRINKS_MAX,
        max_shrink_time: ALL_MAX.as_millis() as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let tried = TestRunner::new(config).run(&scenario(), |scenario| {
        // A smaller case that hangs too would be no news, and each costs its whole time.
        if hung.load(Ordering::Relaxed) || begun.elapsed() > ALL_MAX {
            return Ok(());
        }
        let held = watched(&scenario);
        hung.fetch_or(held.is_err(), Ordering::Relaxed);
        held
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}

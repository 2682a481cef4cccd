//! Models loaded, swapped and unloaded while frames flow: none is lost, each camera's order holds, each result says which
//! version gave it, and a version that does not do never replaces one that does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{BatchLimit, Device, LoadedModel};
use omma_engine::pipeline::{ChangeError, ModelState, Shared};
use omma_engine::plan::{Mode, ModelPlan};
use omma_frame::{DropReason, FrameResult, Outcome};
use omma_testkit::doubles_backend::{Gate, Model, Opening, Turn};
use omma_testkit::doubles_picture::Picture;
use omma_testkit::engine_rig::{Asking, PATIENCE, Rig, Running, until, version};

use super::{LATEST, ms};

type Load = fn(&Arc<Model>) -> LoadedModel;

/// Each way in which a model is served.
const KINDS: [(&str, Mode, Load); 3] = [
    ("sync", Mode::Sync, |model| model.blocking(Device::Cpu)),
    ("async", Mode::Async, |model| model.blocking(Device::Accelerator)),
    ("remote", Mode::Async, |model| model.remote()),
];

fn rig(cameras: usize, delivery: Delivery, mode: Mode, loaded: LoadedModel) -> Rig {
    let mut rig = Rig::new(cameras, delivery, loaded);
    let plan = &mut rig.models[0].0;
    (plan.mode, plan.instances, plan.warmup_batches) = (mode, Some(2), 1);
    rig
}

fn good() -> Arc<Model> {
    Model::new(|_| Turn::Answer)
}

/// The versions that a camera's results came from, in their order, each run of the same once.
fn versions(results: &[FrameResult], camera: usize) -> Vec<u32> {
    let mut versions: Vec<u32> =
        results.iter().filter(|r| r.camera.slot() == camera).map(|r| r.served_by.version).collect();
    versions.dedup();
    versions
}

/// Stops the thread that brings frames, also if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Brings frames of all cameras on a thread of its own meanwhile; returns how many for each camera.
fn keep_pushing(running: &Running, cameras: usize, during: impl FnOnce()) -> u64 {
    let (stop, pushed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let next = pushed.load(Ordering::SeqCst);
                (0..cameras).for_each(|camera| running.push(camera, next, Picture::default()));
                pushed.store(next + 1, Ordering::SeqCst);
                // As fast as they are read, no faster.
                let read = || running.total().received + 64 * cameras as u64 >= (next + 1) * cameras as u64;
                until("frames are read", || stop.load(Ordering::SeqCst) || read());
            }
        });
        during();
    });
    pushed.load(Ordering::SeqCst)
}

fn swap(shared: &Arc<Shared>, number: u32, plan: &ModelPlan, loaded: LoadedModel) -> Result<u32, ChangeError> {
    shared.swap("model", version(number, plan, loaded))
}

#[test]
fn versions_take_over_from_one_another_while_frames_flow() {
    for (what, mode, load) in KINDS {
        let rig = rig(4, Delivery::Every, mode, load(&good()));
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        let shared = running.engine.shared();
        let pushed = keep_pushing(&running, 4, || {
            for number in 2..12 {
                let published = running.total().published;
                assert_eq!(swap(shared, number, &plan, load(&good())), Ok(number), "{what}");
                assert_eq!(running.serving(0).version, number);
                until("frames go on", || running.total().published > published + 8);
            }
        });
        running.wait_settled();
        let counters = &shared.metrics.models[0];
        assert_eq!(counters.instances_running.load(Ordering::SeqCst), if what == "remote" { 1 } else { 2 }, "{what}");
        assert_eq!((counters.loads.load(Ordering::SeqCst), counters.loads_failed.load(Ordering::SeqCst)), (10, 0));
        let stopped = running.stop();
        assert_eq!(stopped.report.counts.published, 4 * pushed, "{what}: none is lost");
        for camera in 0..4 {
            let seen = versions(&stopped.published[0], camera);
            assert!(seen.iter().all(|version| (1..12).contains(version)), "{what}: {seen:?}");
            // At each change the two versions' last and first batches may overlap, and leave in the camera's order.
            let set: BTreeSet<u32> = seen.iter().copied().collect();
            assert!(set.len() > 3, "{what}: {seen:?}");
        }
    }
}

#[test]
fn a_new_version_begins_only_when_all_its_instances_are_ready() {
    for (what, mode, load) in &KINDS[..2] {
        let gate = Gate::default();
        let warming = gate.clone();
        let rig = rig(1, Delivery::Every, *mode, load(&good()));
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        let shared = running.engine.shared();
        // Its second instance hangs in its warm-up until it is let go.
        let next = Model::new(move |batch| if batch == 1 { Turn::Wait(warming.clone()) } else { Turn::Answer });
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| swap(shared, 2, &plan, load(&next)));
            until("one of two instances is warm", || gate.waiting() == 1 && next.batches() == 2);
            running.push_all(0, 0..20);
            running.wait_settled();
            assert_eq!(next.batches(), 2, "{what}: only its warm-up");
            assert_eq!(shared.models()[0].state, ModelState::Ready);
            gate.open();
            assert_eq!(swapping.join().expect("no panic"), Ok(2));
        });
        running.push_all(0, 20..40);
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!(versions(&stopped.published[0], 0), [1, 2], "{what}");
    }
}

#[test]
fn a_version_that_does_not_do_never_replaces_one_that_does() {
    for (mode, load) in [(Mode::Sync, KINDS[0].2), (Mode::Async, KINDS[1].2)] {
        let table: [(&str, Arc<Model>, &str); 6] = [
            ("does not open", Model::opening(|_| Turn::Answer, |_| Opening::Fail), "no such file: model.onnx"),
            (
                "only its second instance does not open",
                Model::opening(|_| Turn::Answer, |opening| if opening == 1 { Opening::Fail } else { Opening::Fine }),
                "no such file: model.onnx",
            ),
            (
                "panics while it opens",
                Model::opening(|_| Turn::Answer, |_| Opening::Panic),
                "told to panic while opening",
            ),
            ("fails its warm-up", Model::new(|_| Turn::Fail), "the warm-up batch failed: out of memory"),
            ("panics in its warm-up", Model::new(|_| Turn::Panic), "told to panic on a batch"),
            ("gives outputs that cannot be read", Model::new(|_| Turn::Count(-1)), "has shape [3, 2], expected 4"),
        ];
        let rig = rig(2, Delivery::Every, mode, load(&good()));
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        let shared = running.engine.shared();
        let pushed = keep_pushing(&running, 2, || {
            for (what, bad, expected) in &table {
                let error = swap(shared, 7, &plan, load(bad)).expect_err(what);
                assert!(error.to_string().contains(expected), "{what}: {error}");
                let status = &shared.models()[0];
                assert_eq!((status.state, running.serving(0).version), (ModelState::Ready, 1), "{what}");
                assert!(status.reason.as_ref().is_some_and(|reason| reason.contains(expected)), "{what}: {status:?}");
                assert!(shared.ready(), "{what}");
            }
        });
        running.wait_settled();
        assert!(running.said("model model", "not loaded, version 1 serves on: "));
        let stopped = running.stop();
        assert_eq!(stopped.report.counts.published, 2 * pushed);
        assert!(stopped.published[0].iter().all(|result| result.served_by.version == 1));
    }
    // A server is asked as well before it replaces another.
    for (bad, expected) in
        [(Turn::Fail, "out of memory"), (Turn::Panic, "told to panic"), (Turn::Silence, "no outputs")]
    {
        let rig = rig(1, Delivery::Every, Mode::Async, good().remote());
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        let error =
            swap(running.engine.shared(), 2, &plan, Model::new(move |_| bad.clone()).remote()).expect_err("bad");
        assert!(error.to_string().contains(expected), "{error}");
        running.push_all(0, 0..5);
        running.wait_settled();
        assert_eq!(running.stop().report.counts.published, 5);
    }
}

#[test]
fn a_version_of_other_batch_sizes_gets_no_batch_of_the_one_before() {
    for (what, mode, load) in KINDS {
        let gate = Gate::default();
        let hold = gate.clone();
        let first = Model::new(move |batch| if batch < 2 { Turn::Answer } else { Turn::Wait(hold.clone()) });
        let mut rig = rig(8, Delivery::Every, mode, load(&first));
        rig.models[0].0.in_flight_frames_max = 8;
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        (0..8).for_each(|camera| running.push_all(camera, 0..12));
        until("the first version is busy", || gate.waiting() > 0 || what == "remote" && first.batches() > 0);
        let one = good();
        let mut loaded = load(&one);
        loaded.info.batch = BatchLimit::UpTo(1);
        let shared = running.engine.shared();
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| swap(shared, 2, &plan, loaded));
            until("it has taken over", || running.serving(0).version == 2);
            gate.open();
            assert_eq!(swapping.join().expect("no panic"), Ok(2), "{what}");
        });
        running.wait_settled();
        assert_eq!(running.stop().report.counts.published, 96, "{what}");
        assert!(one.batches() > 0 && one.batch_most() == 1, "{what}: {}", one.batch_most());
    }
}

/// A thread that has hung and returned is not waited for, and no other one in its place is forgotten.
#[test]
fn a_version_that_had_a_stall_ends_with_all_that_it_was_given() {
    let (stall, work) = (Gate::default(), Gate::default());
    let (hung, hold) = (stall.clone(), work.clone());
    let old = Model::new(move |batch| Turn::Wait(if batch == 0 { hung.clone() } else { hold.clone() }));
    let mut rig = rig(2, Delivery::Every, Mode::Async, old.blocking(Device::Accelerator));
    let plan = &mut rig.models[0].0;
    (plan.batch.size, plan.batch.size_max, plan.deadline) = (1, 1, ms(1000));
    (plan.instances, plan.warmup_batches) = (Some(1), 0);
    let mut plan = plan.clone();
    let running = rig.start().expect("starts");
    running.push_all(0, 0..1);
    running.wait_settled();
    stall.open();
    until("the hung thread has returned", || stall.waiting() == 0);
    let shared = running.engine.shared();
    until("another instance runs", || shared.metrics.models[0].instances_running.load(Ordering::Relaxed) == 1);
    running.push_all(0, 1..3);
    until("the old version runs one batch and has the next one ready", || {
        work.waiting() == 1 && shared.waiting(0) == 0
    });
    let next = good();
    plan.deadline = PATIENCE;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| swap(shared, 2, &plan, next.blocking(Device::Accelerator)));
        until("the new version has taken over", || running.serving(0).version == 2);
        running.push_all(1, 0..50);
        until("it serves", || next.batches() >= 50);
        work.open();
        assert_eq!(swapping.join().expect("no panic"), Ok(2));
    });
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.dropped(DropReason::DeadlineExceeded), 1);
    assert_eq!(stopped.sequences(0, 0), [1, 2]);
    assert_eq!(stopped.sequences(0, 1), (0..50).collect::<Vec<_>>());
}

#[test]
fn an_old_instance_that_hangs_meets_its_deadline_and_nobody_waits_for_it() {
    for (what, mode, load) in KINDS {
        let gate = Gate::default();
        let hung = gate.clone();
        // Its first batches are warm-up, where it has any.
        let skip = if what == "remote" { 0 } else { 2 };
        let old = Model::new(move |batch| if batch == skip { Turn::Wait(hung.clone()) } else { Turn::Answer });
        let mut rig = rig(1, Delivery::Every, mode, load(&old));
        let plan = &mut rig.models[0].0;
        (plan.batch.size, plan.batch.size_max, plan.deadline) = (1, 1, ms(300));
        let plan = plan.clone();
        let running = rig.start().expect("starts");
        running.push_all(0, 0..1);
        until("it hangs", || gate.waiting() == 1);
        let begun = Instant::now();
        assert_eq!(swap(running.engine.shared(), 2, &plan, load(&good())), Ok(2), "{what}");
        assert!(begun.elapsed() < PATIENCE / 2, "{what}: {:?}", begun.elapsed());
        running.push_all(0, 1..20);
        running.wait_settled();
        let stopped = running.stop();
        gate.open();
        assert_eq!(stopped.dropped(DropReason::DeadlineExceeded), 1, "{what}");
        assert_eq!(stopped.sequences(0, 0), (1..20).collect::<Vec<_>>(), "{what}");
        assert_eq!(versions(&stopped.published[0], 0), [2], "{what}");
    }
}

#[test]
fn a_broken_version_that_cannot_be_opened_again_is_mended_by_another() {
    for (what, mode, load) in &KINDS[..2] {
        let old = Model::opening(
            |batch| if batch == 3 { Turn::Break } else { Turn::Answer },
            |opening| if opening == 0 { Opening::Fine } else { Opening::Fail },
        );
        let mut rig = rig(1, Delivery::Every, *mode, load(&old));
        let plan = &mut rig.models[0].0;
        (plan.batch.size, plan.batch.size_max, plan.instances) = (1, 1, Some(1));
        let plan = plan.clone();
        let running = rig.start().expect("starts");
        running.push_all(0, 0..10);
        until("it is broken", || running.said("model model", "no such file"));
        assert!(!running.engine.shared().ready());
        assert_eq!(swap(running.engine.shared(), 2, &plan, load(&good())), Ok(2), "{what}");
        running.wait_settled();
        assert!(running.engine.shared().ready(), "{what}");
        let stopped = running.stop();
        // The batch that broke it and, in `async` mode, those decoded for it already.
        let lost = stopped.dropped(DropReason::BackendFailed);
        assert!((1..=3).contains(&lost), "{what}: {lost}");
        assert_eq!(stopped.report.counts.published, 10 - lost, "{what}");
    }
}

#[test]
fn changes_of_one_model_come_one_after_the_other() {
    let rig = rig(2, Delivery::Every, Mode::Sync, good().blocking(Device::Cpu));
    let plan = rig.models[0].0.clone();
    let running = rig.start().expect("starts");
    let shared = running.engine.shared();
    let pushed = keep_pushing(&running, 2, || {
        std::thread::scope(|scope| {
            for number in 2..10 {
                let plan = &plan;
                scope.spawn(move || assert_eq!(swap(shared, number, plan, good().blocking(Device::Cpu)), Ok(number)));
            }
        });
    });
    running.wait_settled();
    assert_eq!(shared.metrics.models[0].instances_running.load(Ordering::SeqCst), 2, "one version is left");
    assert_eq!(running.stop().report.counts.published, 2 * pushed);
}

#[test]
fn an_unloaded_model_keeps_every_and_drops_latest_by_name_until_it_is_loaded_again() {
    for (what, mode, load) in KINDS {
        let mut rig = rig(2, Delivery::Every, mode, load(&good()));
        rig.cameras[1].delivery = LATEST;
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        let shared = running.engine.shared();
        running.push_all(0, 0..10);
        running.push_all(1, 0..1);
        running.wait_settled();
        shared.unload("model").expect("unloads");
        assert_eq!(shared.models()[0].state, ModelState::Unloaded);
        assert!(shared.ready(), "{what}: as it was asked for");
        assert_eq!(shared.metrics.models[0].instances_running.load(Ordering::SeqCst), 0, "{what}");
        running.push_all(0, 10..60);
        running.push_all(1, 1..20);
        until("the live ones are dropped", || running.counts(1).dropped(DropReason::ModelUnloaded) == 19);
        assert_eq!(running.counts(0).received, 10, "{what}: the others are not read");
        let (asking, caller) = Asking::new();
        assert!(running.engine.ask(0, omma_frame::Payload::Encoded(Picture::default().bytes()), caller).is_err());
        assert!(asking.answers().is_empty());
        // Twice is once.
        shared.unload("model").expect("unloads");
        assert_eq!(swap(shared, 2, &plan, load(&good())), Ok(2), "{what}");
        running.push_all(1, 20..21);
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!(stopped.sequences(0, 0), (0..60).collect::<Vec<_>>(), "{what}");
        assert_eq!(versions(&stopped.published[0], 0), [1, 2], "{what}");
        assert_eq!(stopped.dropped(DropReason::ModelUnloaded), 19, "{what}");
    }
}

#[test]
fn what_waits_when_a_model_is_unloaded_is_kept_refused_or_answered_by_name() {
    let gate = Gate::default();
    let hold = gate.clone();
    let busy = Model::new(move |batch| if batch < 1 { Turn::Answer } else { Turn::Wait(hold.clone()) });
    let mut rig = rig(2, Delivery::Every, Mode::Sync, busy.blocking(Device::Cpu));
    let plan = &mut rig.models[0].0;
    (plan.instances, plan.batch.size, plan.batch.size_max) = (Some(1), 1, 1);
    let plan = plan.clone();
    rig.cameras[1].delivery = LATEST;
    let running = rig.start().expect("starts");
    let shared = running.engine.shared();
    running.push_all(0, 0..1);
    until("it is busy", || gate.waiting() == 1);
    running.push_all(0, 1..6);
    running.push_all(1, 0..3);
    until("they wait", || shared.waiting(0) == 8);
    let (asking, caller) = Asking::new();
    let encoded = omma_frame::Payload::Encoded(Picture::default().bytes());
    assert!(running.engine.ask(0, encoded, caller).is_ok());
    std::thread::scope(|scope| {
        let unloading = scope.spawn(|| shared.unload("model"));
        until("the request is refused", || asking.answers().len() == 1);
        gate.open();
        assert_eq!(unloading.join().expect("no panic"), Ok(()));
    });
    let Outcome::Dropped { reason, .. } = asking.answers()[0].outcome else { panic!("refused") };
    assert_eq!(reason, DropReason::ModelUnloaded);
    until("what was in it is done", || running.counts(0).published == 1);
    assert_eq!(running.counts(1).dropped(DropReason::ModelUnloaded), 3);
    assert_eq!(shared.waiting(0), 5, "these wait");
    assert_eq!(swap(shared, 2, &plan, good().blocking(Device::Cpu)), Ok(2));
    running.wait_settled();
    assert_eq!(running.stop().sequences(0, 0), (0..6).collect::<Vec<_>>());
}

#[test]
fn a_drain_waits_for_nobody_who_will_not_come() {
    let mut rig = rig(1, Delivery::Every, Mode::Sync, good().blocking(Device::Cpu));
    rig.models[0].0.batch.timeout = ms(10_000);
    let running = rig.start().expect("starts");
    let shared = Arc::clone(running.engine.shared());
    // Frames that wait when the model goes: the reader may bring some more before it sees it.
    running.push_all(0, 0..3);
    until("they are read", || running.total().received > 0);
    shared.unload("model").expect("unloads");
    let begun = Instant::now();
    let stopped = running.stop();
    assert!(begun.elapsed() < ms(5000), "{:?}", begun.elapsed());
    assert_eq!(stopped.report.late, stopped.dropped(DropReason::Shutdown));
    assert_eq!(shared.unload("model").expect_err("too late").to_string(), "the engine is stopped, expected running");
}

#[test]
fn a_drain_during_a_swap_ends_both() {
    for (what, mode, load) in &KINDS[..2] {
        let gate = Gate::default();
        let warming = gate.clone();
        let rig = rig(1, Delivery::Every, *mode, load(&good()));
        let plan = rig.models[0].0.clone();
        let running = rig.start().expect("starts");
        let shared = Arc::clone(running.engine.shared());
        let next = Model::new(move |_| Turn::Wait(warming.clone()));
        let loaded = load(&next);
        let swapping = std::thread::spawn(move || shared.swap("model", version(2, &plan, loaded)));
        until("it warms up", || gate.waiting() == 2);
        running.push_all(0, 0..20);
        until("they are read", || running.total().received == 20);
        let stopped = running.stop();
        assert_eq!(stopped.report.counts.published, 20, "{what}");
        gate.open();
        assert_eq!(swapping.join().expect("no panic"), Err(ChangeError::Refused("the engine stops".into())), "{what}");
    }
}

#[test]
fn a_model_that_is_not_there_and_an_engine_without_a_store_say_so() {
    let running = rig(1, Delivery::Every, Mode::Sync, good().blocking(Device::Cpu)).start().expect("starts");
    let shared = running.engine.shared();
    for (error, expected) in [
        (shared.load("nose", None).expect_err("unknown"), "there is no model \"nose\""),
        (shared.unload("nose").expect_err("unknown"), "there is no model \"nose\""),
        (shared.load("model", Some(2)).expect_err("no store"), "it was started without a store of versions"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(shared.model_versions("model").is_empty());
    let _ = running.stop();
}

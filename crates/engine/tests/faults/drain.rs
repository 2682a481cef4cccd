//! The end: everything in flight is done, or given up by name within the bound; nothing is acknowledged that is not.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{Device, LoadedModel};
use omma_engine::lifecycle::Phase;
use omma_engine::pipeline::Shared;
use omma_engine::plan::Mode;
use omma_engine::sink::Retry;
use omma_engine::source::{Arrival, Demand, Fate, Polled, Settlement, Source, SourceError};
use omma_frame::DropReason;
use omma_testkit::doubles_backend::{Gate, Model, Opening, Turn};
use omma_testkit::engine_rig::{Rig, Stopped, until};
use omma_testkit::sink::Act;
use omma_testkit::source::ManualSource;

use super::{LATEST, ms};

/// The most that a drain may take beyond its deadline: giving up, and joining threads.
const BEYOND: std::time::Duration = ms(6000);

fn fates(stopped: &Stopped, fate: Fate) -> Vec<u64> {
    let mut sequences: Vec<u64> =
        stopped.settlements.iter().filter(|s| s.camera.slot() == 0 && s.fate == fate).map(|s| s.sequence).collect();
    sequences.sort_unstable();
    sequences
}

#[test]
fn a_drain_completes_everything_that_was_read() {
    for (mode, delivery) in [(Mode::Sync, Delivery::Every), (Mode::Async, Delivery::Every), (Mode::Async, LATEST)] {
        let gate = Gate::default();
        let (wait, opener) = (gate.clone(), gate.clone());
        let model = Model::new(move |_| Turn::Wait(wait.clone()));
        let mut rig = Rig::new(4, delivery, model.blocking(Device::Cpu));
        rig.models[0].0.mode = mode;
        rig.models[0].0.instances = Some(2);
        let running = rig.start().expect("starts");
        (0..4).for_each(|camera| running.push_all(camera, 0..10));
        until("all are read", || running.total().received == 40);
        let lifecycle = Arc::clone(running.engine.shared());
        let late = std::thread::spawn(move || {
            until("the drain has begun", || lifecycle.lifecycle.phase() >= Phase::Draining);
            opener.open();
        });
        let stopped = running.stop();
        late.join().expect("no panic");
        assert_eq!(stopped.report.late, 0);
        assert_eq!(stopped.report.counts.published + stopped.dropped(DropReason::Overtaken), 40);
    }
}

/// Whoever forgets to drain gets it done nevertheless: no thread goes on without an owner.
#[test]
fn an_engine_that_is_dropped_is_drained() {
    let running =
        Rig::new(2, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu)).start().expect("starts");
    (0..2).for_each(|camera| running.push_all(camera, 0..10));
    until("all are read", || running.total().received == 20);
    let shared = Arc::clone(running.engine.shared());
    drop(running.engine);
    assert_eq!(shared.lifecycle.phase(), Phase::Stopped);
    let total = shared.ledger.total();
    assert_eq!((total.received, total.published, total.in_flight), (20, 20, 0));
}

/// A reader may be between its poll and its count when the drain looks.
#[test]
fn frames_read_while_the_drain_begins_are_not_forgotten() {
    for round in 0..40 {
        let model = Model::new(|_| Turn::Answer);
        let mut rig = Rig::new(8, Delivery::Every, model.blocking(Device::Cpu));
        rig.engine.readers = 2;
        let running = rig.start().expect("starts");
        (0..8).for_each(|camera| running.push_all(camera, 0..1));
        // The laws alone: how many were read before the end is chance.
        until("something is read", || round % 2 == 0 || running.total().received > 0);
        let _ = running.stop();
    }
}

/// Its poll that finds the first frame returns when the engine drains, and a little later.
struct Dawdler {
    inner: ManualSource,
    shared: Arc<OnceLock<Arc<Shared>>>,
    /// Hears that this poll has begun.
    found: SyncSender<()>,
}

impl Source for Dawdler {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let polled = self.inner.poll(demand, arrivals)?;
        if arrivals.is_empty() {
            return Ok(polled);
        }
        let _ = self.found.try_send(());
        until("the engine drains", || self.shared.get().is_some_and(|s| s.lifecycle.phase() >= Phase::Draining));
        // Long enough for a drain that does not wait for this poll to be over before it.
        let begun = Instant::now();
        until("some time has passed", || begun.elapsed() > ms(100));
        Ok(polled)
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.inner.settle(settlements)
    }
}

#[test]
fn what_a_poll_brings_while_the_engine_drains_is_published() {
    let (shared, (found, begun)) = (Arc::new(OnceLock::new()), sync_channel(1));
    let mut rig = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    let known = Arc::clone(&shared);
    rig.tamper = Box::new(move |inner| Box::new(Dawdler { inner, shared: Arc::clone(&known), found: found.clone() }));
    let running = rig.start().expect("starts");
    assert!(shared.set(Arc::clone(running.engine.shared())).is_ok());
    running.push_all(0, 0..1);
    begun.recv().expect("a poll");
    let stopped = running.stop();
    assert_eq!((stopped.report.counts.received, stopped.report.counts.published, stopped.report.late), (1, 1, 0));
}

#[test]
fn what_a_hung_model_holds_is_left_for_later_within_the_bound() {
    type Load = fn(&Arc<Model>) -> LoadedModel;
    let table: [(&str, Mode, Load); 3] = [
        ("sync", Mode::Sync, |model| model.blocking(Device::Cpu)),
        ("async", Mode::Async, |model| model.blocking(Device::Accelerator)),
        ("remote", Mode::Async, |model| model.remote()),
    ];
    for (what, mode, load) in table {
        let gate = Gate::default();
        let hung = gate.clone();
        let model = Model::new(move |batch| if batch < 2 { Turn::Answer } else { Turn::Wait(hung.clone()) });
        let mut rig = Rig::new(1, Delivery::Every, load(&model));
        rig.engine.drain_timeout = ms(200);
        let plan = &mut rig.models[0].0;
        (plan.mode, plan.batch.size, plan.batch.size_max) = (mode, 1, 1);
        plan.in_flight_frames_max = 3;
        let running = rig.start().expect("starts");
        running.push_all(0, 0..12);
        until("the model hangs", || gate.waiting() >= 1);
        until("all are read", || running.total().received == 12);
        let begun = Instant::now();
        let stopped = running.stop();
        assert!(begun.elapsed() < ms(200) + BEYOND, "{what}: took {:?}", begun.elapsed());
        assert_eq!(stopped.report.late, 10, "{what}");
        assert_eq!(fates(&stopped, Fate::Published), [0, 1], "{what}");
        assert_eq!(fates(&stopped, Fate::Dropped(DropReason::Shutdown)), (2..12).collect::<Vec<_>>(), "{what}");
        assert!(stopped.said("engine", "10 frame(s) were not done within the drain's deadline"), "{what}");
        gate.open();
    }
}

#[test]
fn frames_of_a_model_that_cannot_be_opened_again_are_left_for_later() {
    for mode in [Mode::Sync, Mode::Async] {
        let model = Model::opening(
            |batch| if batch == 2 { Turn::Break } else { Turn::Answer },
            |opening| if opening == 0 { Opening::Fine } else { Opening::Fail },
        );
        let mut rig = Rig::new(1, Delivery::Every, model.blocking(Device::Cpu));
        rig.engine.drain_timeout = ms(200);
        let plan = &mut rig.models[0].0;
        (plan.mode, plan.batch.size, plan.batch.size_max) = (mode, 1, 1);
        let running = rig.start().expect("starts");
        running.push_all(0, 0..10);
        until("it is broken", || running.said("model model", "no such file"));
        until("all are read", || running.total().received == 10);
        assert!(!running.engine.shared().ready(), "nobody serves this model now");
        let stopped = running.stop();
        assert_eq!(fates(&stopped, Fate::Published), [0, 1], "{mode:?}");
        assert_eq!(fates(&stopped, Fate::Dropped(DropReason::Shutdown)), (3..10).collect::<Vec<_>>(), "{mode:?}");
    }
}

#[test]
fn what_a_blocked_sink_has_not_taken_is_not_acknowledged() {
    let mut rig = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    rig.engine.drain_timeout = ms(200);
    let running = rig.start().expect("starts");
    running.push_all(0, 0..3);
    running.wait_settled();
    running.sinks[0].hold();
    running.push_all(0, 3..10);
    running.sinks[0].wait_until_blocked();
    until("all are read", || running.total().received == 10);
    let begun = Instant::now();
    let stopped = running.stop();
    assert!(begun.elapsed() < ms(200) + BEYOND, "took {:?}", begun.elapsed());
    assert_eq!(fates(&stopped, Fate::Published), [0, 1, 2]);
    assert_eq!(fates(&stopped, Fate::Dropped(DropReason::Shutdown)), (3..10).collect::<Vec<_>>());
    assert_eq!(stopped.sequences(0, 0), [0, 1, 2]);
}

#[test]
fn what_a_sink_had_published_before_it_got_stuck_is_acknowledged() {
    let mut rig = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    rig.engine.drain_timeout = ms(200);
    let running = rig.start().expect("starts");
    let sink = &running.sinks[0];
    sink.hold();
    running.push_all(0, 0..1);
    sink.wait_until_blocked();
    running.push_all(0, 1..8);
    let buffered = &running.engine.shared().metrics.sinks[0].buffered;
    until("they have gathered", || buffered.load(std::sync::atomic::Ordering::Relaxed) == 7);
    // The next call takes three of the seven and fails; the one after it is stuck.
    sink.then(Act::Fail { published: 3, message: "connection reset".into(), retry: Retry::Now });
    sink.allow(4);
    sink.wait_published(4);
    until("it is stuck with the rest", || sink.calls() == 3);
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), [0, 1, 2, 3]);
    assert_eq!(fates(&stopped, Fate::Published), [0, 1, 2, 3]);
    assert_eq!(fates(&stopped, Fate::Dropped(DropReason::Shutdown)), [4, 5, 6, 7]);
}

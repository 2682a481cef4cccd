//! Sinks that block, fail, fail half-way, refuse for good, or panic.

use std::time::Duration;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::plan::Mode;
use omma_engine::sink::Retry;
use omma_frame::DropReason;
use omma_testkit::doubles_backend::{Model, Turn};
use omma_testkit::engine_rig::{Rig, Running, sink_plan, until};
use omma_testkit::sink::Act;

use super::{LATEST, median_latency, ms, unaffected};

fn rig(cameras: usize, delivery: Delivery) -> Rig {
    Rig::new(cameras, delivery, Model::new(|_| Turn::Answer).blocking(Device::Cpu))
}

/// The writer is in the sink with frame 0, and what comes now gathers in the buffer.
fn block(running: &Running) {
    running.sinks[0].hold();
    running.push_all(0, 0..1);
    running.sinks[0].wait_until_blocked();
}

#[test]
fn a_blocked_sink_keeps_the_newest_results_of_latest_cameras_within_its_bound() {
    let mut rig = rig(1, LATEST);
    rig.sinks[0].buffer_frames_max = 16;
    rig.cameras[0].waiting_frames_max = 1000;
    let running = rig.start().expect("starts");
    block(&running);
    running.push_all(0, 1..101);
    // One in the sink's hands, sixteen in its buffer, the others are given up, the oldest first.
    until("the rest is dropped", || running.total().dropped(DropReason::SinkFull) == 84);
    assert_eq!(running.counts(0).in_flight, 17);
    until("it is said", || running.said("sink sink", "the buffer of 16 frames is full"));
    running.sinks[0].release();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), [0].into_iter().chain(85..101).collect::<Vec<_>>());
}

#[test]
fn a_blocked_sink_stops_the_reading_of_every_cameras_and_nothing_is_lost() {
    let mut rig = rig(4, Delivery::Every);
    rig.sinks[0].buffer_frames_max = 32;
    let running = rig.start().expect("starts");
    running.sinks[0].hold();
    (0..4).for_each(|camera| running.push_all(camera, 0..100));
    until("it is full", || running.total().received == 32);
    let polls = running.sources[0].polls();
    until("the source has been polled again and again", || running.sources[0].polls() > polls + 20);
    let total = running.total();
    assert_eq!((total.received, total.in_flight, running.sources[0].unread()), (32, 32, 368), "exactly the bound");
    until("it is said", || running.said("sink sink", "has not taken"));
    running.sinks[0].release();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!((stopped.report.counts.published, stopped.report.counts.dropped_total()), (400, 0));
    (0..4).for_each(|camera| assert_eq!(stopped.sequences(0, camera), (0..100).collect::<Vec<_>>()));
}

#[test]
fn the_bound_of_every_cameras_holds_for_each_reader_and_does_not_slow_latest_cameras() {
    let mut rig = rig(24, Delivery::Every);
    rig.engine.readers = 3;
    rig.sinks = vec![sink_plan("stuck"), sink_plan("well")];
    (rig.sinks[0].buffer_frames_max, rig.sinks[1].buffer_frames_max) = (30, 2000);
    rig.routes = vec![vec![0], vec![1]];
    for camera in &mut rig.cameras[12..] {
        (camera.delivery, camera.route, camera.waiting_frames_max) = (LATEST, 1, 1000);
    }
    let running = rig.start().expect("starts");
    running.sinks[0].hold();
    (0..24).for_each(|camera| running.push_all(camera, 0..100));
    until("the other route is served", || running.sinks[1].published().len() == 1200);
    until("polled on", || running.sources.iter().all(|source| source.polls() > 20));
    let held: u64 = (0..12).map(|camera| running.counts(camera).in_flight).sum();
    assert!(held <= 30, "{held} frames for a buffer of 30");
    running.sinks[0].release();
    running.wait_settled();
    assert_eq!(running.stop().report.counts.published, 2400);
}

#[test]
fn a_sink_that_fails_and_recovers_has_each_frame_once() {
    for delivery in [Delivery::Every, LATEST] {
        let mut rig = rig(2, delivery);
        rig.cameras.iter_mut().for_each(|camera| camera.waiting_frames_max = 1000);
        let running = rig.start().expect("starts");
        block(&running);
        let sink = &running.sinks[0];
        for published in [0, 3, 0, 0, 1, 2] {
            sink.then(Act::Fail { published, message: "no space left on device".into(), retry: Retry::Backoff });
        }
        (0..8).for_each(|_| sink.then(Act::Fail { published: 0, message: "again".into(), retry: Retry::Now }));
        running.push_all(0, 1..60);
        running.push_all(1, 0..60);
        sink.release();
        running.wait_settled();
        let stopped = running.stop();
        for camera in 0..2 {
            assert_eq!(stopped.sequences(0, camera), (0..60).collect::<Vec<_>>(), "{delivery:?}");
        }
        assert!(stopped.said("sink sink", "scripted: no space left on device"), "{:?}", stopped.messages);
        assert!(stopped.said("sink sink", "publishing again"), "{:?}", stopped.messages);
    }
}

#[test]
fn what_a_sink_refuses_for_good_is_dropped_by_name_and_the_next_is_published() {
    let running = rig(1, Delivery::Every).start().expect("starts");
    block(&running);
    running.sinks[0].then(Act::Fail { published: 2, message: "too large".into(), retry: Retry::Never });
    running.push_all(0, 1..9);
    until("they have gathered", || {
        running.engine.shared().metrics.sinks[0].buffered.load(std::sync::atomic::Ordering::Relaxed) == 8
    });
    running.sinks[0].release();
    running.wait_settled();
    running.push_all(0, 9..12);
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.dropped(DropReason::SinkFailed), 6);
    assert_eq!(stopped.sequences(0, 0), [0, 1, 2, 9, 10, 11]);
    assert!(stopped.said("sink sink", "too large"));
}

#[test]
fn a_sink_that_refuses_some_results_publishes_the_others() {
    let running = rig(1, Delivery::Every).start().expect("starts");
    block(&running);
    let refuse = |published, refused| Act::Refuse { published, refused, message: "wrong type of key".into() };
    // Frame 0 is in the first call, which the sink was blocked in; what comes now is one delivery. Twice with a rest
    // that is given again, so that places are counted from the rest's front.
    for act in [refuse(6, vec![0, 5]), refuse(4, vec![1, 3]), refuse(5, vec![4])] {
        running.sinks[0].then(act);
    }
    running.push_all(0, 1..16);
    until("all wait for the sink", || running.buffered(0) == 15);
    running.sinks[0].release();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), [0, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14]);
    let counts = stopped.report.counts;
    assert_eq!((counts.published, counts.dropped(DropReason::SinkFailed)), (11, 5));
    assert!(stopped.said("sink sink", "scripted: wrong type of key"), "{:?}", stopped.messages);
}

#[test]
fn a_sink_that_panics_costs_what_it_was_given_and_the_next_is_published() {
    let running = rig(1, Delivery::Every).start().expect("starts");
    running.sinks[0].then(Act::Panic);
    running.push_all(0, 0..1);
    running.wait_settled();
    running.push_all(0, 1..20);
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.dropped(DropReason::SinkFailed), 1);
    assert_eq!(stopped.sequences(0, 0), (1..20).collect::<Vec<_>>());
    assert!(stopped.said("sink sink", "the sink panicked: told to panic"), "{:?}", stopped.messages);
}

#[test]
fn a_stuck_sink_does_not_touch_cameras_of_another() {
    for mode in [Mode::Sync, Mode::Async] {
        let run = |stuck: bool| {
            let mut rig = rig(4, Delivery::Every);
            rig.models[0].0.mode = mode;
            rig.sinks = vec![sink_plan("stuck"), sink_plan("well")];
            rig.routes = vec![vec![0], vec![1]];
            rig.sinks[0].buffer_frames_max = 8;
            rig.cameras[1].delivery = LATEST;
            rig.cameras[2].route = 1;
            rig.cameras[3] = omma_engine::cameras::CameraPlan {
                delivery: LATEST,
                route: 1,
                waiting_frames_max: 1000,
                ..rig.cameras[3].clone()
            };
            let running = rig.start().expect("starts");
            if stuck {
                running.sinks[0].hold();
            }
            (0..4).for_each(|camera| running.push_all(camera, 0..200));
            let published = running.sinks[1].wait_published(400);
            running.sinks[0].release();
            running.wait_settled();
            let stopped = running.stop();
            for camera in [2, 3] {
                assert_eq!(stopped.sequences(1, camera), (0..200).collect::<Vec<_>>());
            }
            assert_eq!(stopped.sequences(0, 0), (0..200).collect::<Vec<_>>(), "an `every` camera loses nothing");
            median_latency(&published, |_| true)
        };
        let (normal, now) = (run(false), run(true));
        assert!(unaffected(now, normal), "{mode:?}: {now:?}, without the fault {normal:?}");
    }
}

#[test]
fn frames_of_two_sinks_are_settled_when_the_slower_is_done() {
    let mut rig = rig(1, Delivery::Every);
    rig.sinks = vec![sink_plan("slow"), sink_plan("quick")];
    rig.routes = vec![vec![0, 1]];
    rig.sinks[0].backoff_min = ms(1);
    let running = rig.start().expect("starts");
    running.sinks[0].hold();
    running.push_all(0, 0..10);
    running.sinks[1].wait_published(10);
    assert_eq!(running.counts(0).published, 0, "not before both have them");
    running.sinks[0].release();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!((stopped.sequences(0, 0), stopped.sequences(1, 0)), ((0..10).collect(), (0..10).collect()));
}

#[test]
fn a_sink_that_wants_time_between_publications_gets_at_once_what_came_meanwhile() {
    let running = rig(1, Delivery::Every).start().expect("starts");
    running.sinks[0].space(Duration::from_millis(300));
    // One by one, so that without that time each would be a publication of its own.
    for frame in 0..50 {
        running.push_all(0, frame..frame + 1);
        until("it has come to the sink", || running.total().published + running.buffered(0) > frame);
    }
    running.wait_settled();
    let calls = running.sinks[0].calls();
    assert!(calls < 20, "{calls}");
    assert_eq!(running.stop().sequences(0, 0), (0..50).collect::<Vec<_>>());
}

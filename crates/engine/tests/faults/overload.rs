//! More frames than can be served: who waits, who is dropped, and before what it has cost anything.

use std::time::Instant;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::plan::Mode;
use omma_frame::DropReason;
use omma_testkit::doubles_backend::{Gate, Model, Turn};
use omma_testkit::engine_rig::{Rig, until};

use super::{LATEST, ms};

/// A model that waits at the gate with its first batch.
fn gated(gate: &Gate) -> std::sync::Arc<Model> {
    let gate = gate.clone();
    Model::new(move |batch| if batch == 0 { Turn::Wait(gate.clone()) } else { Turn::Answer })
}

#[test]
fn of_a_latest_camera_the_newest_frames_win_and_the_others_are_never_decoded() {
    let gate = Gate::default();
    let running = Rig::new(1, LATEST, gated(&gate).blocking(Device::Cpu));
    let running = Rig {
        cameras: vec![omma_engine::cameras::CameraPlan { waiting_frames_max: 2, ..running.cameras[0].clone() }],
        ..running
    };
    let running = running.start().expect("starts");
    running.push_all(0, 0..1);
    until("the model is busy", || gate.waiting() == 1);
    running.push_all(0, 1..101);
    until("the older ones are overtaken", || running.counts(0).dropped(DropReason::Overtaken) == 98);
    gate.open();
    running.wait_settled();
    assert_eq!(running.pictures[0].decoded(), 3, "dropped before they cost anything");
    assert_eq!(running.stop().sequences(0, 0), [0, 99, 100]);
}

#[test]
fn a_frame_too_old_when_its_turn_comes_is_stale_and_never_decoded() {
    let gate = Gate::default();
    let delivery = Delivery::Latest { age_max: ms(100) };
    let running = Rig::new(2, delivery, gated(&gate).blocking(Device::Cpu)).start().expect("starts");
    running.push_all(0, 0..1);
    until("the model is busy", || gate.waiting() == 1);
    running.push_all(0, 1..3);
    running.push_all(1, 0..2);
    until("they have been read", || running.total().received == 5);
    let read_at = Instant::now();
    until("they are too old", || read_at.elapsed() > ms(120));
    gate.open();
    running.wait_settled();
    let stopped_at = running.pictures[0].decoded();
    let stopped = running.stop();
    assert_eq!((stopped.dropped(DropReason::Stale), stopped_at), (4, 1));
}

#[test]
fn a_camera_at_a_hundred_times_the_rate_takes_no_others_turn() {
    for mode in [Mode::Sync, Mode::Async] {
        let gate = Gate::default();
        let mut rig = Rig::new(10, Delivery::Every, gated(&gate).blocking(Device::Cpu));
        rig.models[0].0.mode = mode;
        let running = rig.start().expect("starts");
        running.push_all(0, 0..3000);
        until("the model is busy", || gate.waiting() == 1);
        (1..10).for_each(|camera| running.push_all(camera, 0..30));
        until("all are read as far as they may", || running.total().received == 10 * 16);
        gate.open();
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!(stopped.report.counts.published, 3000 + 9 * 30);
        let last = stopped.published[0].iter().rposition(|result| result.camera.slot() != 0).unwrap_or_default();
        let ahead = stopped.published[0][..last].iter().filter(|result| result.camera.slot() == 0).count();
        // Served in turn, it gets as many turns as each other camera, and what it had in flight besides.
        assert!(ahead <= 30 + 2 * 16 + 64, "{mode:?}: {ahead} of its frames before the last of the others");
    }
}

#[test]
fn a_flood_of_a_latest_camera_costs_its_own_frames_only() {
    let gate = Gate::default();
    let mut rig = Rig::new(5, Delivery::Every, gated(&gate).blocking(Device::Cpu));
    rig.cameras[0].delivery = LATEST;
    let running = rig.start().expect("starts");
    running.push_all(1, 0..1);
    until("the model is busy", || gate.waiting() == 1);
    running.push_all(0, 0..5000);
    (1..5).for_each(|camera| running.push_all(camera, 1..21));
    until("all but the four that may wait are overtaken", || running.counts(0).dropped(DropReason::Overtaken) == 4996);
    assert_eq!(running.counts(0).received, 5000);
    gate.open();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), (4996..5000).collect::<Vec<_>>());
    assert_eq!(stopped.report.counts.published, 4 + 1 + 80);
}

#[test]
fn no_camera_is_read_whose_model_has_its_share_of_bytes_waiting() {
    let gate = Gate::default();
    let mut rig = Rig::new(4, Delivery::Every, gated(&gate).blocking(Device::Cpu));
    rig.models
        .push((omma_testkit::engine_rig::model_plan("second"), Model::new(|_| Turn::Answer).blocking(Device::Cpu)));
    // Pictures have 8 bytes: each model has room for ten.
    rig.engine.waiting_bytes_max = 2 * 80;
    rig.cameras[2].delivery = LATEST;
    rig.cameras[3].model = 1;
    let running = rig.start().expect("starts");
    running.push_all(0, 0..1);
    until("the model is busy", || gate.waiting() == 1);
    running.push_all(0, 1..16);
    until("more wait than may", || running.total().received == 16);
    (1..4).for_each(|camera| running.push_all(camera, 0..100));
    until("the other model serves its camera", || running.counts(3).published == 100);
    assert_eq!((running.counts(1).received, running.counts(2).received), (0, 0));
    gate.open();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), (0..16).collect::<Vec<_>>());
    assert_eq!(stopped.sequences(0, 1), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_model_that_is_stuck_holds_no_frames_of_another() {
    let gate = Gate::default();
    let mut rig = Rig::new(4, Delivery::Every, gated(&gate).blocking(Device::Cpu));
    rig.models
        .push((omma_testkit::engine_rig::model_plan("second"), Model::new(|_| Turn::Answer).blocking(Device::Cpu)));
    rig.cameras[2].model = 1;
    rig.cameras[3].model = 1;
    let running = rig.start().expect("starts");
    (0..4).for_each(|camera| running.push_all(camera, 0..100));
    until("the second model serves its cameras", || {
        running.counts(2).published == 100 && running.counts(3).published == 100
    });
    assert_eq!(running.counts(0).published + running.counts(1).published, 0);
    gate.open();
    running.wait_settled();
    assert_eq!(running.stop().report.counts.published, 400);
}

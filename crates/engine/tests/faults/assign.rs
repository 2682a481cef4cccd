//! A camera's model changed while frames flow: none is lost, its order holds, and each result says who gave it.

use std::sync::Arc;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::pipeline::AssignError;
use omma_engine::plan::Mode;
use omma_frame::{CameraId, FrameResult};
use omma_testkit::doubles_backend::{Gate, Model, Turn};
use omma_testkit::doubles_picture::Picture;
use omma_testkit::engine_rig::{Rig, Running, model_plan, until};

use super::LATEST;

fn id(camera: usize) -> CameraId {
    CameraId::new(&format!("cam-{camera}")).expect("an id")
}

/// Two models, one served in `sync` and one in `async` mode; all cameras begin with the first.
fn rig(cameras: usize, delivery: Delivery, first: &Arc<Model>) -> Rig {
    let mut rig = Rig::new(cameras, delivery, first.blocking(Device::Cpu));
    rig.models[0].0.instances = Some(2);
    let mut second = model_plan("second");
    (second.mode, second.instances) = (Mode::Async, Some(2));
    rig.models.push((second, Model::new(|_| Turn::Answer).blocking(Device::Accelerator)));
    rig.engine.readers = 2;
    rig
}

fn good() -> Arc<Model> {
    Model::new(|_| Turn::Answer)
}

fn model_of(running: &Running, camera: usize) -> usize {
    running.engine.shared().cameras.snapshot()[camera].model()
}

fn models(results: &[FrameResult], camera: usize) -> Vec<u32> {
    let mut models: Vec<u32> =
        results.iter().filter(|r| r.camera.slot() == camera).map(|r| r.served_by.model).collect();
    models.dedup();
    models
}

#[test]
fn a_camera_changes_over_and_back_while_frames_flow() {
    let running = rig(6, Delivery::Every, &good()).start().expect("starts");
    let shared = running.engine.shared();
    let mut pushed = 0;
    for round in 0..10 {
        let (name, number) = [("second", 1), ("model", 0)][round % 2];
        (0..6).for_each(|camera| running.push_all(camera, pushed..pushed + 30));
        pushed += 30;
        // The even cameras change, in the middle of what was just brought; the odd ones stay.
        for camera in [0, 2, 4] {
            shared.assign(&id(camera), name).expect("both are there");
        }
        for camera in [0, 2, 4] {
            until("it has changed over", || model_of(&running, camera) == number);
        }
    }
    (0..6).for_each(|camera| running.push_all(camera, pushed..pushed + 1));
    running.wait_settled();
    let stopped = running.stop();
    for camera in 0..6 {
        assert_eq!(stopped.sequences(0, camera), (0..pushed + 1).collect::<Vec<_>>(), "camera {camera}: none is lost");
        let seen = models(&stopped.published[0], camera);
        assert!(if camera % 2 == 0 { seen.contains(&1) } else { seen == [0] }, "camera {camera}: {seen:?}");
    }
}

#[test]
fn it_waits_for_its_frames_under_way_and_holds_up_nobody_else() {
    for delivery in [Delivery::Every, LATEST] {
        let gate = Gate::default();
        let hold = gate.clone();
        let first = Model::new(move |batch| if batch == 0 { Turn::Wait(hold.clone()) } else { Turn::Answer });
        let running = rig(2, delivery, &first).start().expect("starts");
        let shared = running.engine.shared();
        running.push(0, 0, Picture::default());
        until("a frame is in the model", || gate.waiting() == 1);
        shared.assign(&id(0), "second").expect("there");
        running.push_all(0, 1..3);
        // The other camera goes on with the instance that is left.
        running.push_all(1, 0..3);
        until("the other's frames are done", || running.counts(1).published == 3);
        assert_eq!((model_of(&running, 0), running.counts(0).received), (0, 1));
        gate.open();
        running.wait_settled();
        assert_eq!(model_of(&running, 0), 1);
        assert_eq!(models(&running.stop().published[0], 0), [0, 1]);
    }
}

#[test]
fn what_is_wanted_last_counts() {
    let gate = Gate::default();
    let hold = gate.clone();
    let first = Model::new(move |batch| if batch == 0 { Turn::Wait(hold.clone()) } else { Turn::Answer });
    let running = rig(1, Delivery::Every, &first).start().expect("starts");
    let shared = running.engine.shared();
    running.push(0, 0, Picture::default());
    until("a frame is in the model", || gate.waiting() == 1);
    shared.assign(&id(0), "second").expect("there");
    shared.assign(&id(0), "model").expect("there");
    // It is read on at once: nothing is to change any more.
    running.push_all(0, 1..4);
    until("it is read", || running.counts(0).received == 4);
    gate.open();
    running.wait_settled();
    assert_eq!(models(&running.stop().published[0], 0), [0]);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let running = rig(1, Delivery::Every, &good()).start().expect("starts");
    let shared = Arc::clone(running.engine.shared());
    for (camera, model, expected) in [
        (id(0), "third", AssignError::UnknownModel("third".to_owned())),
        (id(7), "second", AssignError::UnknownCamera(id(7))),
    ] {
        assert_eq!(shared.assign(&camera, model), Err(expected));
    }
    let _ = running.stop();
    assert!(matches!(shared.assign(&id(0), "second"), Err(AssignError::NotRunning(_))));
}

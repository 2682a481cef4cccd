//! Batches change nothing: each frame's answer is its own, whoever else is in its batch, whatever fails beside it.

use std::sync::Arc;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{Device, LoadedModel};
use omma_engine::plan::Mode;
use omma_testkit::doubles_backend::{Model, Turn};
use omma_testkit::doubles_picture::{OnDecode, OnInfer, OnRead, Picture};
use omma_testkit::engine_rig::{Rig, model_plan};

const CAMERAS: usize = 12;
const FRAMES: u64 = 40;

/// A frame of many kinds, the same for the same place: failures stand beside each other and alone.
fn picture(camera: usize, sequence: u64) -> Picture {
    let kind = (camera as u64 * 7 + sequence * 13 + sequence / 5) % 17;
    let fine = Picture::default();
    match kind {
        1 | 2 => Picture { decode: OnDecode::Corrupt, ..fine },
        5 => Picture { decode: OnDecode::Panic, ..fine },
        6 => Picture { decode: OnDecode::WrongSize, ..fine },
        9 => Picture { infer: OnInfer::FailItem, ..fine },
        12 => Picture { read: OnRead::Unreadable, ..fine },
        14 => Picture { read: OnRead::Panic, ..fine },
        _ => fine,
    }
}

#[test]
fn batched_answers_equal_single_ones_frame_by_frame() {
    type Load = fn(&Arc<Model>) -> LoadedModel;
    let table: [(&str, Mode, usize, Load); 5] = [
        ("one by one", Mode::Sync, 1, |model| model.blocking(Device::Cpu)),
        ("own decoder", Mode::Sync, 8, |model| model.blocking(Device::Cpu)),
        ("pool of decoders", Mode::Async, 8, |model| model.blocking(Device::Accelerator)),
        ("pool of decoders, large", Mode::Async, 32, |model| model.blocking(Device::Accelerator)),
        ("requests", Mode::Async, 8, |model| model.remote()),
    ];
    for (what, mode, size, load) in table {
        let model = Model::new(|_| Turn::Answer);
        let mut rig = Rig::new(CAMERAS, Delivery::Every, load(&model));
        let plan = &mut rig.models[0].0;
        (plan.mode, plan.instances, plan.batch.size, plan.batch.size_max) = (mode, Some(3), size, size);
        plan.in_flight_frames_max = size * 3;
        let running = rig.start().expect("starts");
        for sequence in 0..FRAMES {
            (0..CAMERAS).for_each(|camera| running.push(camera, sequence, picture(camera, sequence)));
        }
        running.wait_settled();
        let stopped = running.stop();
        // That each answer is its own frame's has been checked by then; here: exactly the good ones are there.
        for camera in 0..CAMERAS {
            let good: Vec<u64> = (0..FRAMES).filter(|&s| picture(camera, s).fate().is_none()).collect();
            assert_eq!(stopped.sequences(0, camera), good, "{what}, camera {camera}");
        }
        if size > 1 {
            assert!(model.batch_most() > 1, "{what}: nothing was batched");
        }
    }
}

#[test]
fn many_readers_models_and_instances_keep_every_law() {
    let models: Vec<Arc<Model>> = (0..3).map(|_| Model::new(|_| Turn::Answer)).collect();
    let mut rig = Rig::new(30, Delivery::Every, models[0].blocking(Device::Cpu));
    rig.engine.readers = 3;
    rig.models[0].0.instances = Some(3);
    let mut second = model_plan("second");
    (second.mode, second.instances) = (Mode::Async, Some(2));
    rig.models.push((second, models[1].blocking(Device::Accelerator)));
    let mut third = model_plan("third");
    third.mode = Mode::Async;
    rig.models.push((third, models[2].remote()));
    for (number, camera) in rig.cameras.iter_mut().enumerate() {
        camera.model = number % 3;
    }
    let running = rig.start().expect("starts");
    for sequence in 0..FRAMES {
        (0..30).for_each(|camera| running.push(camera, sequence, picture(camera, sequence)));
    }
    running.wait_settled();
    assert!(models.iter().all(|model| model.batches() > 0));
    let stopped = running.stop();
    for camera in 0..30 {
        let good: Vec<u64> = (0..FRAMES).filter(|&s| picture(camera, s).fate().is_none()).collect();
        assert_eq!(stopped.sequences(0, camera), good, "camera {camera}");
    }
}

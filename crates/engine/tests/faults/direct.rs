//! Direct requests: answered exactly once, ahead of the cameras, whatever happens.

use std::sync::Arc;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::infer::direct::Exchange;
use omma_engine::lifecycle::Phase;
use omma_engine::picture::PictureError;
use omma_engine::plan::Mode;
use omma_engine::tensor::{TensorView, Values};
use omma_frame::{DropReason, Outcome, Output, Payload};
use omma_testkit::doubles_backend::{Gate, Model, Turn};
use omma_testkit::doubles_picture::{OnDecode, OnInfer, OnRead, Picture};
use omma_testkit::engine_rig::{Asking, Rig, Running, until};
use parking_lot::Mutex;

use super::ms;

fn ask(running: &Running, picture: Picture) -> Asking {
    let (asking, caller) = Asking::new();
    assert!(running.engine.ask(0, Payload::Encoded(picture.bytes()), caller).is_ok(), "accepted");
    asking
}

fn reason(asking: &Asking) -> Option<DropReason> {
    match &asking.answers()[..] {
        [answer] => match &answer.outcome {
            Outcome::Dropped { reason, .. } => Some(*reason),
            Outcome::Inferred(_) => None,
        },
        other => panic!("{} answers", other.len()),
    }
}

#[test]
fn each_is_answered_once_with_its_own_answer_during_load() {
    for mode in [Mode::Sync, Mode::Async, Mode::Direct] {
        let mut rig = Rig::new(4, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
        rig.models[0].0.mode = mode;
        rig.models[0].0.instances = Some(2);
        let running = rig.start().expect("starts");
        (0..4).for_each(|camera| running.push_all(camera, 0..200));
        let asked: Vec<(u32, Asking)> =
            (0..100).map(|value| (value, ask(&running, Picture { value, ..Picture::default() }))).collect();
        until("all are answered", || asked.iter().all(|(_, asking)| !asking.answers().is_empty()));
        running.wait_settled();
        assert_eq!(running.stop().report.counts.published, 800, "{mode:?}");
        for (value, asking) in asked {
            let answers = asking.answers();
            assert_eq!(answers.len(), 1);
            assert_eq!(answers[0].outcome, Outcome::Inferred(Output::Embedding(vec![value as f32])), "{mode:?}");
        }
    }
}

/// Tensors as pictures' bytes: what the model's double makes of them comes back raw, as integers.
struct Tensors {
    items: Vec<Picture>,
    taken: Mutex<Vec<Option<Vec<i64>>>>,
}

impl Tensors {
    fn of(items: Vec<Picture>) -> Arc<Self> {
        let taken = Mutex::new(vec![None; items.len()]);
        Arc::new(Self { items, taken })
    }
}

impl Exchange for Tensors {
    fn fill(&self, item: usize, slot: &mut [u8]) -> Result<(), PictureError> {
        let picture = self.items[item];
        assert!(picture.decode != OnDecode::Panic, "as asked for");
        if picture.decode == OnDecode::Corrupt {
            return Err(PictureError { reason: DropReason::PictureCorrupt, message: "no values".into() });
        }
        slot.copy_from_slice(&picture.bytes()[..slot.len()]);
        Ok(())
    }

    fn take(&self, item: usize, outputs: &[TensorView<'_>]) -> Result<(), String> {
        let Values::I64(values) = outputs[0].values else { return Err("not i64".into()) };
        self.taken.lock()[item] = Some(values.to_vec());
        Ok(())
    }
}

fn ask_tensors(running: &Running, tensors: &Arc<Tensors>) -> Asking {
    let (asking, caller) = Asking::new();
    let exchange = Arc::clone(tensors) as Arc<dyn Exchange>;
    let shared = running.engine.shared();
    assert!(shared.ask_tensors(0, tensors.items.len(), &exchange, caller).is_ok(), "accepted");
    asking
}

#[test]
fn tensors_go_in_and_come_out_as_they_are_in_whatever_batches_and_are_answered_once() {
    for (mode, blocking) in [(Mode::Sync, true), (Mode::Async, true), (Mode::Direct, true), (Mode::Async, false)] {
        let model = Model::new(|_| Turn::Answer);
        let loaded = if blocking { model.blocking(Device::Cpu) } else { model.remote() };
        let mut rig = Rig::new(2, Delivery::Every, loaded);
        rig.models[0].0.mode = mode;
        let running = rig.start().expect("starts");
        (0..2).for_each(|camera| running.push_all(camera, 0..100));
        // Batches hold at most 8.
        let asked: Vec<_> = [1, 3, 8, 9, 30]
            .map(|items| {
                let pictures = (0..items).map(|n| Picture { value: items * 100 + n, ..Picture::default() });
                let tensors = Tensors::of(pictures.collect());
                (ask_tensors(&running, &tensors), tensors)
            })
            .into();
        until("all are answered", || asked.iter().all(|(asking, _)| !asking.answers().is_empty()));
        running.wait_settled();
        assert_eq!(running.stop().report.counts.published, 200, "{mode:?}: cameras' frames are decoded as ever");
        for (asking, tensors) in asked {
            assert_eq!(reason(&asking), None);
            assert_eq!(asking.answers()[0].outcome, Outcome::Inferred(Output::Nothing));
            let expected: Vec<_> = tensors.items.iter().map(|item| Some(vec![0, i64::from(item.value)])).collect();
            assert_eq!(*tensors.taken.lock(), expected, "{mode:?}");
        }
    }
}

#[test]
fn a_request_is_let_go_of_once_it_is_answered() {
    for mode in [Mode::Sync, Mode::Async, Mode::Direct] {
        let mut rig = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
        rig.models[0].0.mode = mode;
        let running = rig.start().expect("starts");
        let tensors = Tensors::of(vec![Picture::default()]);
        let asking = ask_tensors(&running, &tensors);
        until("it is answered", || !asking.answers().is_empty());
        assert_eq!(Arc::strong_count(&tensors), 1, "{mode:?}: its values wait for no further batch");
        let _ = running.stop();
    }
}

#[test]
fn a_request_has_a_place_in_front_of_what_was_prepared_of_cameras() {
    let gate = Gate::default();
    let first = gate.clone();
    let model = Model::new(move |batch| if batch == 0 { Turn::Wait(first.clone()) } else { Turn::Answer });
    let mut rig = Rig::new(1, Delivery::Every, model.blocking(Device::Accelerator));
    let plan = &mut rig.models[0].0;
    (plan.mode, plan.instances, plan.batch.size, plan.batch.size_max) = (Mode::Async, Some(1), 1, 1);
    let running = rig.start().expect("starts");
    running.push_all(0, 0..4);
    let decoded = || running.pictures[0].decoded();
    let waiting = || running.engine.shared().waiting(0);
    until("one frame is in the model, the next one prepared, two have no place", || {
        gate.waiting() == 1 && decoded() == 2 && waiting() == 2
    });
    let asking = ask(&running, Picture::default());
    until("the request is prepared", || decoded() == 3 && waiting() == 2);
    gate.open();
    until("it is answered", || asking.answers().len() == 1);
    running.wait_settled();
    assert_eq!(running.stop().sequences(0, 0), [0, 1, 2, 3]);
}

#[test]
fn one_bad_item_fails_its_request_alone_and_once() {
    let table = [
        (Picture { decode: OnDecode::Corrupt, ..Picture::default() }, Some(DropReason::PictureCorrupt)),
        (Picture { decode: OnDecode::Panic, ..Picture::default() }, Some(DropReason::PictureUnfit)),
        (Picture { infer: OnInfer::FailItem, ..Picture::default() }, Some(DropReason::BackendFailed)),
        (Picture::default(), None),
    ];
    let running = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    let running = running.start().expect("starts");
    for (picture, expected) in table {
        let bad = ask_tensors(&running, &Tensors::of(vec![Picture::default(), picture, Picture::default()]));
        let good = ask_tensors(&running, &Tensors::of(vec![Picture::default()]));
        until("both are answered", || !bad.answers().is_empty() && !good.answers().is_empty());
        assert_eq!((reason(&bad), reason(&good)), (expected, None), "{picture:?}");
    }
    let _ = running.stop();
}

#[test]
fn a_request_of_more_items_than_there_is_room_for_is_refused_whole() {
    let running = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    let running = running.start().expect("starts");
    for items in [0, 5000] {
        let exchange = Tensors::of(vec![Picture::default(); items]) as Arc<dyn Exchange>;
        let (asking, caller) = Asking::new();
        assert!(running.engine.shared().ask_tensors(0, items, &exchange, caller).is_err(), "{items}");
        assert!(asking.answers().is_empty());
        assert_eq!(running.engine.shared().direct_in_flight(), 0, "nothing of it is left behind");
    }
    let _ = running.stop();
}

#[test]
fn what_goes_wrong_with_one_is_its_answer() {
    let table = [
        Picture { decode: OnDecode::Corrupt, ..Picture::default() },
        Picture { decode: OnDecode::Panic, ..Picture::default() },
        Picture { infer: OnInfer::FailItem, ..Picture::default() },
        Picture { infer: OnInfer::FailBatch, ..Picture::default() },
        Picture { infer: OnInfer::Panic, ..Picture::default() },
        Picture { read: OnRead::Panic, ..Picture::default() },
        Picture::default(),
    ];
    let running = Rig::new(1, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    let running = running.start().expect("starts");
    for picture in table {
        let asking = ask(&running, picture);
        until("it is answered", || !asking.answers().is_empty());
        assert_eq!(reason(&asking), picture.fate(), "{picture:?}");
    }
    let _ = running.stop();
}

#[test]
fn who_has_left_is_not_served_and_who_is_too_many_is_refused() {
    let gate = Gate::default();
    let hold = gate.clone();
    let model = Model::new(move |_| Turn::Wait(hold.clone()));
    let running = Rig::new(1, Delivery::Every, model.blocking(Device::Cpu)).start().expect("starts");
    let first = ask(&running, Picture::default());
    until("the model is busy", || gate.waiting() == 1);
    let left = ask(&running, Picture::default());
    let stays = ask(&running, Picture::default());
    left.leave();
    let mut waiting = Vec::new();
    let refused = loop {
        let (asking, caller) = Asking::new();
        match running.engine.ask(0, Payload::Encoded(Picture::default().bytes()), caller) {
            Ok(()) => waiting.push(asking),
            Err(_) => break asking,
        }
        assert!(waiting.len() < 10_000, "the lane has a bound");
    };
    let (nowhere, caller) = Asking::new();
    assert!(running.engine.ask(7, Payload::Encoded(Picture::default().bytes()), caller).is_err(), "no such model");
    gate.open();
    until("all who wait are answered", || waiting.iter().all(|asking| !asking.answers().is_empty()));
    let _ = running.stop();
    assert_eq!((reason(&first), reason(&stays)), (None, None));
    assert!(left.answers().is_empty() && refused.answers().is_empty() && nowhere.answers().is_empty());
    assert_eq!(model.frames(), 2 + waiting.len() as u64, "the one that had left was not run");
}

#[test]
fn the_end_answers_who_waits_and_refuses_who_comes() {
    let gate = Gate::default();
    let hold = gate.clone();
    let model = Model::new(move |_| Turn::Wait(hold.clone()));
    let mut rig = Rig::new(1, Delivery::Every, model.blocking(Device::Cpu));
    rig.engine.drain_timeout = ms(300);
    (rig.models[0].0.batch.size, rig.models[0].0.batch.size_max) = (1, 1);
    let running = rig.start().expect("starts");
    let held = ask(&running, Picture::default());
    until("the model is busy", || gate.waiting() == 1);
    let waits = ask(&running, Picture::default());
    let shared = std::sync::Arc::clone(running.engine.shared());
    let _ = running.stop();
    assert_eq!(shared.lifecycle.phase(), Phase::Stopped);
    let (late, caller) = Asking::new();
    assert!(shared.ask(0, Payload::Encoded(Picture::default().bytes()), caller).is_err());
    assert_eq!((reason(&held), reason(&waits)), (Some(DropReason::Shutdown), Some(DropReason::Shutdown)));
    gate.open();
    assert!(late.answers().is_empty());
}

#[test]
fn a_drain_waits_for_direct_requests_too() {
    let gate = Gate::default();
    let hold = gate.clone();
    let model = Model::new(move |_| Turn::Wait(hold.clone()));
    let running = Rig::new(1, Delivery::Every, model.blocking(Device::Cpu)).start().expect("starts");
    let asked: Vec<Asking> = (0..20).map(|_| ask(&running, Picture::default())).collect();
    until("the model is busy", || gate.waiting() == 1);
    let shared = std::sync::Arc::clone(running.engine.shared());
    let late = std::thread::spawn(move || {
        until("the drain has begun", || shared.lifecycle.phase() >= Phase::Draining);
        gate.open();
    });
    let _ = running.stop();
    late.join().expect("no panic");
    assert!(asked.iter().all(|asking| reason(asking).is_none()));
}

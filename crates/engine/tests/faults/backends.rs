//! Models that do not start, fail, panic, miscount, or hang.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::plan::Mode;
use omma_frame::DropReason;
use omma_testkit::doubles_backend::{Gate, Model, Opening, Turn};
use omma_testkit::doubles_picture::{OnInfer, Picture};
use omma_testkit::engine_rig::{Rig, until};

use super::{median_latency, ms, unaffected};

/// Batches of one frame, so that a batch's number tells its frame.
fn one_by_one(model: &Arc<Model>, mode: Mode) -> Rig {
    let mut rig = Rig::new(2, Delivery::Every, model.blocking(Device::Cpu));
    let plan = &mut rig.models[0].0;
    plan.mode = mode;
    (plan.batch.size, plan.batch.size_max) = (1, 1);
    rig
}

#[test]
fn a_model_that_does_not_start_says_why_and_nothing_runs() {
    let table: [(Arc<Model>, &str); 5] = [
        (Model::opening(|_| Turn::Answer, |_| Opening::Fail), "model model: no such file: model.onnx"),
        (
            Model::opening(|_| Turn::Answer, |_| Opening::Panic),
            "model model: the backend panicked: while it was opened, told to panic while opening",
        ),
        (Model::new(|_| Turn::Fail), "model model: the warm-up batch failed: out of memory"),
        (
            Model::new(|_| Turn::Panic),
            "model model: the warm-up batch failed: the backend panicked: told to panic on a batch",
        ),
        (
            Model::new(|_| Turn::Count(-1)),
            "model model: the warm-up batch failed: output `out` has shape [3, 2], expected 4 in its first dimension, one for each input",
        ),
    ];
    for mode in [Mode::Sync, Mode::Async] {
        for (model, expected) in &table {
            let mut rig = Rig::new(1, Delivery::Every, model.blocking(Device::Cpu));
            rig.models[0].0.mode = mode;
            rig.models[0].0.warmup_batches = 1;
            let error = rig.start().err().expect("does not start");
            assert_eq!(error.to_string(), *expected, "{mode:?}");
        }
    }
}

#[test]
fn one_instance_of_many_that_does_not_open_is_enough_to_say_so() {
    let model = Model::opening(|_| Turn::Answer, |opening| if opening == 2 { Opening::Fail } else { Opening::Fine });
    let mut rig = Rig::new(1, Delivery::Every, model.blocking(Device::Cpu));
    rig.models[0].0.instances = Some(4);
    let error = rig.start().err().expect("does not start");
    assert_eq!(error.to_string(), "model model: no such file: model.onnx");
}

#[test]
fn a_failed_batch_costs_its_frames_by_name_and_the_next_one_is_served() {
    // (what the hundredth batch does) -> (reason, what is said, openings)
    let table: [(Turn, DropReason, &str, u64); 7] = [
        (Turn::Fail, DropReason::BackendFailed, "backend_failed: out of memory", 1),
        (Turn::Break, DropReason::BackendFailed, "backend_failed: device lost", 2),
        (
            Turn::Panic,
            DropReason::BackendPanicked,
            "backend_panicked: the backend panicked: told to panic on a batch",
            2,
        ),
        (Turn::Count(-1), DropReason::WrongCount, "wrong_count: output `out` has shape [0, 2], expected 1", 1),
        (Turn::Count(1), DropReason::WrongCount, "wrong_count: output `out` has shape [2, 2], expected 1", 1),
        (Turn::Silence, DropReason::WrongCount, "wrong_count: the backend returned no outputs", 1),
        (Turn::Absurd, DropReason::OutputUnreadable, "output_unreadable: an output's values do not fill its shape", 1),
    ];
    for mode in [Mode::Sync, Mode::Async] {
        for (turn, reason, text, openings) in table.clone() {
            let model = Model::new(move |batch| if batch == 99 { turn.clone() } else { Turn::Answer });
            let running = one_by_one(&model, mode).start().expect("starts");
            running.push_all(0, 0..100);
            running.push_all(1, 0..100);
            running.wait_settled();
            assert!(running.engine.shared().ready(), "{text}: ready again");
            let stopped = running.stop();
            assert_eq!(stopped.dropped(reason), 1, "{text}, {mode:?}");
            assert_eq!(stopped.report.counts.published, 199, "{text}, {mode:?}");
            assert!(stopped.said("model model", text), "{text}, {mode:?}: {:?}", stopped.messages);
            assert_eq!(model.openings(), openings, "{text}, {mode:?}");
        }
    }
}

#[test]
fn one_failed_item_does_not_fail_its_batch() {
    for mode in [Mode::Sync, Mode::Async] {
        let model = Model::new(|_| Turn::Answer);
        let mut rig = Rig::new(4, Delivery::Every, model.blocking(Device::Cpu));
        rig.models[0].0.mode = mode;
        let running = rig.start().expect("starts");
        for sequence in 0..50 {
            let infer = if sequence % 5 == 2 { OnInfer::FailItem } else { OnInfer::Fine };
            running.push(0, sequence, Picture { infer, ..Picture::default() });
            (1..4).for_each(|camera| running.push(camera, sequence, Picture::default()));
        }
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!(stopped.dropped(DropReason::BackendFailed), 10);
        assert_eq!(stopped.report.counts.published, 190);
        assert!(stopped.said("model model", "backend_failed: the model refuses this picture"));
    }
}

#[test]
fn an_instance_that_cannot_be_opened_again_is_tried_until_it_can() {
    let model = Model::opening(
        |batch| if batch == 5 { Turn::Panic } else { Turn::Answer },
        |opening| match opening {
            1 => Opening::Fail,
            2 => Opening::Panic,
            _ => Opening::Fine,
        },
    );
    let running = one_by_one(&model, Mode::Sync).start().expect("starts");
    running.push_all(0, 0..20);
    running.wait_settled();
    assert_eq!(model.openings(), 4);
    let stopped = running.stop();
    assert_eq!(stopped.dropped(DropReason::BackendPanicked), 1);
    assert!(stopped.said("model model", "backend_failed: no such file: model.onnx"));
}

#[test]
fn a_hung_batch_is_settled_at_its_deadline_and_another_instance_goes_on() {
    for mode in [Mode::Sync, Mode::Async] {
        let run = |hangs: bool| {
            let gate = Gate::default();
            let hung = gate.clone();
            let model = Model::new(move |batch| match batch {
                3 if hangs => Turn::Wait(hung.clone()),
                _ => Turn::Answer,
            });
            let mut rig = one_by_one(&model, mode);
            rig.models[0].0.instances = Some(2);
            rig.models[0].0.deadline = ms(150);
            let running = rig.start().expect("starts");
            running.push_all(0, 0..40);
            running.push_all(1, 0..40);
            running.wait_settled();
            let counters = &running.engine.shared().metrics.models[0];
            if hangs {
                assert_eq!(gate.waiting(), 1, "the thread still hangs");
                until("a new instance runs", || counters.instances_running.load(Ordering::Relaxed) == 2);
                gate.open();
                until("the hung thread has returned", || gate.waiting() == 0);
                running.push_all(1, 40..60);
                running.wait_settled();
                assert_eq!(
                    counters.instances_running.load(Ordering::Relaxed),
                    2,
                    "it has left, and is not counted twice"
                );
            }
            running.stop()
        };
        let normal = run(false);
        let stopped = run(true);
        assert_eq!(stopped.dropped(DropReason::DeadlineExceeded), 1, "{mode:?}");
        assert_eq!(stopped.report.counts.published, 99, "{mode:?}");
        assert!(
            stopped.said("model model", "deadline_exceeded: no answer within 150 ms; its instance is given up"),
            "{:?}",
            stopped.messages
        );
        let (normal, now) =
            (median_latency(&normal.published[0], |_| true), median_latency(&stopped.published[0], |_| true));
        assert!(unaffected(now, normal), "{mode:?}: {now:?}, without the fault {normal:?}");
    }
}

/// A thread that hangs and returns is nobody's loss: neither are those of a later version counted short, nor is there a
/// number of such stalls in a process's life after which no new instance is started.
#[test]
fn stalls_that_pass_leave_no_instance_missing() {
    const STALLS: u64 = 20;
    for mode in [Mode::Sync, Mode::Async] {
        let gates: Vec<Gate> = (0..STALLS).map(|_| Gate::default()).collect();
        let stalls = gates.clone();
        // Every second batch stalls; the gates of those that are over are open.
        let model = Model::new(move |batch| match stalls.get(batch as usize / 2) {
            Some(gate) if batch % 2 == 1 => Turn::Wait(gate.clone()),
            _ => Turn::Answer,
        });
        let mut rig = one_by_one(&model, mode);
        rig.models[0].0.deadline = ms(20);
        let running = rig.start().expect("starts");
        let counters = &running.engine.shared().metrics.models[0];
        for (stall, gate) in gates.iter().enumerate() {
            running.push_all(0, 2 * stall as u64..2 * stall as u64 + 2);
            running.wait_settled();
            gate.open();
            until("the hung thread has returned", || gate.waiting() == 0);
            until("another instance runs", || counters.instances_running.load(Ordering::Relaxed) == 1);
        }
        running.push_all(0, 2 * STALLS..2 * STALLS + 30);
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!(stopped.dropped(DropReason::DeadlineExceeded), STALLS, "{mode:?}");
        assert_eq!(stopped.report.counts.published, STALLS + 30, "{mode:?}");
    }
}

/// Threads that return long after their batch was settled must not give back room that the watch gave back already:
/// more batches would be out than there is room for.
#[test]
fn hung_threads_that_return_late_change_nothing() {
    let (gate, slow) = (Gate::default(), Gate::default());
    slow.open();
    let (hung, then) = (gate.clone(), slow.clone());
    let model = Model::new(move |batch| if batch < 6 { Turn::Wait(hung.clone()) } else { Turn::Wait(then.clone()) });
    let mut rig = one_by_one(&model, Mode::Async);
    rig.models[0].0.deadline = ms(100);
    let running = rig.start().expect("starts");
    running.push_all(0, 0..6);
    running.wait_settled();
    assert_eq!(running.total().dropped(DropReason::DeadlineExceeded), 6);
    slow.close();
    gate.open();
    until("all hung threads have returned", || gate.waiting() == 0);
    // One instance and a slow model: two batches may be out, whatever has happened before.
    running.push_all(0, 6..26);
    until("the model is busy", || slow.waiting() == 1);
    until("the feeder waits for room", || running.engine.shared().waiting(0) + 2 >= 16);
    slow.open();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!((stopped.dropped(DropReason::BackendFailed), stopped.report.counts.published), (0, 20));
}

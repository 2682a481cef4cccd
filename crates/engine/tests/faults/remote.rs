//! Asynchronous backends: many requests in flight on no thread of their own, bounded; what hangs, fails or panics costs
//! its own batch.

use std::sync::Arc;

use omma_engine::cameras::Delivery;
use omma_engine::plan::Mode;
use omma_frame::DropReason;
use omma_testkit::doubles_backend::{Gate, Model, Turn};
use omma_testkit::engine_rig::{Rig, until};

use super::ms;

fn rig(model: &Arc<Model>) -> Rig {
    let mut rig = Rig::new(4, Delivery::Every, model.remote());
    let plan = &mut rig.models[0].0;
    plan.mode = Mode::Auto;
    (plan.batch.size, plan.batch.size_max) = (1, 2);
    plan.in_flight_frames_max = 8;
    rig
}

#[test]
fn requests_are_in_flight_together_up_to_the_bound() {
    let gate = Gate::default();
    let hold = gate.clone();
    let model = Model::new(move |_| Turn::Wait(hold.clone()));
    let running = rig(&model).start().expect("starts");
    assert!(running.serving(0).chosen.ahead, "auto serves another process asynchronously");
    (0..4).for_each(|camera| running.push_all(camera, 0..50));
    until("as many as may be are out", || gate.waiting() == 4);
    let polls = running.sources[0].polls();
    until("time has passed", || running.sources[0].polls() > polls + 10);
    assert_eq!(gate.waiting(), 4);
    gate.open();
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.report.counts.published, 200);
    assert_eq!(model.in_flight_most(), 4, "8 frames in flight in batches of at most 2");
    assert!(model.batch_most() <= 2);
}

#[test]
fn a_request_that_is_not_answered_fails_alone_at_its_deadline() {
    let gate = Gate::default();
    let hang = gate.clone();
    let model = Model::new(move |batch| if batch % 10 == 4 { Turn::Wait(hang.clone()) } else { Turn::Answer });
    let mut rig = rig(&model);
    rig.models[0].0.deadline = ms(100);
    rig.models[0].0.batch.size_max = 1;
    let running = rig.start().expect("starts");
    (0..4).for_each(|camera| running.push_all(camera, 0..25));
    running.wait_settled();
    gate.open();
    running.push_all(0, 25..28);
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.dropped(DropReason::DeadlineExceeded), 10);
    assert_eq!(stopped.report.counts.published, 93);
    assert!(stopped.said("model model", "deadline_exceeded: no answer within 100 ms"), "{:?}", stopped.messages);
}

#[test]
fn what_a_request_does_wrong_costs_its_batch_and_its_room_comes_back() {
    let table: [(Turn, DropReason, &str); 5] = [
        (Turn::Fail, DropReason::BackendFailed, "backend_failed: out of memory"),
        (Turn::Panic, DropReason::BackendPanicked, "backend_panicked: the backend panicked: told to panic on a batch"),
        (Turn::Count(1), DropReason::WrongCount, "wrong_count: output `out` has shape [2, 2], expected 1"),
        (Turn::Silence, DropReason::WrongCount, "wrong_count: the backend returned no outputs"),
        (Turn::Absurd, DropReason::OutputUnreadable, "output_unreadable"),
    ];
    for (turn, reason, text) in table {
        // More of them than requests may be in flight: room that is not given back would be missing.
        let model = Model::new(move |batch| if batch % 3 == 1 { turn.clone() } else { Turn::Answer });
        let mut rig = rig(&model);
        rig.models[0].0.batch.size_max = 1;
        let running = rig.start().expect("starts");
        (0..4).for_each(|camera| running.push_all(camera, 0..30));
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!((stopped.dropped(reason), stopped.report.counts.published), (40, 80), "{text}");
        assert!(stopped.said("model model", text), "{text}: {:?}", stopped.messages);
    }
}

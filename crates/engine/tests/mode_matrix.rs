//! Which mode serves a model: the specification's matrix (its section 6) as a table.

use omma_engine::infer::backend::{BatchLimit, Device};
use omma_engine::infer::mode::choose;
use omma_engine::plan::{BatchPlan, Mode, ModelPlan};
use omma_testkit::engine_rig::model_plan;

#[test]
fn auto_follows_where_the_model_computes_and_what_is_asked_for_is_done_where_it_can_be() {
    let batch = BatchPlan { size: 4, size_max: 16, ..BatchPlan::default() };
    // Mode, device, whether an instance occupies a thread; decoded ahead, instances, decoding threads, batch sizes; of 4 cores.
    let table = [
        (Mode::Auto, Device::Cpu, true, (false, 4, 0, (1, 1))),
        (Mode::Auto, Device::Processes, true, (false, 4, 0, (4, 16))),
        (Mode::Auto, Device::Accelerator, true, (true, 1, 4, (4, 16))),
        (Mode::Auto, Device::Remote, false, (true, 1, 4, (4, 16))),
        (Mode::Direct, Device::Cpu, true, (false, 4, 0, (1, 1))),
        (Mode::Direct, Device::Processes, true, (false, 4, 0, (1, 1))),
        (Mode::Direct, Device::Remote, false, (true, 1, 4, (1, 1))),
        (Mode::Sync, Device::Cpu, true, (false, 4, 0, (4, 16))),
        (Mode::Sync, Device::Accelerator, true, (false, 4, 0, (4, 16))),
        (Mode::Sync, Device::Remote, false, (true, 1, 4, (4, 16))),
        (Mode::Async, Device::Cpu, true, (true, 1, 4, (4, 16))),
    ];
    for (mode, device, blocking, expected) in table {
        let plan = ModelPlan {
            mode,
            instances: None,
            sync_threads_max: 8,
            feeder_threads_max: 16,
            batch,
            ..model_plan("model")
        };
        let chosen = choose(&plan, device, BatchLimit::UpTo(64), blocking, 4);
        let sizes = (chosen.batch.size, chosen.batch.size_max);
        let found = (chosen.ahead, chosen.instances, chosen.decode_threads, sizes);
        assert_eq!(found, expected, "{mode:?} on {device:?}: {}", chosen.why);
    }
}

#[test]
fn what_the_plan_and_the_model_bound_is_not_exceeded() {
    let plan = ModelPlan { mode: Mode::Sync, instances: None, sync_threads_max: 2, ..model_plan("model") };
    assert_eq!(choose(&plan, Device::Cpu, BatchLimit::UpTo(64), true, 16).instances, 2);
    let plan = ModelPlan { instances: Some(3), ..plan };
    let chosen = choose(&plan, Device::Cpu, BatchLimit::Exactly(2), true, 16);
    assert_eq!((chosen.instances, chosen.batch.size_max), (3, 2));
}

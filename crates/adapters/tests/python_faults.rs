//! Real workers that fail in every way: what becomes of their frames, of their processes and of everybody else's
//! memory.

mod python;

use std::time::{Duration, Instant};

use omma_adapters::infer::python::{BatchAs, PythonModel, PythonOptions};
use omma_engine::infer::backend::{Backend, BackendError};
use omma_engine::tensor::{BatchTensor, DType};
use omma_frame::DropReason;
use omma_testkit::backend::{Answer, input, origins};
use python::{Folder, instance, interpreter, opened, options, resources, runs, said, spec, until};

/// What a worker does is told by the first byte of a batch's first picture.
const MODELS: &str = r#"
import ctypes, os, signal, sys, time
import omma

def note(name, text):
    with open(name, "a") as file:
        file.write(str(text) + "\n")

class Told:
    def load(self, **parameters):
        note("started", os.getpid())
        print("hello from", os.getpid())
    def predict(self, batch):
        told = int(batch[0, 0, 0, 0])
        once = told >= 100 and not os.path.exists("once")
        if once:
            note("once", told)
        if told == 1: os.kill(os.getpid(), signal.SIGKILL)
        if told == 2: ctypes.string_at(0)
        if told == 3: os._exit(7)
        if told == 4: sys.exit(3)
        if told == 5: time.sleep(3600)
        if told == 6: raise ValueError("no such thing")
        if told == 7: return [1.0] * (len(batch) + 1)
        if told == 8: return [omma.Failed("too dark") if k % 2 else 1.0 for k in range(len(batch))]
        if told == 9: return None
        if told == 10: return [1.0] + [(0.0,) * 3] * (len(batch) - 1)
        if told == 11: return [omma.Failed("all of them")] * len(batch)
        if told == 12:
            import numpy as np
            return np.zeros((len(batch), 1 << 20), "f4")
        if told == 13: os.write(3, b"what is this")
        if told == 14: batch[0] = 0
        if told == 15: return [complex(1)] * len(batch)
        if told == 16:
            for k in range(100_000): print("line", k)
        if told == 17:
            import subprocess
            note("child", subprocess.Popen(["sleep", "3600"]).pid)
        if told == 18: os.close(3); time.sleep(3600)
        if once and told == 101: os.kill(os.getpid(), signal.SIGKILL)
        return [float(batch[k, 0, 0, 0]) for k in range(len(batch))]

def refuse(batch):
    return [omma.Failed("x" * 10_000) if frame.any() else 1.0 for frame in batch]

class Whole:
    outputs = {"whole": ("i32", ())}
    def predict(self, batch):
        answers = {0: 7, 255: omma.Failed("too bright")}
        return [answers.get(int(frame[0, 0, 0]), 7.5) for frame in batch]

def three(batch):
    return [(1.0, 2.0)] * len(batch)
"#;

struct Bench {
    folder: Folder,
    model: PythonModel,
    backend: Box<dyn Backend>,
    tensor: BatchTensor,
}

impl Bench {
    fn new(change: impl FnOnce(PythonOptions) -> PythonOptions) -> Option<Self> {
        let interpreter = interpreter()?;
        let folder = Folder::with(MODELS);
        let model =
            opened(change(options(&interpreter, &folder, "Told"))).unwrap_or_else(|problem| panic!("{problem}"));
        let backend = instance(&model);
        let tensor = BatchTensor::within(model.model.memory.as_ref(), 4, spec(DType::U8).slot_bytes());
        Some(Self { folder, model, backend, tensor })
    }

    /// A batch of `count` pictures whose first bytes are these.
    fn run(&mut self, firsts: &[u8]) -> (Result<(), BackendError>, Answer) {
        for (slot, &first) in self.tensor.slots_mut().zip(firsts) {
            slot.fill(first);
        }
        let mut answer = Answer::default();
        let (spec, origins) = (spec(DType::U8), origins(firsts.len()));
        let result = self.backend.infer(input(&self.tensor, &spec, &origins), &mut answer);
        (result, answer)
    }

    fn fails(&mut self, firsts: &[u8]) -> BackendError {
        let (result, answer) = self.run(firsts);
        assert!(answer.outputs.is_none(), "{firsts:?}: failed, but answered");
        result.expect_err("a failure")
    }

    /// That the instance, or the next, is in order.
    fn serves(&mut self) {
        let (result, answer) = self.run(&[50, 60]);
        result.expect("an answer");
        assert_eq!(answer.outputs.expect("outputs")[0].values, [50.0, 60.0]);
    }

    fn reopen(&mut self) {
        self.backend = instance(&self.model);
    }

    /// The processes that have been started.
    fn started(&self) -> Vec<u32> {
        self.numbers("started")
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        let text = std::fs::read_to_string(self.folder.file(name)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

#[test]
fn a_batch_whose_worker_dies_is_run_once_more_and_then_settled_by_name() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    for (told, expected) in [
        (1, "it was killed by signal 9 (SIGKILL, as the kernel does when memory runs out)"),
        (2, "it was killed by signal 11 (SIGSEGV)"),
        (3, "it ended with exit code 7"),
        (4, "it ended with exit code 3"),
    ] {
        let before = bench.started().len();
        let error = bench.fails(&[told, 50]);
        assert_eq!((error.reason, error.reopen), (DropReason::BackendFailed, true), "{told}: {error}");
        assert!(error.message.contains(expected), "{told}: {error}");
        assert_eq!(bench.started().len() - before, 1, "{told}: once more, and no more");
        bench.reopen();
        bench.serves();
    }
    let crash = said(&bench.model).into_iter().find(|message| message.text.contains("Fatal Python error"));
    assert!(crash.is_some(), "a crash in native code shows where it was");
}

#[test]
fn a_batch_whose_worker_dies_once_is_not_lost() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    let (result, answer) = bench.run(&[101, 60, 70]);
    result.expect("an answer of the second worker");
    assert_eq!(answer.outputs.expect("outputs")[0].values, [101.0, 60.0, 70.0]);
    assert_eq!(bench.started().len(), 2);
    let told = said(&bench.model);
    assert!(told.iter().any(|message| message.text.contains("its batch is run once more")), "{told:?}");
    bench.serves();
}

/// Torch's tensors can be written to: the second worker might see what the first has left.
#[test]
fn a_batch_that_may_have_been_changed_is_settled_by_name() {
    let Some(interpreter) = interpreter() else { return };
    if !python::has(&interpreter, "torch") {
        return;
    }
    let folder = Folder::with(
        "import os\ndef f(batch):\n    if int(batch[0, 0, 0, 0]): os._exit(1)\n    return [1.0] * len(batch)\n",
    );
    let model =
        opened(PythonOptions { batch_as: BatchAs::Torch, ..options(&interpreter, &folder, "f") }).expect("a model");
    let mut backend = instance(&model);
    let mut tensor = BatchTensor::within(model.model.memory.as_ref(), 1, spec(DType::U8).slot_bytes());
    tensor.slot_mut(0).fill(1);
    let error = backend.infer(input(&tensor, &spec(DType::U8), &origins(1)), &mut Answer::default()).expect_err("gone");
    assert!(error.reopen && error.message.starts_with("the worker is gone: it ended with exit code 1"), "{error}");
}

#[test]
fn a_worker_that_hangs_is_killed_before_the_deadline() {
    let deadline = Duration::from_millis(1500);
    let Some(mut bench) = Bench::new(|options| PythonOptions { deadline, ..options }) else { return };
    bench.serves();
    bench.serves();
    for told in [5, 18] {
        let worker = *bench.started().last().expect("a worker");
        let begun = Instant::now();
        let error = bench.fails(&[told]);
        if told == 5 {
            assert_eq!((error.reason, error.reopen), (DropReason::DeadlineExceeded, true), "{error}");
            assert!(begun.elapsed() < deadline, "the engine would have given its thread up");
        }
        until("the end of the hanging worker", || !runs(worker));
        bench.reopen();
        bench.serves();
        bench.serves();
    }
}

#[test]
fn what_predict_gets_wrong_fails_by_name_and_the_worker_stays() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    let failed = DropReason::BackendFailed;
    for (told, reason, expected) in [
        (6, failed, "ValueError: no such thing ("),
        (7, DropReason::WrongCount, "predict returned 4 results for 3 frames"),
        (9, failed, "predict returned NoneType, expected a list with one result for each frame"),
        (12, failed, "output output has shape [3, 1048576], expected [3]"),
        (14, failed, "ValueError: assignment destination is read-only"),
    ] {
        let error = bench.fails(&[told, 50, 60]);
        assert_eq!((error.reason, error.reopen), (reason, false), "{told}: {error}");
        assert!(error.message.starts_with(expected), "{told}: {error}");
    }
    assert!(bench.fails(&[6]).message.contains("model.py:"), "the place of an exception is told");
    until("the traceback", || said(&bench.model).iter().any(|message| message.text.starts_with("Traceback")));
    bench.serves();
    assert_eq!(bench.started().len(), 1);
}

#[test]
fn a_frame_that_fails_alone_leaves_the_others() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    let unlike = "output output: has shape [3], this model's frames have []";
    for (told, expected) in [
        (8, vec![(1, "too dark"), (3, "too dark")]),
        (10, vec![(1, unlike), (2, unlike), (3, unlike)]),
        (11, vec![(0, "all of them"), (1, "all of them"), (2, "all of them"), (3, "all of them")]),
        (15, (0..4).map(|at| (at, "the result is complex, this model gives one array for a frame")).collect()),
    ] {
        let (result, answer) = bench.run(&[told, 50, 60, 70]);
        result.expect("an answer");
        let failed: Vec<_> = answer.failed.iter().map(|(index, message)| (*index, message.as_str())).collect();
        assert_eq!(failed, expected, "{told}");
        let outputs = answer.outputs.expect("outputs");
        for output in &outputs {
            assert_eq!(output.shape, [4], "{told}");
        }
        if told == 8 {
            assert_eq!((outputs[0].values[0], outputs[0].values[2]), (1.0, 1.0));
        }
    }
    bench.serves();
    assert_eq!(bench.started().len(), 1);
}

#[test]
fn failures_of_the_largest_batch_fit_into_an_answer() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let model = opened(options(&interpreter, &folder, "refuse")).expect("a model");
    let mut backend = instance(&model);
    let (count, spec) = (1024, spec(DType::U8));
    let mut tensor = BatchTensor::within(model.model.memory.as_ref(), count, spec.slot_bytes());
    tensor.slots_mut().for_each(|slot| slot.fill(1));
    let mut answer = Answer::default();
    backend.infer(input(&tensor, &spec, &origins(count)), &mut answer).expect("an answer, not the worker's end");
    assert_eq!(answer.failed.len(), count);
    assert!(answer.failed.iter().all(|(_, message)| message.starts_with("xxxxxxxx")));
}

#[test]
fn a_float_for_a_whole_number_is_refused_whatever_is_beside_it() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let model = opened(options(&interpreter, &folder, "Whole")).expect("a model");
    let mut backend = instance(&model);
    let spec = spec(DType::U8);
    let mut tensor = BatchTensor::within(model.model.memory.as_ref(), 2, spec.slot_bytes());
    tensor.slot_mut(0).fill(1);
    for (second, expected) in [(1, "output whole: holds float64, this model gives i32"), (255, "too bright")] {
        tensor.slot_mut(1).fill(second);
        let mut answer = Answer::default();
        backend.infer(input(&tensor, &spec, &origins(2)), &mut answer).expect("an answer");
        let mut failed = answer.failed;
        failed.sort();
        assert_eq!(failed[0], (0, "output whole: holds float64, this model gives i32".to_owned()));
        assert_eq!(failed[1], (1, expected.to_owned()));
    }
}

#[test]
fn a_worker_that_talks_nonsense_is_killed() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    let error = bench.fails(&[13]);
    assert_eq!((error.reason, error.reopen), (DropReason::BackendFailed, true));
    assert!(error.message.contains("no readable answer"), "{error}");
    bench.reopen();
    bench.serves();
}

#[test]
fn what_workers_write_is_bounded_and_bears_their_name() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    let (result, _) = bench.run(&[16]);
    result.expect("nobody waits for a full pipe");
    bench.serves();
    let mut heard = Vec::new();
    until("the greeting", || {
        heard.extend(said(&bench.model));
        heard.iter().any(|message| message.text.starts_with("hello from"))
    });
    assert!(heard.iter().all(|message| message.subject == "model tested worker 0"), "{heard:?}");
    bench.reopen();
    heard.extend(said(&bench.model));
    assert!(heard.len() < 100, "{} messages", heard.len());
}

#[test]
fn outputs_are_bounded() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let model =
        opened(PythonOptions { output_bytes_max: 4096, ..options(&interpreter, &folder, "three") }).expect("a model");
    let mut backend = instance(&model);
    let (count, spec) = (513, spec(DType::U8));
    let tensor = BatchTensor::within(model.model.memory.as_ref(), count, spec.slot_bytes());
    let error = backend.infer(input(&tensor, &spec, &origins(count)), &mut Answer::default()).expect_err("too much");
    assert_eq!(
        error.message,
        "the outputs of 513 frames have 4160 bytes, the output memory has 4096: raise output_bytes_max"
    );
}

#[test]
fn a_workers_own_children_go_with_it() {
    let Some(mut bench) = Bench::new(|options| options) else { return };
    bench.run(&[17]).0.expect("an answer");
    let child = bench.numbers("child")[0];
    assert!(runs(child));
    bench.backend = instance(&bench.model);
    until("the end of the worker's child", || !runs(child));
}

#[test]
fn two_hundred_restarts_leave_nothing_behind() {
    let Some(mut bench) = Bench::new(|options| PythonOptions { batch_as: BatchAs::Buffer, ..options }) else { return };
    let mut before = (0, 0);
    for round in 0..200 {
        // Half of them end by themselves, half are let go.
        if round % 2 == 0 {
            std::fs::remove_file(bench.folder.file("once")).ok();
            bench.run(&[101]).0.expect("an answer of the next worker");
        } else {
            bench.reopen();
            bench.serves();
        }
        if round == 20 {
            before = resources();
        }
    }
    bench.serves();
    let after = resources();
    // What is let go by a thread of its own may be a moment late.
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1, "descriptors and mappings: {before:?}, then {after:?}");
    let started = bench.started();
    assert!(started.len() > 200);
    until("the end of all workers but one", || started.iter().filter(|id| runs(**id)).count() == 1);
    let Bench { backend, model, .. } = bench;
    drop((backend, model));
    until("the end of the last worker", || !started.iter().any(|id| runs(*id)));
}

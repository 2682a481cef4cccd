//! Every runtime on models whose right answers are known: the conformance suite, and agreement between runtimes.
//!
//! A runtime whose library is missing is skipped with a note, unless OMMA_REQUIRE_RUNTIMES=1 (as `make test` sets).

use std::path::{Path, PathBuf};

use half::f16;
use omma_adapters::infer::{self, OnnxModel, OnnxOptions, OpenError, Provider, Runtime, State};
use omma_engine::infer::backend::{BatchLimit, Opener};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::{BatchTensor, DType, as_f16_bits, as_f32, as_f32_mut};
use omma_testkit::backend::{Answer, Subject, conforms, input, origins, paint};
use omma_testkit::backend_onnx::{Element, Port, one_node};
use omma_testkit::backend_served::{Served, serves};

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny").join(name)
}

/// The model on the runtime, or `None` (and a note) if the runtime is not installed and need not be.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what they did not test")]
fn open(runtime: Runtime, path: &Path) -> Option<OnnxModel> {
    match infer::open(path, &OnnxOptions { runtime: Some(runtime), ..OnnxOptions::default() }) {
        Ok(opened) => Some(opened),
        Err(OpenError::Runtimes { tried, .. }) if tried[0].problem.contains("to get it:") => {
            let required = std::env::var_os("OMMA_REQUIRE_RUNTIMES").is_some_and(|value| value == "1");
            assert!(!required, "{runtime} is required here: {}", tried[0].problem);
            eprintln!("SKIPPED: {runtime} is not installed: {}", tried[0].problem);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn spec(opened: &OnnxModel) -> PictureSpec {
    infer::guess_spec(&opened.model.info, None).expect("pictures")
}

/// Models, and the largest batch that is tried of each.
const MODELS: [(&str, usize); 6] = [
    ("identity_8x8.onnx", 5),
    ("classifier_4.onnx", 5),
    ("classifier_4_int8.onnx", 5),
    ("embed_8.onnx", 5),
    ("yolo_end2end.onnx", 5),
    ("fixed_batch_2.onnx", 2),
];

fn conformance(runtime: Runtime) {
    for (name, batch_max) in MODELS {
        let Some(opened) = open(runtime, &tiny(name)) else { return };
        conforms(&Subject { model: &opened.model, spec: &spec(&opened), batch_max, tolerance: 1e-5 });
    }
    for (name, batch_max) in [("classifier_4.onnx", 5), ("fixed_batch_2.onnx", 2)] {
        let Some(opened) = open(runtime, &tiny(name)) else { return };
        let load = || open(runtime, &tiny(name)).expect("it was there").model;
        serves(&Served { load: &load, spec: &spec(&opened), batch_max, tolerance: 1e-5 });
    }
}

#[test]
fn openvino_conforms() {
    conformance(Runtime::OpenVino);
}

#[test]
fn onnxruntime_conforms() {
    conformance(Runtime::OnnxRuntime);
}

#[test]
fn rten_conforms() {
    conformance(Runtime::Rten);
}

/// On a GPU, say: what ONNX Runtime computes with here beside the CPU.
#[test]
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what they did not test")]
fn onnxruntime_conforms_with_every_provider_that_starts_here() {
    let found = infer::survey().into_iter().find(|found| found.runtime == Runtime::OnnxRuntime).expect("listed");
    let State::Present { providers, failing, .. } = found.state else { return };
    for (provider, why) in failing {
        eprintln!("SKIPPED: {provider}: {why}");
    }
    for provider in providers.into_iter().filter(|provider| *provider != Provider::Cpu) {
        for (name, batch_max) in MODELS {
            let opened = infer::open(&tiny(name), &OnnxOptions { provider, ..OnnxOptions::default() });
            let opened = opened.unwrap_or_else(|error| panic!("{provider}: {error}"));
            // A GPU's matrix units multiply with ten bits.
            conforms(&Subject { model: &opened.model, spec: &spec(&opened), batch_max, tolerance: 1e-2 });
            let expected = outputs(&open(Runtime::Rten, &tiny(name)).expect("rten is built in"), 2);
            for (found, expected) in outputs(&opened, 2).iter().zip(&expected) {
                let near = (found - expected).abs() <= 1e-2 * expected.abs().max(1.0);
                assert!(near, "{provider} on {name}: {found}, rten: {expected}");
            }
        }
    }
}

/// As exports for GPUs are: half floats in and out. rten takes full ones instead, and computes in them.
#[test]
fn a_model_in_half_floats_runs_on_every_runtime() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("half.onnx");
    let port = |name| Port { name, element: Element::F16, dims: &[None, Some(3), Some(8), Some(8)] };
    std::fs::write(&path, one_node("Identity", &[port("images")], &[port("output")])).expect("a file");
    for runtime in Runtime::ALL {
        let Some(opened) = open(runtime, &path) else { continue };
        let spec = spec(&opened);
        assert_eq!(spec.dtype, if runtime == Runtime::Rten { DType::F32 } else { DType::F16 }, "{runtime}");
        assert_eq!(opened.model.info.outputs[0].dtype, DType::F32, "{runtime}");
        conforms(&Subject { model: &opened.model, spec: &spec, batch_max: 5, tolerance: 0.0 });
        if spec.dtype == DType::F16 {
            let pictures = pictures(&spec, 3);
            let expected: Vec<f32> =
                as_f16_bits(pictures.bytes(3)).iter().map(|bits| f16::from_bits(*bits).to_f32()).collect();
            assert_eq!(outputs(&opened, 3), expected, "{runtime}");
        }
    }
}

/// A tensor of `count` painted pictures.
fn pictures(spec: &PictureSpec, count: usize) -> BatchTensor {
    let mut tensor = BatchTensor::new(count, spec.slot_bytes());
    for (picture, slot) in tensor.slots_mut().enumerate() {
        paint(slot, spec.dtype, picture);
    }
    tensor
}

/// The first output of a batch of `count` painted pictures.
fn outputs(opened: &OnnxModel, count: usize) -> Vec<f32> {
    answers(opened, &pictures(&spec(opened), count), count)
}

/// The first output of the batch's first `count` pictures.
fn answers(opened: &OnnxModel, pictures: &BatchTensor, count: usize) -> Vec<f32> {
    let spec = spec(opened);
    let Opener::Blocking(instance) = &opened.model.opener else { panic!("a blocking backend") };
    let mut answer = Answer::default();
    let mut instance = instance(0).expect("an instance");
    instance.infer(input(pictures, &spec, &origins(count)), &mut answer).expect("a batch");
    answer.outputs.expect("outputs").remove(0).values
}

#[test]
fn an_identity_model_gives_back_its_input_on_every_runtime() {
    for runtime in Runtime::ALL {
        let Some(opened) = open(runtime, &tiny("identity_8x8.onnx")) else { continue };
        assert_eq!(outputs(&opened, 3), as_f32(pictures(&spec(&opened), 3).bytes(3)), "{runtime}");
    }
}

#[test]
fn runtimes_agree_with_rten() {
    for name in ["classifier_4.onnx", "embed_8.onnx", "yolo_end2end.onnx", "fixed_batch_2.onnx"] {
        let expected = outputs(&open(Runtime::Rten, &tiny(name)).expect("rten is built in"), 2);
        for runtime in [Runtime::OpenVino, Runtime::OnnxRuntime] {
            let Some(opened) = open(runtime, &tiny(name)) else { continue };
            for (found, expected) in outputs(&opened, 2).iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                    "{runtime} on {name}: {found}, rten: {expected}"
                );
            }
        }
    }
}

/// Each picture evenly one colour.
fn even(spec: &PictureSpec, colours: &[[f32; 3]]) -> BatchTensor {
    let mut tensor = BatchTensor::new(colours.len(), spec.slot_bytes());
    for (slot, colour) in tensor.slots_mut().zip(colours) {
        let values = as_f32_mut(slot);
        let plane = values.len() / 3;
        values.chunks_mut(plane).zip(colour).for_each(|(channel, value)| channel.fill(*value));
    }
    tensor
}

#[test]
fn an_int8_model_scores_as_the_model_that_it_was_made_from() {
    let colours = [[0.9, 0.1, 0.2], [0.0, 0.5, 0.1], [0.3, 0.2, 0.8], [0.6, 0.6, 0.6], [0.0, 0.0, 0.0]];
    for runtime in Runtime::ALL {
        let Some(float) = open(runtime, &tiny("classifier_4.onnx")) else { continue };
        let int8 = open(runtime, &tiny("classifier_4_int8.onnx")).expect("the same runtime");
        let pictures = even(&spec(&float), &colours);
        let (expected, found) = (answers(&float, &pictures, 5), answers(&int8, &pictures, 5));
        for (at, (found, expected)) in found.chunks(4).zip(expected.chunks(4)).enumerate() {
            let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= 0.05, "colour {at} on {runtime}: {found:?}, in floats {expected:?}");
            let best = [0, 1, 2, 3, 3][at];
            assert!(found.iter().all(|score| *score <= found[best]), "colour {at} on {runtime}: {found:?}");
        }
    }
}

#[test]
fn every_runtime_describes_a_model_alike() {
    for runtime in Runtime::ALL {
        let Some(opened) = open(runtime, &tiny("yolo_end2end.onnx")) else { continue };
        let info = &opened.model.info;
        assert_eq!(info.batch, BatchLimit::UpTo(usize::MAX), "{runtime}");
        assert_eq!((info.inputs[0].name.as_str(), info.outputs[0].name.as_str()), ("images", "output0"), "{runtime}");
        assert_eq!(info.inputs[0].shape, [None, Some(3), Some(32), Some(32)], "{runtime}");
        assert_eq!(info.outputs[0].shape, [None, Some(6), Some(6)], "{runtime}");
        let fixed = open(runtime, &tiny("fixed_batch_2.onnx")).expect("the same runtime");
        assert_eq!(fixed.model.info.batch, BatchLimit::Exactly(2), "{runtime}");
    }
}

#[test]
fn sizes_and_cores_change_nothing_about_what_comes_out() {
    for runtime in Runtime::ALL {
        let Some(plain) = open(runtime, &tiny("yolo_end2end.onnx")) else { continue };
        let options = OnnxOptions {
            runtime: Some(runtime),
            // This thread is pinned by opening an instance; it is this test's own.
            cores: if cfg!(target_os = "linux") { vec![0] } else { Vec::new() },
            batch_sizes: vec![2, 4],
            ..OnnxOptions::default()
        };
        let sized = infer::open(&tiny("yolo_end2end.onnx"), &options).expect("the same runtime");
        conforms(&Subject { model: &sized.model, spec: &spec(&sized), batch_max: 5, tolerance: 1e-5 });
        for count in 1..=5 {
            assert_eq!(outputs(&sized, count), outputs(&plain, count), "{count} pictures on {runtime}");
        }
    }
}

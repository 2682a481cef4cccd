//! Model files and options that cannot work: each is refused with a message that says what is wrong, and nothing panics.

use std::path::PathBuf;

use omma_adapters::infer::{self, Attempt, OnnxModel, OnnxOptions, OpenError, Provider, Runtime, State};
use omma_engine::infer::backend::BatchLimit;
use omma_engine::picture::{Color, Layout};
use omma_engine::tensor::DType;
use omma_testkit::backend::{Subject, conforms};
use omma_testkit::backend_onnx::{Element, Port, node_of, one_node};

const PICTURES: &[Option<usize>] = &[None, Some(3), Some(8), Some(8)];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

fn port<'a>(name: &'a str, element: Element, dims: &'a [Option<usize>]) -> Port<'a> {
    Port { name, element, dims }
}

fn identity(element: Element, dims: &[Option<usize>]) -> Vec<u8> {
    one_node("Identity", &[port("images", element, dims)], &[port("output", element, dims)])
}

fn on(runtime: Runtime) -> OnnxOptions {
    OnnxOptions { runtime: Some(runtime), ..OnnxOptions::default() }
}

fn error(result: Result<OnnxModel, OpenError>, what: &str) -> OpenError {
    match result {
        Ok(opened) => panic!("{what}: opened on {}", opened.choice.runtime),
        Err(error) => error,
    }
}

/// Whether the runtime can be used here at all; `infer_runtimes.rs` sees to it that it is where it must be.
fn installed(folder: &Folder, runtime: Runtime) -> bool {
    infer::open(&folder.write("probe.onnx", &identity(Element::F32, PICTURES)), &on(runtime)).is_ok()
}

#[test]
fn models_that_take_no_batch_of_pictures_are_unfit_on_every_runtime() {
    let folder = Folder::new();
    let two = [port("images", Element::F32, PICTURES), port("sizes", Element::F32, PICTURES)];
    for (what, bytes, expected) in [
        (
            "two inputs",
            one_node("Add", &two, &[port("output", Element::F32, PICTURES)]),
            "the model has 2 inputs (`images` f32 [batch, 3, 8, 8], `sizes` f32 [batch, 3, 8, 8]), expected exactly one, a batch of pictures",
        ),
        (
            "rank 2",
            identity(Element::F32, &[None, Some(8)]),
            "input `images` f32 [batch, 8] has rank 2, expected 4: batch, channels, height, width",
        ),
        (
            "whole numbers",
            identity(Element::I64, PICTURES),
            "input `images` i64 [batch, 3, 8, 8] holds i64, expected u8, f16 or f32",
        ),
    ] {
        let path = folder.write("model.onnx", &bytes);
        for runtime in Runtime::ALL.into_iter().filter(|runtime| installed(&folder, *runtime)) {
            match error(infer::open(&path, &on(runtime)), what) {
                // rten keeps whole numbers in 32 bits, and says so.
                OpenError::Unfit { problem, .. } if runtime == Runtime::Rten => {
                    assert_eq!(problem.replace("i32", "i64"), expected, "{what}")
                }
                OpenError::Unfit { problem, .. } => assert_eq!(problem, expected, "{what} on {runtime}"),
                other => panic!("{what} on {runtime}: {other}"),
            }
        }
    }
}

#[test]
fn what_no_runtime_runs_is_refused_with_what_each_of_them_said() {
    let folder = Folder::new();
    let bytes = one_node(
        "NoSuchOperator",
        &[port("images", Element::F32, PICTURES)],
        &[port("output", Element::F32, PICTURES)],
    );
    match error(infer::open(&folder.write("model.onnx", &bytes), &OnnxOptions::default()), "an unknown operator") {
        OpenError::Runtimes { tried, .. } => {
            assert_eq!(tried.iter().map(|attempt| attempt.runtime).collect::<Vec<_>>(), Runtime::ALL);
            for Attempt { runtime, problem } in tried {
                assert!(problem.contains("NoSuchOperator") || !installed(&folder, runtime), "{runtime}: {problem}");
            }
        }
        other => panic!("{other}"),
    }
}

/// A mean over everything, as a graph gives it whose batch was fixed at its export: the input promises any batch.
#[test]
fn a_batch_that_only_the_input_declares_is_found_out() {
    let folder = Folder::new();
    let bytes = one_node(
        "ReduceMax",
        &[port("images", Element::F32, PICTURES)],
        &[port("output", Element::F32, &[None, Some(1), Some(1), Some(1)])],
    );
    let path = folder.write("model.onnx", &bytes);
    for runtime in Runtime::ALL.into_iter().filter(|runtime| installed(&folder, *runtime)) {
        let opened = infer::open(&path, &on(runtime)).expect("a model");
        assert_eq!(opened.model.info.batch, BatchLimit::UpTo(1), "{runtime}");
        assert!(
            opened.choice.why.contains("takes one picture at a time, although its input declares batches"),
            "{}",
            opened.choice.why
        );
        let spec = infer::guess_spec(&opened.model.info, None).expect("pictures");
        conforms(&Subject { model: &opened.model, spec: &spec, batch_max: 1, tolerance: 0.0 });
    }
}

/// An operator of ONNX Runtime's own.
#[test]
fn auto_goes_on_to_the_next_runtime_when_one_refuses_the_model() {
    let folder = Folder::new();
    if !installed(&folder, Runtime::OnnxRuntime) {
        return;
    }
    let (images, output) = (port("images", Element::F32, PICTURES), port("output", Element::F32, PICTURES));
    let path = folder.write("model.onnx", &node_of("com.microsoft", "Inverse", &[images], &[output]));
    let opened = infer::open(&path, &OnnxOptions::default()).expect("ONNX Runtime");
    assert_eq!(opened.choice.runtime, Runtime::OnnxRuntime);
    if installed(&folder, Runtime::OpenVino) {
        let why = &opened.choice.why;
        assert!(why.contains("openvino does not load the model ("), "{why}");
    }
}

#[test]
fn files_that_are_no_models_are_told_before_any_runtime_is_asked() {
    let folder = Folder::new();
    let whole = identity(Element::F32, PICTURES);
    for (name, bytes) in
        [("empty.onnx", b"".as_slice()), ("cut.onnx", &whole[..whole.len() - 10]), ("page.onnx", b"<html></html>")]
    {
        let path = folder.write(name, bytes);
        let error = error(infer::open(&path, &OnnxOptions::default()), name);
        assert!(matches!(error, OpenError::File { .. }), "{name}: {error}");
        assert!(error.to_string().starts_with(&format!("model {}: ", path.display())), "{error}");
    }
}

/// Damaged files: whatever a byte becomes, opening ends in a model or an error.
#[test]
fn no_damage_to_a_file_panics_or_crashes() {
    let folder = Folder::new();
    let whole = identity(Element::F32, PICTURES);
    for runtime in Runtime::ALL.into_iter().filter(|runtime| installed(&folder, *runtime)) {
        // A native runtime takes 10 ms for each file: every third byte is enough to meet every kind of field.
        for at in (0..whole.len()).step_by(if runtime == Runtime::Rten { 1 } else { 3 }) {
            for value in [0xff, whole[at] ^ 0x10] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Err(OpenError::Runtimes { tried, .. }) =
                    infer::open(&folder.write("damaged.onnx", &damaged), &on(runtime))
                {
                    assert!(
                        !tried[0].problem.contains("panicked"),
                        "byte {at} = {value} on {runtime}: {}",
                        tried[0].problem
                    );
                }
            }
        }
    }
}

#[test]
fn pictures_of_bytes_channels_last_and_grey_pictures_run_on_every_runtime() {
    let folder = Folder::new();
    for (element, dims, dtype, layout, color) in [
        (Element::U8, [None, Some(8), Some(6), Some(3)], DType::U8, Layout::Nhwc, Color::Rgb),
        (Element::F32, [None, Some(1), Some(6), Some(8)], DType::F32, Layout::Nchw, Color::Gray),
    ] {
        let path = folder.write("model.onnx", &identity(element, &dims));
        for runtime in Runtime::ALL.into_iter().filter(|runtime| installed(&folder, *runtime)) {
            let opened = infer::open(&path, &on(runtime)).expect("a model");
            let spec = infer::guess_spec(&opened.model.info, None).expect("pictures");
            assert_eq!((spec.dtype, spec.layout, spec.color), (dtype, layout, color), "{runtime}");
            conforms(&Subject { model: &opened.model, spec: &spec, batch_max: 3, tolerance: 0.0 });
        }
    }
}

#[cfg(feature = "native")]
#[test]
fn a_library_that_was_named_must_be_there_and_be_one() {
    let folder = Folder::new();
    let model = folder.write("model.onnx", &identity(Element::F32, PICTURES));
    let text = folder.write("libonnxruntime.so", b"no library");
    for (runtime, library, expected) in [
        (
            Runtime::OpenVino,
            folder.0.path().join("nowhere"),
            "is neither the library libopenvino_c.so nor a folder that holds it",
        ),
        (Runtime::OnnxRuntime, text, "libonnxruntime.so: "),
    ] {
        let options = OnnxOptions { library: Some(library), ..on(runtime) };
        match error(infer::open(&model, &options), "a wrong library") {
            OpenError::Runtimes { tried, .. } => assert!(tried[0].problem.contains(expected), "{}", tried[0].problem),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_second_copy_of_a_library_is_refused_by_name() {
    let folder = Folder::new();
    for (runtime, file) in [(Runtime::OnnxRuntime, "libonnxruntime.so"), (Runtime::OpenVino, "libopenvino_c.so")] {
        if !installed(&folder, runtime) {
            continue;
        }
        let copy = folder.write(file, b"another copy");
        let options = OnnxOptions { library: Some(copy), ..on(runtime) };
        match error(infer::open(&folder.0.path().join("probe.onnx"), &options), "a second copy") {
            OpenError::Runtimes { tried, .. } => {
                assert!(tried[0].problem.contains("cannot be loaded beside it"), "{}", tried[0].problem)
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn options_that_cannot_work_are_refused_by_name() {
    let folder = Folder::new();
    let path = folder.write("model.onnx", &identity(Element::F32, PICTURES));
    let fixed = folder.write("fixed.onnx", &identity(Element::F32, &[Some(2), Some(3), Some(8), Some(8)]));
    for (path, options, expected) in [
        (
            &path,
            OnnxOptions { provider: Provider::Cuda, ..on(Runtime::Rten) },
            "the provider cuda is one of ONNX Runtime's, found it with runtime = \"rten\"",
        ),
        (
            &fixed,
            OnnxOptions { batch_sizes: vec![2, 4], ..on(Runtime::Rten) },
            "batch_sizes = [2, 4], but the model takes batches of exactly 2",
        ),
    ] {
        match error(infer::open(path, &options), expected) {
            OpenError::Options { problem, .. } => assert_eq!(problem, expected),
            other => panic!("{other}"),
        }
    }
}

/// Never the CPU in silence where something else was asked for.
#[test]
fn a_provider_that_the_library_lacks_is_refused_with_a_way_to_get_it() {
    let folder = Folder::new();
    let path = folder.write("model.onnx", &identity(Element::F32, PICTURES));
    let there = infer::survey().into_iter().find(|found| found.runtime == Runtime::OnnxRuntime).expect("listed");
    let State::Present { providers, failing, .. } = there.state else { return };
    assert!(providers.contains(&Provider::Cpu));
    let built_in: Vec<_> = providers.into_iter().chain(failing.into_iter().map(|(provider, _)| provider)).collect();
    for provider in Provider::ALL.into_iter().filter(|provider| !built_in.contains(provider)) {
        let options = OnnxOptions { provider, ..OnnxOptions::default() };
        match error(infer::open(&path, &options), provider.name()) {
            OpenError::Runtimes { tried, .. } => {
                let [Attempt { runtime: Runtime::OnnxRuntime, problem }] = tried.as_slice() else {
                    panic!("{tried:?}")
                };
                for expected in [&format!("was built without the provider {provider}; to get it:"), provider.install()]
                {
                    assert!(problem.contains(expected), "missing {expected:?} in {problem}");
                }
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_survey_finds_the_runtimes_that_models_open_on() {
    let folder = Folder::new();
    let found = infer::survey();
    assert_eq!(found.iter().map(|found| found.runtime).collect::<Vec<_>>(), Runtime::ALL);
    for found in found {
        match &found.state {
            State::Present { version, .. } => assert!(!version.is_empty(), "{}", found.runtime),
            State::Missing { why } => assert!(!why.is_empty(), "{}", found.runtime),
        }
        let present = matches!(found.state, State::Present { .. });
        assert_eq!(present, installed(&folder, found.runtime), "{}", found.runtime);
    }
}

#[test]
fn auto_takes_the_first_that_is_installed_and_says_how_to_get_a_better_one() {
    let folder = Folder::new();
    let opened = infer::open(&folder.write("model.onnx", &identity(Element::F32, PICTURES)), &OnnxOptions::default())
        .expect("rten at least");
    let best = Runtime::ALL.into_iter().find(|runtime| installed(&folder, *runtime)).expect("rten at least");
    assert_eq!(opened.choice.runtime, best);
    assert!(opened.choice.why.starts_with(best.name()), "{}", opened.choice.why);
    assert_eq!(opened.choice.better.is_some(), best != Runtime::OpenVino);
}

//! What is wrong with a model in Python is said at start, with what to do about it.

mod python;

use std::time::{Duration, Instant};

use omma_adapters::infer::python::{BatchAs, Declared, PythonModel, PythonOptions, open};
use omma_engine::infer::backend::{BatchLimit, Device};
use omma_engine::tensor::DType;
use python::{Folder, interpreter, opened, options, spec};

const MODELS: &str = r#"
import omma, os, time
class NoPredict: pass
class Takes:
    def load(self, weights, size="3"): self.size = int(size)
    def predict(self, batch): return [float(self.size)] * len(batch)
class Raises:
    def load(self): raise RuntimeError("no weights at nowhere.pt")
    def predict(self, batch): return []
class Fine:
    def predict(self, batch): return [1.0] * len(batch)
class Blind:
    def predict(self, batch): raise KeyError("colour")
class Slow:
    def load(self): time.sleep(3600)
    def predict(self, batch): return []
class Dies:
    def load(self):
        print("out of video memory")
        os._exit(9)
    def predict(self, batch): return []
class Wide:
    input = omma.Input(width=640, height=480, dtype="f32")
    def predict(self, batch): return [1.0] * len(batch)
class Odd:
    batch_max = 0
    def predict(self, batch): return [1.0] * len(batch)
class Untyped:
    outputs = {"a": "f32"}
    def predict(self, batch): return [1.0] * len(batch)
class Text:
    def predict(self, batch): return ["a cat"] * len(batch)
class Gone:
    def predict(self, batch): return [omma.Failed("always")] * len(batch)
class Device:
    def load(self, device, threshold="0.5"): self.told = (device, threshold, os.environ["COLOUR"], os.getcwd())
    def predict(self, batch):
        assert self.told == ("cuda", "0.7", "blue", os.path.dirname(__file__)), self.told
        return [1.0] * len(batch)
number = 3
def scaled(batch, factor): return [float(factor)] * len(batch)
"#;

fn refused(result: Result<PythonModel, String>, what: &str) -> String {
    match result {
        Ok(_) => panic!("{what}: opened"),
        Err(problem) => problem,
    }
}

#[test]
fn what_is_wrong_is_said_at_start() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    std::fs::write(folder.file("broken.py"), "import no_such_library\n").expect("a module");
    for (entry, expected) in [
        ("nowhere:Model", "there is no module nowhere in "),
        ("model:Modle", "the module model has no Modle; it has NoPredict, Takes, "),
        ("broken:Model", "ModuleNotFoundError: No module named 'no_such_library' ("),
        ("model:NoPredict", "model:NoPredict has no method predict(self, batch)"),
        ("model:Takes", "load does not take the model's parameters (none): missing a required argument: 'weights'"),
        ("model:Raises", "RuntimeError: no weights at nowhere.pt ("),
        ("model:Blind", "predict failed on a black picture, which it is tried on at start: KeyError: 'colour' ("),
        (
            "model:Dies",
            "it was not loaded: the worker is gone: it ended with exit code 9; its last words: out of video memory",
        ),
        (
            "model:Wide",
            "input `batch` is f32 [batch, 3, 480, 640], the configuration says u8 3x8x12 NCHW: set dtype = \"f32\", width = 640, height = 480",
        ),
        ("model:Odd", "batch_max is 0, expected a whole number from 1 to 65536"),
        ("model:Untyped", "outputs is {'a': 'f32'}, expected \"detections\" or names with type and shape of one frame"),
        (
            "model:Text",
            "predict failed on a black picture, which it is tried on at start: the result of a frame is str, expected an array",
        ),
        ("model:Gone", "predict failed on a black picture, which it is tried on at start: always"),
        ("model:number", "model:number is int, expected a class or a function"),
        (
            "model:scaled",
            "predict failed on a black picture, which it is tried on at start: TypeError: scaled() missing",
        ),
    ] {
        let problem =
            refused(opened(PythonOptions { entry: entry.into(), ..options(&interpreter, &folder, "") }), entry);
        let expected = format!("{entry}: {expected}");
        assert!(problem.starts_with(&expected), "{entry}: {problem}");
    }
}

#[test]
fn a_missing_interpreter_folder_or_library_is_said() {
    let folder = Folder::with("def f(batch): return [1.0] * len(batch)\n");
    // Without site-packages there is no numpy.
    let bare = folder.file("bare-python");
    std::fs::write(&bare, "#!/bin/sh\nexec python3 -S -E \"$@\"\n").expect("a script");
    let mut permissions = std::fs::metadata(&bare).expect("a file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&bare, permissions).expect("executable");
    let with = |interpreter: &str| options(std::path::Path::new(interpreter), &folder, "f");
    let text = refused(opened(with("no-such-python")), "no interpreter");
    assert_eq!(
        text,
        "model:f: there is no interpreter no-such-python: install Python, or name another (interpreter = \"...\")"
    );
    let text = refused(opened(PythonOptions { folder: "/no/such/folder".into(), ..with("python3") }), "no folder");
    assert_eq!(text, "model:f: there is no folder /no/such/folder to run in");
    let bare = bare.to_str().expect("a path");
    for (batch_as, library) in [(BatchAs::Numpy, "numpy"), (BatchAs::Torch, "torch")] {
        let text = refused(opened(PythonOptions { batch_as, ..with(bare) }), library);
        assert!(text.contains(" has no ") && text.contains(&format!("batch_as = \"{library}\"")), "{text}");
        assert!(text.contains("or set batch_as = \"buffer\""), "{text}");
    }
    opened(PythonOptions { batch_as: BatchAs::Buffer, ..with(bare) }).map(|_| ()).expect("needs no library");
}

#[test]
fn half_floats_need_numpy_or_torch() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let options = PythonOptions { batch_as: BatchAs::Buffer, ..options(&interpreter, &folder, "Fine") };
    let said = refused(open(options, |_| Ok(spec(DType::F16))), "a buffer of half floats");
    assert!(said.contains("batch_as = \"buffer\" with dtype = \"f16\": "), "{said}");
}

#[test]
fn a_load_that_takes_too_long_is_given_up() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let load_timeout = Duration::from_millis(1500);
    let begun = Instant::now();
    let text = refused(opened(PythonOptions { load_timeout, ..options(&interpreter, &folder, "Slow") }), "slow");
    assert_eq!(text, "model:Slow: it was not loaded: no answer within 1500 ms (load_timeout_ms)");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_is_configured_reaches_the_class() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let model = opened(PythonOptions {
        parameters: vec![text("threshold", "0.7")],
        environment: vec![text("COLOUR", "blue")],
        device: omma_adapters::infer::python::PythonDevice::Cuda,
        ..options(&interpreter, &folder, "Device")
    })
    .unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(model.model.device, Device::Accelerator);
    assert_eq!(model.model.info.batch, BatchLimit::UpTo(usize::MAX));
    assert!(model.model.info.runtime.starts_with("Python 3."), "{}", model.model.info.runtime);
    opened(PythonOptions { parameters: vec![text("factor", "2")], ..options(&interpreter, &folder, "scaled") })
        .map(|_| ())
        .expect("a function takes them with each batch");
}

#[test]
fn a_class_says_how_it_wants_its_pictures() {
    let Some(interpreter) = interpreter() else { return };
    let folder = Folder::with(MODELS);
    let mut heard = None;
    let opened = open(options(&interpreter, &folder, "Wide"), |declared: &Declared| {
        heard = Some(declared.clone());
        let mut spec = spec(DType::F32);
        (spec.size.width, spec.size.height) = (640, 480);
        Ok(spec)
    });
    opened.map(|_| ()).unwrap_or_else(|problem| panic!("{problem}"));
    let expected =
        Declared { width: Some(640), height: Some(480), dtype: Some("f32".into()), layout: None, channels: None };
    assert_eq!(heard, Some(expected));
}

//! What the tests of Python workers share: an interpreter with numpy, models written into a folder, waiting.

// A test that does not run says so.
#![allow(dead_code, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use omma_adapters::infer::python::{BatchAs, Declared, PythonDevice, PythonModel, PythonOptions, open};
use omma_engine::infer::backend::Backend;
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::report::Message;
use omma_engine::tensor::DType;
use omma_frame::Size;

/// An interpreter with numpy. `None`: there is none, which is said.
pub fn interpreter() -> Option<PathBuf> {
    omma_testkit::python::interpreter(&["numpy"])
}

/// As [`interpreter`], with torch. Torch is large: it is tried where it is installed, and nowhere required.
pub fn interpreter_with_torch() -> Option<PathBuf> {
    let found = interpreter().filter(|found| has(found, "torch"));
    if found.is_none() {
        eprintln!("NOT RUN: the Python of the tests has no torch (OMMA_PYTHON names another)");
    }
    found
}

pub fn has(interpreter: &Path, module: &str) -> bool {
    omma_testkit::python::has(interpreter, &[module])
}

/// A folder with the models of a test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn with(source: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("model.py"), source).expect("a model");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

pub fn options(interpreter: &Path, folder: &Folder, entry: &str) -> PythonOptions {
    PythonOptions {
        model: "tested".into(),
        interpreter: interpreter.into(),
        entry: format!("model:{entry}"),
        folder: folder.path().into(),
        environment: vec![],
        parameters: vec![],
        device: PythonDevice::Cpu,
        batch_as: BatchAs::Numpy,
        threads: 1,
        load_timeout: Duration::from_secs(60),
        deadline: Duration::from_secs(60),
        output_bytes_max: 1 << 20,
    }
}

pub fn spec(dtype: DType) -> PictureSpec {
    PictureSpec {
        size: Size { width: 12, height: 8 },
        dtype,
        layout: Layout::Nchw,
        color: Color::Rgb,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// Opens a model with pictures of [`spec`].
pub fn opened(options: PythonOptions) -> Result<PythonModel, String> {
    open(options, |_: &Declared| Ok(spec(DType::U8)))
}

/// One more instance.
pub fn instance(model: &PythonModel) -> Box<dyn Backend> {
    match &model.model.opener {
        omma_engine::infer::backend::Opener::Blocking(open) => open(0).expect("an instance"),
        omma_engine::infer::backend::Opener::Async(_) => panic!("workers block"),
    }
}

/// Waits for what must come to be true.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "waited 60 s for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All that the model has said so far.
pub fn said(model: &PythonModel) -> Vec<Message> {
    model.model.messages.as_ref().map(|messages| messages.try_iter().collect()).unwrap_or_default()
}

/// Whether a process runs: one that has ended and was not waited for does not.
pub fn runs(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

/// Open descriptors, and mappings, of this process.
pub fn resources() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
    (descriptors, maps.lines().filter(|line| line.contains("omma-tensor")).count())
}

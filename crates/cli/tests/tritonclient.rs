//! Triton's own clients, unmodified, against `omma run`: one script in `tritonclient/` for each area, by HTTP and by gRPC.
//!
//! Cameras use one of the models meanwhile: requests and frames share it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use omma_testkit::python;

/// A run with four models: two that give back what they are given, a real one, one that takes longer than a script waits.
struct Run {
    child: Child,
    http: String,
    grpc: String,
    _folder: tempfile::TempDir,
}

impl Run {
    fn start(shared_memory: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
        let config = format!(
            r#"
engine = {{ http = "127.0.0.1:0", grpc = "127.0.0.1:0" }}
direct = {{ client_shared_memory = {shared_memory}, request_bytes_max = 1_000_000 }}

[[models]]
name = "same"
runtime = "identity"
input = {{ width = 8, height = 8, dtype = "f32" }}

[[models]]
name = "halves"
runtime = "identity"
input = {{ width = 8, height = 8, dtype = "f16" }}

[[models]]
name = "faces"
path = "{}/embed_8.onnx"

[[models]]
name = "slow"
runtime = "simulated"
base_ms = 60_000
warmup_batches = 0
deadline_ms = 600_000
input = {{ width = 8, height = 8, dtype = "f32" }}

[[sources]]
type = "synthetic"
cameras = 2
fps = 10
width = 64
height = 64
model = "faces"

[[sinks]]
name = "nowhere"
type = "null"
"#,
            models.display()
        );
        std::fs::write(folder.path().join("omma.toml"), config).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_omma"))
            .args(["run", "-c", "omma.toml"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut after = |words: &str| {
            let found = said.find_map(|line| line.split_once(words).map(|(_, rest)| rest.to_owned()));
            found.unwrap_or_else(|| panic!("the run ended without `{words}`"))
        };
        let (http, grpc) = (after("health at http://"), after("by gRPC at "));
        after("running");
        // Whoever writes must find a reader.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, http, grpc, _folder: folder }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn passes(script: &str, shared_memory: bool) {
    let Some(interpreter) = python::interpreter(&["tritonclient.http", "tritonclient.grpc"]) else { return };
    let run = Run::start(shared_memory);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tritonclient");
    let output = Command::new("timeout")
        .arg("60")
        .arg(interpreter)
        .arg("-B")
        .arg(folder.join(script))
        .args([&run.http, &run.grpc])
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{said}", output.status);
}

#[test]
fn values_go_in_and_out_as_json_binary_and_raw() {
    passes("infer.py", false);
}

#[test]
fn a_stream_answers_in_order_and_outlives_its_errors() {
    passes("stream.py", false);
}

#[test]
fn statistics_count_what_was_asked() {
    passes("counted.py", false);
}

#[test]
fn models_are_listed_unloaded_and_loaded() {
    passes("repository.py", false);
}

#[test]
fn shared_memory_works_where_it_is_allowed() {
    passes("memory.py", true);
}

#[test]
fn shared_memory_is_refused_where_it_is_not_allowed() {
    passes("memory_off.py", false);
}

#[test]
fn bad_input_is_answered_by_what_was_found_and_expected() {
    passes("bad_input.py", false);
}

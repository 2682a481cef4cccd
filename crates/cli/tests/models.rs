//! `omma models` as its users meet it: files whose answers are known, what it says of them, and what its words are worth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny").join(name)
}

fn models(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_omma")).arg("models").args(args).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn json(args: &[&str]) -> Value {
    let output = models(&[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {}", text(&output.stdout)))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn inspect_says_what_goes_in_and_comes_out_and_how_it_would_be_read() {
    for (name, input, output, decoder, batch) in [
        ("classifier_4.onnx", (32, "images"), "scores", "classes", Value::Null),
        ("yolo_end2end.onnx", (32, "images"), "output0", "yolo_end2end", Value::Null),
        ("fixed_batch_2.onnx", (8, "images"), "means", "auto", 2.into()),
    ] {
        let found = json(&["inspect", path(&tiny(name))]);
        assert_eq!(found["inputs"][0]["name"], input.1, "{name}: {found}");
        assert_eq!(found["picture"]["width"], input.0, "{name}: {found}");
        assert_eq!(found["outputs"][0]["name"], output, "{name}: {found}");
        assert_eq!(found["batch_max"], batch, "{name}: {found}");
        if decoder != "auto" {
            assert_eq!(found["decoder"], decoder, "{name}: {found}");
        }
    }
    let said = text(&models(&["inspect", path(&tiny("classifier_4.onnx"))]).stdout);
    for expected in
        ["takes  images f32 [any, 3, 32, 32]", "gives  scores f32 [any, 4]", "batch  any size", "[[models]]"]
    {
        assert!(said.contains(expected), "missing {expected:?} in\n{said}");
    }
}

/// What it gives to paste runs.
#[test]
fn the_configuration_of_inspect_runs_as_it_is() {
    for name in ["classifier_4.onnx", "embed_8.onnx", "fixed_batch_2.onnx", "identity_8x8.onnx", "yolo_end2end.onnx"] {
        let folder = tempfile::tempdir().expect("a folder");
        let found = json(&["inspect", path(&tiny(name))]);
        let pasted = found["configuration"].as_str().expect("a text");
        let config = format!(
            "engine = {{ http = \"off\" }}\n{pasted}\n\
             [[sources]]\ntype = \"synthetic\"\ncameras = 2\ndelivery = \"every\"\nframes = 3\nfps = 50\nwidth = 64\nheight = 64\n\
             [[sinks]]\ntype = \"jsonl\"\nname = \"out\"\npath = \"results.jsonl\"\n"
        );
        fs::write(folder.path().join("omma.toml"), &config).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_omma"));
        let output = command.args(["run", "-c", "omma.toml"]).current_dir(folder.path()).output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{name}:\n{config}\n{}", text(&output.stderr));
        let lines = fs::read_to_string(folder.path().join("results.jsonl")).expect("results").lines().count();
        assert_eq!(lines, 6, "{name}: {}", text(&output.stderr));
    }
}

#[test]
fn bench_measures_each_runtime_and_recommends_the_best() {
    let file = tiny("yolo_end2end.onnx");
    let found = json(&["bench", path(&file), "--batch", "1,3", "--seconds", "0.05"]);
    let measured = found["measured"].as_array().expect("a list");
    let present = json(&["doctor"])["runtimes"].as_array().expect("a list").clone();
    for runtime in present.iter().filter(|runtime| runtime["present"] == true) {
        let own: Vec<_> = measured.iter().filter(|one| one["runtime"] == runtime["runtime"]).collect();
        assert!(own.len() >= 2, "{found}");
        assert!(own.iter().all(|one| one["frames_per_s"].as_f64() > Some(0.0)), "{found}");
    }
    let best = measured.iter().filter_map(|one| one["frames_per_s"].as_f64()).fold(0.0, f64::max);
    assert_eq!(found["best"]["frames_per_s"].as_f64(), Some(best));
    let said = text(&models(&["bench", path(&file), "--batch", "2", "--seconds", "0.05"]).stdout);
    assert!(said.contains("frames/s") && said.contains("most frames: ") && said.contains("batch_size = 2"), "{said}");
}

#[test]
fn doctor_names_every_runtime_and_a_way_to_each_that_is_missing() {
    let found = json(&["doctor"]);
    let names: Vec<_> = found["runtimes"].as_array().expect("a list").iter().map(|one| &one["runtime"]).collect();
    assert_eq!(names, ["openvino", "onnxruntime", "rten"], "{found}");
    // As if neither library were installed.
    let mut command = Command::new(env!("CARGO_BIN_EXE_omma"));
    command.args(["models", "doctor"]).env("OMMA_ONNXRUNTIME", "/nowhere").env("OMMA_OPENVINO", "/nowhere");
    let output = command.output().expect("runs");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for expected in ["onnxruntime: not here: ", "openvino: not here: ", "to get it: ", "rten: built in"] {
        assert!(said.contains(expected), "missing {expected:?} in\n{said}");
    }
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let torn = folder.path().join("torn.onnx");
    fs::write(&torn, b"\x08\x07\x12\x04torn").expect("written");
    for (command, file, expected) in [
        ("inspect", path(&torn), "torn.onnx"),
        ("bench", path(&torn), "torn.onnx"),
        ("inspect", "/nowhere.onnx", "/nowhere.onnx"),
        ("inspect", path(folder.path()), "holds no version"),
    ] {
        let output = models(&[command, file]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command} {file}: {said}");
        assert!(said.contains(expected) && !said.contains("panicked"), "{command} {file}: {said}");
    }
}

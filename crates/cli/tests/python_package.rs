//! The Python package's clients: the publisher and the reader of results, against a real redis-server and `omma run`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use omma_testkit::python;
use omma_testkit::redis_server::{RedisServer, RedisSetup};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a script of `python/tests`.
fn passes(interpreter: &Path, script: &str, arguments: &[&str]) {
    let output = Command::new("timeout")
        .arg("60")
        .arg(interpreter)
        .arg("-B")
        .arg(root().join("python/tests").join(script))
        .args(arguments)
        .env("PYTHONPATH", root().join("python"))
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{said}", output.status);
}

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn results_are_read_as_they_are_written() {
    let Some(interpreter) = python::interpreter(&["json"]) else { return };
    passes(&interpreter, "results.py", &[root().to_str().expect("UTF-8")]);
}

#[test]
fn frames_are_published_as_omma_reads_them() {
    let Some(interpreter) = python::interpreter(&["redis"]) else { return };
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    passes(&interpreter, "publisher.py", &[&server.url(), folder.path().to_str().expect("UTF-8")]);
}

#[test]
fn frames_go_in_and_results_come_back() {
    let Some(interpreter) = python::interpreter(&["redis"]) else { return };
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (url, models) = (server.url(), root().join("models/tiny"));
    let config = format!(
        r#"
engine.http = "off"

[[models]]
name = "colours"
path = "{0}/classifier_4.onnx"
output = {{ decoder = "classes", labels_file = "{0}/classifier_4.txt" }}

[[sources]]
type = "redis"
url = "{url}"
camera_ids = ["red", "green", "blue", "grey"]

[[sinks]]
name = "results"
type = "redis"
url = "{url}"
"#,
        models.display()
    );
    std::fs::write(folder.path().join("omma.toml"), config).expect("written");
    let run = Command::new(env!("CARGO_BIN_EXE_omma"))
        .args(["run", "-c", "omma.toml", "--json"])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let _run = Ends(run);
    passes(&interpreter, "through_omma.py", &[&url, &format!("package-{}", std::process::id())]);
}

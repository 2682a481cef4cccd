//! A model on a real Triton that decodes pictures itself: what the cameras sent arrives there byte for byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use omma_testkit::picture_fixtures::{Canvas, JpegKind};
use omma_testkit::triton_server::TritonServer;
use serde_json::Value;

const SIZE: omma_frame::Size = omma_frame::Size { width: 64, height: 48 };

/// The server's model answers with the length and the sum of the bytes that it was given.
fn expected(bytes: &[u8]) -> Value {
    let sum: f64 = bytes.iter().map(|byte| f64::from(*byte)).sum();
    serde_json::json!([bytes.len() as f64, sum])
}

fn run(folder: &Path, url: &str, batch_size: usize) -> Vec<Value> {
    let config = format!(
        "[engine]\nhttp = \"off\"\nerror_results = true\n\
         [[models]]\nname = \"eyes\"\nruntime = \"triton\"\nservers = [\"{url}\"]\nmodel = \"encoded\"\n\
         send = \"picture\"\nbatch_size = {batch_size}\nbatch_size_max = {batch_size}\noutput = {{ decoder = \"tensors\" }}\n\
         [[sources]]\ntype = \"images\"\npath = \"pictures\"\n\
         [[sinks]]\ntype = \"jsonl\"\nname = \"out\"\npath = \"results.jsonl\"\n"
    );
    fs::write(folder.join("omma.toml"), config).expect("written");
    let _ = fs::remove_file(folder.join("results.jsonl"));
    let omma = Command::new(env!("CARGO_BIN_EXE_omma")).args(["run", "-c", "omma.toml"]).current_dir(folder).output();
    let omma = omma.expect("runs");
    assert!(omma.status.success(), "{}", String::from_utf8_lossy(&omma.stderr));
    let results = fs::read_to_string(folder.join("results.jsonl")).expect("results");
    results.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_model_that_decodes_pictures_itself_is_sent_their_bytes() {
    let Some(server) = TritonServer::start(&["encoded"]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).expect("made");
    let mut sent: Vec<Vec<u8>> = (0..20).map(|seed| Canvas::noise(SIZE, seed).jpeg(JpegKind::default())).collect();
    sent.push(Canvas::scene(SIZE).png());
    for (number, bytes) in sent.iter().enumerate() {
        fs::write(pictures.join(format!("{number:02}.jpg")), bytes).expect("written");
    }
    fs::write(pictures.join("99.jpg"), "no picture at all").expect("written");
    for (url, batch_size) in [(server.grpc(), 1), (server.grpc(), 8), (server.http(), 1), (server.http(), 8)] {
        let results = run(folder.path(), &url, batch_size);
        let what = format!("{url}, batches of {batch_size}");
        assert_eq!(results.len(), sent.len() + 1, "{what}");
        for (result, bytes) in results.iter().zip(&sent) {
            assert_eq!(result["tensors"][0]["values"], expected(bytes), "{what}: {result}");
            let size = serde_json::json!({ "width": SIZE.width, "height": SIZE.height });
            assert_eq!(result["size"], size, "{what}: {result}");
        }
        let error = &results[sent.len()]["error"];
        assert_eq!(error["reason"], "picture_corrupt", "{what}: {}", results[sent.len()]);
    }
}

//! Every command in the documentation runs: in each page's own folder, in the page's order, with the built binary.
//!
//! A block of `sh run` is run; one of `toml NAME` or `python NAME` is written to that file first. In a block of `sh run live`
//! an `omma run` gets a SIGINT once results have come, as from a person who has seen enough; in one of `sh run served`
//! `omma run -c omma.toml` runs meanwhile. Blocks that say `python` too need the Python that `scripts/setup.sh test` makes. A
//! block of plain `sh` is not run, and may hold only what installs or builds (`make`, `cargo`, `scripts/`), whose targets,
//! crates and files must be there. No other block holds commands.
//!
//! What the pages take for granted is put in its place: the reader's models are those of the repository, the reader's
//! camera a server on the loopback, the reader's Triton one of the test's own (without one its page is passed over), the
//! reader's Redis too (without one blocks that name it are passed over), the reader's pictures drawn, and ports are any
//! free ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use omma_adapters::picture::encode_jpeg;
use omma_frame::Size;
use omma_testkit::ports::free_port;
use omma_testkit::python;
use omma_testkit::redis_server::{RedisServer, RedisSetup};
use omma_testkit::source_mjpeg_server::{Act, MjpegServer};
use omma_testkit::triton_server::TritonServer;

const MINUTES_MAX: u32 = 5;

const READERS_TRITON: &str = "grpc://127.0.0.1:8001";
const READERS_MODELS: [(&str, &str); 2] =
    [("yolov8n.onnx", "models/detector/omma-demo.onnx"), ("faces.onnx", "models/tiny/embed_8.onnx")];
/// Each with a colour and how bright it is at the top.
const READERS_PICTURES: [(&str, [u8; 3], u8); 5] = [
    ("gate.jpg", [90, 90, 90], 200),
    ("ada-1.jpg", [200, 40, 40], 250),
    ("ada-2.jpg", [190, 50, 45], 240),
    ("ada-3.jpg", [195, 44, 40], 245),
    ("bob-1.jpg", [30, 40, 210], 20),
];
const READERS_PORTS: [&str; 2] = ["127.0.0.1:9090", "127.0.0.1:8001"];
const READERS_CAMERA: &str = "http://10.0.0.7/video.mjpg";
const READERS_REDIS: &str = "redis://127.0.0.1:6379";

/// Stops `omma run` with SIGINT once there are results of its own, in their file or in Redis, and ends as it does.
const LIVE: &str = r#"
omma() {
  if [ "$1" != run ]; then command omma "$@"; return; fi
  redis() { redis-cli -u redis://127.0.0.1:6379 "$1" omma:results:cam-0000 2>&1; }
  rm -f results.jsonl
  redis DEL > /dev/null || true
  command omma "$@" &
  local run=$!
  until [ -s results.jsonl ] || [ "$(redis EXISTS)" = 1 ] || ! kill -0 $run; do sleep 0.1; done
  kill -INT $run
  wait $run
}
"#;

/// Runs omma for as long as the block does, from when it is ready.
const SERVED: &str = r#"
omma run -c omma.toml 2> omma.log &
run=$!
trap 'kill -INT $run; wait $run' EXIT
until curl --silent --fail --output /dev/null http://127.0.0.1:9090/readyz; do
  kill -0 $run || { cat omma.log >&2; exit 1; }
  sleep 0.1
done
"#;

struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(info), false) => {
                blocks.push(Block { line: number + 1, info: info.trim().to_owned(), text: String::new() });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    blocks
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.retain(|page| page.exists());
    pages.sort();
    pages
}

/// A camera that shows some pictures to whoever asks.
fn camera() -> MjpegServer {
    let mut jpeg = Vec::new();
    let rgb: Vec<u8> = (0..320 * 240 * 3).map(|at| (at / 320 % 251) as u8).collect();
    encode_jpeg(&rgb, Size { width: 320, height: 240 }, 80, &mut jpeg).expect("encoded");
    MjpegServer::showing(vec![jpeg; 50], Act::Stall)
}

/// What only the page's reader has, in the page's folder.
fn provide(page: &str, folder: &Path) {
    for (name, ours) in READERS_MODELS.iter().filter(|(name, _)| page.contains(name)) {
        fs::copy(root().join(ours), folder.join(name)).expect("a model of the repository");
    }
    for (name, color, top) in READERS_PICTURES.iter().filter(|(name, ..)| page.contains(name)) {
        let upper = [*top; 3].repeat(64 * 32);
        let rgb = [upper, color.repeat(64 * 32)].concat();
        let mut jpeg = Vec::new();
        encode_jpeg(&rgb, Size { width: 64, height: 64 }, 90, &mut jpeg).expect("encoded");
        fs::write(folder.join(name), jpeg).expect("written");
    }
}

/// The page with addresses at which nobody listens.
fn with_free_ports(page: &str) -> String {
    READERS_PORTS.iter().fold(page.to_owned(), |page, port| page.replace(port, &format!("127.0.0.1:{}", free_port())))
}

fn write(folder: &Path, name: &str, text: &str, camera: &MjpegServer) {
    let mut text = text.replace(READERS_CAMERA, &camera.url("/video.mjpg"));
    if name.ends_with(".toml") && !text.contains("[engine]") {
        text.insert_str(0, "engine = { http = \"127.0.0.1:0\" }\n");
    }
    fs::write(folder.join(name), text).expect("written");
}

/// Why a command that is not run cannot be right either.
fn wrong(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
    let after = |option: &str| words.iter().position(|word| *word == option).and_then(|at| words.get(at + 1));
    match words.first().copied()? {
        "make" => {
            let makefile = fs::read_to_string(root().join("Makefile")).expect("a Makefile");
            let missing = words[1..].iter().find(|target| !makefile.contains(&format!("\n{target}: ## ")));
            missing.map(|target| format!("the Makefile has no target {target}"))
        }
        "cargo" => {
            let krate = after("-p").and_then(|name| name.strip_prefix("omma-"));
            let folder = krate.map(|name| root().join("crates").join(name));
            let Some(folder) = folder.filter(|folder| folder.exists()) else { return Some("no such crate".to_owned()) };
            let test = after("--test").map(|name| folder.join("tests").join(name));
            let there = test.is_none_or(|test| test.exists() || test.with_extension("rs").exists());
            (!there).then(|| "no such test".to_owned())
        }
        script if script.starts_with("scripts/") => {
            (!root().join(script).exists()).then(|| "no such script".to_owned())
        }
        _ => Some("not run by any test, mark it `sh run`".to_owned()),
    }
}

/// Runs a block as a person would, line by line, up to the first one that fails.
fn run(block: &Block, prelude: &str, folder: &Path, path: &str, place: &str) {
    let output = Command::new("timeout")
        .args([&format!("{MINUTES_MAX}m"), "bash", "-euo", "pipefail", "-c", &format!("{prelude}{}", block.text)])
        .current_dir(folder)
        .env("PATH", path)
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{place}: {}\n{}\n{said}", output.status, block.text);
}

#[test]
fn every_command_in_the_documentation_runs() {
    let binary = Path::new(env!("CARGO_BIN_EXE_omma"));
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", binary.parent().expect("a folder").display());
    let python = python::interpreter(&["numpy", "tritonclient.http"]);
    let camera = camera();
    let mut ran = 0;
    for page in pages() {
        let written = fs::read_to_string(&page).expect("a page");
        let asks_triton = |block: &Block| block.info.starts_with("toml") && block.text.contains(READERS_TRITON);
        let triton = if blocks(&written).iter().any(asks_triton) {
            let Some(server) = TritonServer::start(&["statistics_u8"]) else { continue };
            Some(server)
        } else {
            None
        };
        let at_triton = triton.as_ref().map_or_else(|| READERS_TRITON.to_owned(), TritonServer::grpc);
        let redis = written.contains(READERS_REDIS).then(|| RedisServer::start(&RedisSetup::default())).flatten();
        let at_redis = redis.as_ref().map_or_else(|| READERS_REDIS.to_owned(), RedisServer::url);
        let (ours, live) = (written.replace(READERS_REDIS, &at_redis), LIVE.replace(READERS_REDIS, &at_redis));
        let text = with_free_ports(&ours.replace(READERS_TRITON, &at_triton));
        let folder = tempfile::tempdir().expect("a folder");
        provide(&text, folder.path());
        let address = text.split("http = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let served = SERVED.replace(READERS_PORTS[0], address);
        for block in blocks(&text) {
            let place = format!("{}:{}", page.display(), block.line);
            match block.info.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["toml" | "python", name] => write(folder.path(), name, &block.text, &camera),
                ["sh", "run", ..] if redis.is_none() && block.text.contains(READERS_REDIS) => {}
                ["sh", "run", how @ ..] => {
                    let prelude = match how {
                        ["live", ..] => &live,
                        ["served", ..] => &served,
                        _ => "",
                    };
                    let path = match (how.last(), &python) {
                        (Some(&"python"), None) => continue,
                        (Some(&"python"), Some(python)) => {
                            format!("{}:{path}", python.parent().expect("a folder").display())
                        }
                        _ => path.clone(),
                    };
                    run(&block, prelude, folder.path(), &path, &place);
                    ran += 1;
                }
                ["sh" | "bash" | "shell" | "console", ..] => {
                    for line in block.text.lines() {
                        assert_eq!(wrong(line), None, "{place}: {line}");
                    }
                }
                _ => {
                    let commands =
                        block.text.lines().find(|line| line.starts_with("omma ") || line.starts_with("cargo "));
                    assert_eq!(commands, None, "{place}: a command in a block of {:?}, mark it `sh run`", block.info);
                }
            }
        }
    }
    assert!(ran >= 8, "the pages have commands to run, found {ran}");
}

#[test]
fn blocks_are_found_with_their_place() {
    let page = "text\n```sh run\nomma --version\n```\n```toml a.toml\nx = 1\n```\n";
    let found: Vec<_> = blocks(page).into_iter().map(|block| (block.line, block.info, block.text)).collect();
    assert_eq!(found, [(2, "sh run".into(), "omma --version\n".into()), (5, "toml a.toml".into(), "x = 1\n".into())]);
}

//! The binary as its users meet it: commands, files, signals, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use omma_adapters::picture::encode_jpeg;
use omma_frame::Size;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

fn omma() -> Command {
    Command::new(env!("CARGO_BIN_EXE_omma"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("written");
    path
}

fn run(args: &[&str], folder: &TempDir) -> Output {
    omma().args(args).current_dir(folder.path()).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Pictures as a camera would have stored them.
fn store_pictures(folder: &Path, count: usize) {
    fs::create_dir(folder).expect("made");
    let size = Size { width: 64, height: 48 };
    let mut jpeg = Vec::new();
    for number in 0..count {
        let rgb: Vec<u8> = (0..64 * 48 * 3).map(|at| (at * 7 + number * 31) as u8).collect();
        encode_jpeg(&rgb, size, 80, &mut jpeg).expect("encoded");
        fs::write(folder.join(format!("picture-{number}.jpg")), &jpeg).expect("written");
    }
}

/// A pipeline whose model looks at nothing; `more` goes to its source, `engine` and `model` to their tables.
fn config(engine: &str, model: &str, source: &str) -> String {
    format!(
        "[engine]\nhttp = \"off\"\n{engine}\n\
         [[models]]\nname = \"eyes\"\n{model}\n\
         [[sources]]\n{source}\n\
         [[sinks]]\ntype = \"jsonl\"\nname = \"out\"\npath = \"results.jsonl\"\n"
    )
}

const ENDLESS: &str = "type = \"synthetic\"\ncameras = 3\nfps = 50\nwidth = 64\nheight = 64";
const NULL: &str = "runtime = \"null\"";
/// Takes far longer than any test waits.
const SLOW: &str = "runtime = \"simulated\"\nbase_ms = 60000\ndeadline_ms = 600000\nwarmup_batches = 0";

/// A run under way, whose events are read as they come.
struct Running {
    child: Child,
    events: BufReader<ChildStderr>,
}

impl Running {
    fn start(folder: &TempDir) -> Self {
        let mut command = omma();
        command.args(["run", "-c", "omma.toml", "--json"]).current_dir(folder.path()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let events = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, events }
    }

    /// The next event that `is` what is waited for. Ends with the process, which every test stops.
    fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let read = self.events.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "the run ended without what was waited for; it said\n{seen}");
            seen.push_str(&line);
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no event: {line}"));
            if is(&event) {
                return event;
            }
        }
    }

    fn named(&mut self, name: &str) -> Value {
        self.until(|event| event["event"] == name)
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: a signal to a process that we have started and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for the end, and kills what does not come to one.
    fn exit(mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status.code().expect("no signal ended it");
            }
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        panic!("it did not end");
    }
}

fn results(folder: &TempDir) -> Vec<Value> {
    let lines = fs::read_to_string(folder.path().join("results.jsonl")).expect("results");
    lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn wait_for_results(folder: &TempDir, count: usize) {
    let end = Instant::now() + PATIENCE;
    while fs::read_to_string(folder.path().join("results.jsonl")).map_or(0, |lines| lines.lines().count()) < count {
        assert!(Instant::now() < end, "no results");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_asked_of_it_is_answered_and_what_is_not_known_is_usage() {
    let folder = folder();
    for (args, code, out, err) in [
        (&["--version"][..], 0, concat!("omma ", env!("CARGO_PKG_VERSION")), ""),
        (&["--help"], 0, "Exit codes: 0 done", ""),
        (&["demo", "--help"], 0, "omma demo --cameras 64 --seconds 60", ""),
        (&["run", "--help"], 0, "omma run -c omma.toml", ""),
        (&["validate", "--help"], 0, "--effective", ""),
        (&["bench", "--help"], 0, "omma bench -c omma.toml --latency-ms 40", ""),
        (&["models", "--help"], 0, "inspect", ""),
        (&["models", "inspect", "--help"], 0, "omma models inspect yolov8n.onnx --json", ""),
        (&["models", "bench", "--help"], 0, "omma models bench yolov8n.onnx --batch 1,8,32", ""),
        (&["models", "doctor", "--help"], 0, "omma models doctor --json", ""),
        (&["completions", "bash"], 0, "complete -F _omma", ""),
        (&["completions", "zsh"], 0, "#compdef omma", ""),
        (&["fly"], 2, "", "unrecognized subcommand 'fly'"),
        (&["run"], 2, "", "--config <FILE>"),
        (&[], 2, "", "Usage: omma"),
    ] {
        let output = run(args, &folder);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(text(&output.stdout).contains(out), "{args:?}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains(err), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn validate_reports_all_problems_at_once() {
    let folder = folder();
    let wrong = config("drain_timeout_ms = \"soon\"", "runtime = \"nul\"", "type = \"synthetic\"\ncamera = 3");
    write(&folder, "omma.toml", wrong);
    let output = run(&["validate", "-c", "omma.toml"], &folder);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    for expected in ["omma.toml:3:", "engine.drain_timeout_ms", "did you mean \"null\"?", "sources[0].camera"] {
        assert!(said.contains(expected), "missing {expected} in\n{said}");
    }
    let object: Value =
        serde_json::from_slice(&run(&["validate", "-c", "omma.toml", "--json"], &folder).stdout).expect("JSON");
    assert_eq!(object["ok"], false);
    assert!(object["problems"].as_array().is_some_and(|problems| problems.len() >= 3), "{object}");
}

#[test]
fn validate_says_what_a_sound_configuration_comes_to() {
    let folder = folder();
    write(&folder, "omma.toml", config("", NULL, ENDLESS));
    let output = run(&["validate", "-c", "omma.toml"], &folder);
    assert_eq!(text(&output.stdout), "omma.toml: sound: 3 cameras, 1 source, 1 model, 1 sink\n");
    let effective = run(&["validate", "-c", "omma.toml", "--effective"], &folder);
    assert_eq!(effective.status.code(), Some(0));
    write(&folder, "effective.toml", &effective.stdout);
    let again = run(&["validate", "-c", "effective.toml", "--effective"], &folder);
    assert_eq!(text(&again.stdout), text(&effective.stdout), "it reads back as the same configuration");
}

#[test]
fn what_the_configuration_names_must_be_there_and_what_it_says() {
    let folder = folder();
    write(&folder, "torn.onnx", b"\x08\x07\x12\x04torn");
    for (model, source, expected) in [
        ("path = \"nowhere.onnx\"", ENDLESS, "nowhere.onnx"),
        ("path = \"torn.onnx\"", ENDLESS, "torn.onnx"),
        (NULL, "type = \"images\"\npath = \"empty\"", "empty"),
    ] {
        write(&folder, "omma.toml", config("", model, source));
        let output = run(&["run", "-c", "omma.toml"], &folder);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("error: ") && said.contains(expected), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let output = run(&["run", "-c", "absent.toml"], &folder);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("absent.toml: found no such file"), "{}", text(&output.stderr));
}

#[test]
fn a_folder_of_pictures_gives_its_results_in_order_and_names_what_was_dropped() {
    let folder = folder();
    store_pictures(&folder.path().join("pictures"), 12);
    write(&folder, "pictures/picture-5.jpg", b"\xff\xd8\xff\xe0 not much of a picture");
    write(&folder, "omma.toml", config("", NULL, "type = \"images\"\npath = \"pictures\"\ncamera = \"door\""));
    let mut running = Running::start(&folder);
    let end = running.named("end");
    assert_eq!(running.exit(), 0);
    assert_eq!((&end["why"], &end["received"], &end["published"]), (&"finished".into(), &12.into(), &11.into()));
    assert_eq!((&end["dropped"]["picture_corrupt"], &end["balanced"]), (&1.into(), &true.into()));
    let sequences: Vec<u64> =
        results(&folder).iter().map(|line| line["sequence"].as_u64().expect("a number")).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    assert!(results(&folder).iter().all(|line| line["camera"] == "door"));
}

#[test]
fn results_on_the_standard_output_are_nothing_but_results() {
    let folder = folder();
    store_pictures(&folder.path().join("pictures"), 3);
    let to_stdout = config("", NULL, "type = \"images\"\npath = \"pictures\"").replace("results.jsonl", "-");
    write(&folder, "omma.toml", to_stdout);
    let output = run(&["run", "-c", "omma.toml"], &folder);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert!(text(&output.stderr).contains("omma: 3 frames received"), "{}", text(&output.stderr));
}

/// Starts it with these limits of open files, for this many cameras that nobody serves.
fn start_with_limits(folder: &TempDir, soft: u32, hard: u32, cameras: usize) -> Running {
    let url = |camera| format!("{{ camera = \"c{camera}\", url = \"http://127.0.0.1:9/\" }}");
    let urls: Vec<String> = (0..cameras).map(url).collect();
    let source = format!("type = \"mjpeg_http\"\nurls = [{}]", urls.join(", "));
    write(folder, "omma.toml", config("", NULL, &source));
    let mut command = Command::new("bash");
    let line = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" run -c omma.toml --json");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_omma")]).current_dir(folder.path()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let events = BufReader::new(child.stderr.take().expect("piped"));
    Running { child, events }
}

#[test]
fn the_limit_of_open_files_is_raised_for_many_cameras() {
    let folder = folder();
    let mut running = start_with_limits(&folder, 256, 1000, 600);
    running.named("running");
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.child.id())).expect("Linux");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["856", "1000"], "{line}");
    running.signal(libc::SIGTERM);
    assert_eq!(running.exit(), 0);
}

#[test]
fn a_limit_of_open_files_that_cannot_be_raised_is_told_with_the_number_that_would_do() {
    let folder = folder();
    let mut running = start_with_limits(&folder, 256, 400, 600);
    let warning = running.until(|event| event["level"] == "warning");
    let text = warning["text"].as_str().expect("a text");
    for expected in ["hold 600 connections", "may open 400", "at least 856", "LimitNOFILE=856"] {
        assert!(text.contains(expected), "missing {expected:?} in {text}");
    }
    running.named("running");
    running.signal(libc::SIGTERM);
    assert_eq!(running.exit(), 0);
}

#[test]
fn a_signal_drains_and_every_frame_is_accounted_for() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let folder = folder();
        write(&folder, "omma.toml", config("", NULL, ENDLESS));
        let mut running = Running::start(&folder);
        wait_for_results(&folder, 10);
        running.signal(signal);
        running.named("draining");
        let end = running.named("end");
        assert_eq!(running.exit(), 0);
        assert_eq!((&end["why"], &end["balanced"], &end["in_flight"]), (&"signal".into(), &true.into(), &0.into()));
        assert_eq!(end["published"].as_u64(), Some(results(&folder).len() as u64), "published is what the sink has");
    }
}

#[test]
fn frames_that_are_not_done_in_time_are_reported_and_change_the_exit_code() {
    let folder = folder();
    write(&folder, "omma.toml", config("drain_timeout_ms = 100", SLOW, ENDLESS));
    let mut running = Running::start(&folder);
    running.until(|event| event["event"] == "progress" && event["in_flight"].as_u64() > Some(0));
    running.signal(libc::SIGTERM);
    let end = running.named("end");
    assert_eq!(running.exit(), 3);
    assert!(end["late"].as_u64() > Some(0) && end["balanced"] == true && end["exit"] == 3, "{end}");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let folder = folder();
    write(&folder, "omma.toml", config("drain_timeout_ms = 600000", SLOW, ENDLESS));
    let mut running = Running::start(&folder);
    running.until(|event| event["event"] == "progress" && event["in_flight"].as_u64() > Some(0));
    running.signal(libc::SIGTERM);
    running.named("draining");
    running.signal(libc::SIGTERM);
    assert_eq!(running.exit(), 130);
}

#[test]
fn metrics_and_health_are_served_while_it_runs() {
    let folder = folder();
    write(&folder, "omma.toml", config("", NULL, ENDLESS).replace("\"off\"", "\"127.0.0.1:0\""));
    let mut running = Running::start(&folder);
    let note = running.until(|event| event["text"].as_str().is_some_and(|text| text.contains("http://")));
    let address = note["text"].as_str().and_then(|text| text.split("http://").nth(1)).expect("an address").to_owned();
    running.named("running");
    wait_for_results(&folder, 10);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).expect("listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: omma\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        answer
    };
    assert!(get("/readyz").ends_with("ready\n"));
    assert!(get("/healthz").ends_with("running\n"));
    let metrics = get("/metrics");
    for expected in
        ["omma_cameras 3\n", "omma_frames_published_total ", "omma_camera_frames_received_total{camera=\"cam-0000\"} "]
    {
        assert!(metrics.contains(expected), "missing {expected} in\n{metrics}");
    }
    // A second process that wants the same port is told so.
    write(&folder, "second.toml", config("", NULL, ENDLESS).replace("\"off\"", &format!("{address:?}")));
    let second = run(&["run", "-c", "second.toml"], &folder);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("another process listens there"), "{}", text(&second.stderr));
    running.signal(libc::SIGTERM);
    assert_eq!(running.exit(), 0);
}

/// Frames through a folder of versions of a model, of which the third is there.
fn run_versions(folder: &TempDir) -> (Running, String) {
    add_version(folder, 3, TINY);
    let model = "path = \"versions\"\nruntime = \"rten\"\nwatch = true\ninstances = 1";
    let config = config("", model, ENDLESS);
    write(folder, "omma.toml", &config);
    let mut running = Running::start(folder);
    running.named("running");
    wait_for_version(folder, 3);
    (running, config)
}

const TINY: &[u8] = include_bytes!("../../../models/tiny/classifier_4.onnx");

/// Complete from the first moment, as whoever delivers models should see to.
fn add_version(folder: &TempDir, number: u32, model: &[u8]) {
    let beside = folder.path().join("versions").join(format!("new-{number}"));
    fs::create_dir_all(&beside).expect("made");
    fs::write(beside.join("model.onnx"), model).expect("written");
    fs::rename(&beside, folder.path().join("versions").join(number.to_string())).expect("moved");
}

fn wait_for_version(folder: &TempDir, number: u32) {
    let end = Instant::now() + PATIENCE;
    let is = format!("\"model_version\":{number},");
    let last = |lines: String| lines.lines().last().is_some_and(|line| line.contains(&is));
    while !fs::read_to_string(folder.path().join("results.jsonl")).is_ok_and(last) {
        assert!(Instant::now() < end, "no results of version {number}");
        std::thread::yield_now();
    }
}

fn says(event: &Value, what: &str) -> bool {
    event["text"].as_str().is_some_and(|text| text.contains(what))
}

/// Ends it; no frame may have been lost on the way.
fn end_well(mut running: Running, folder: &TempDir) {
    running.signal(libc::SIGTERM);
    let end = running.named("end");
    assert_eq!(running.exit(), 0);
    assert_eq!((&end["balanced"], &end["in_flight"]), (&true.into(), &0.into()), "{end}");
    assert_eq!(end["published"].as_u64(), Some(results(folder).len() as u64), "{end}");
}

#[test]
fn a_watched_version_takes_over_when_it_appears_and_a_broken_one_does_not() {
    let folder = folder();
    let (mut running, _) = run_versions(&folder);
    add_version(&folder, 4, TINY);
    wait_for_version(&folder, 4);
    add_version(&folder, 5, b"\x08\x07\x12\x04torn");
    let refused = running.until(|event| says(event, "not loaded"));
    assert!(says(&refused, "version 4 serves on"), "{refused}");
    add_version(&folder, 6, TINY);
    wait_for_version(&folder, 6);
    end_well(running, &folder);
}

#[test]
fn sighup_brings_the_configuration_into_effect_and_says_what_must_wait() {
    let folder = folder();
    let (mut running, config) = run_versions(&folder);
    add_version(&folder, 9, TINY);
    wait_for_version(&folder, 9);
    for (what, written, says_so) in [
        ("a version", config.replace("watch = true", "version = 3"), "reloaded: 1 model changed"),
        ("the same", config.replace("watch = true", "version = 3"), "reloaded: 0 models changed"),
        ("nonsense", "[[models]]\nname = 1\n".to_owned(), "not reloaded, what runs goes on: "),
        ("a source", config.replace("fps = 50", "fps = 60"), "from the next start only: [[sources]]"),
        ("no such version", config.replace("watch = true", "version = 8"), "has no version 8"),
    ] {
        write(&folder, "omma.toml", written);
        running.signal(libc::SIGHUP);
        running.until(|event| says(event, says_so));
        if what == "a version" {
            wait_for_version(&folder, 3);
        }
    }
    end_well(running, &folder);
}

/// Asks the server of a run; returns the status and the answer.
fn ask(address: &str, request: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("listens");
    let length = body.len();
    write!(stream, "{request} HTTP/1.1\r\nHost: omma\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn wait_for_model(folder: &TempDir, camera: &str, model: &str) {
    let end = Instant::now() + PATIENCE;
    let (camera, model) = (format!("\"camera\":\"{camera}\""), format!("\"model\":\"{model}\""));
    let last = |lines: String| lines.lines().rfind(|line| line.contains(&camera)).is_some_and(|l| l.contains(&model));
    while !fs::read_to_string(folder.path().join("results.jsonl")).is_ok_and(last) {
        assert!(Instant::now() < end, "no results of {camera} with {model}");
        std::thread::yield_now();
    }
}

#[test]
fn a_camera_gets_another_model_while_frames_flow() {
    let folder = folder();
    let two = format!("{NULL}\n[[models]]\nname = \"ears\"\n{NULL}");
    let source = format!("{ENDLESS}\nname = \"all\"\nmodel = \"eyes\"");
    let config = config("", &two, &source).replace("\"off\"", "\"127.0.0.1:0\"");
    write(&folder, "omma.toml", &config);
    let mut running = Running::start(&folder);
    let note = running.until(|event| says(event, "http://"));
    let address = note["text"].as_str().and_then(|text| text.split("http://").nth(1)).expect("an address").to_owned();
    running.named("running");
    wait_for_model(&folder, "cam-0001", "eyes");

    let (status, answer) = ask(&address, "PUT /v1/cameras/cam-0001", "{\"model\":\"ears\"}");
    assert_eq!((status, &answer["model_wanted"]), (200, &"ears".into()), "{answer}");
    wait_for_model(&folder, "cam-0001", "ears");
    wait_for_model(&folder, "cam-0000", "eyes");
    let (status, answer) = ask(&address, "GET /v1/cameras", "");
    let models: Vec<_> =
        answer["cameras"].as_array().expect("a list").iter().filter_map(|one| one["model"].as_str()).collect();
    assert_eq!((status, models), (200, vec!["eyes", "ears", "eyes"]), "{answer}");
    for (request, body, status, expected) in [
        ("GET /v1/cameras/nobody", "", 404, "there is no camera \"nobody\""),
        ("PUT /v1/cameras/nobody", "{\"model\":\"ears\"}", 404, "there is no camera \"nobody\""),
        ("PUT /v1/cameras/cam-0001", "{\"model\":\"nose\"}", 400, "there is no model \"nose\""),
        ("PUT /v1/cameras/cam-0001", "{\"models\":[]}", 400, "expected {\"model\": \"NAME\"}"),
        ("PUT /v1/cameras/cam-0001", "ears", 400, "expected {\"model\": \"NAME\"}"),
    ] {
        let (found, answer) = ask(&address, request, body);
        assert_eq!(found, status, "{request} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(expected)), "{request} {body}: {answer}");
    }
    assert_eq!(ask(&address, "PUT /v1/cameras/cam-0001", &" ".repeat(5000)).0, 413);

    // A source's model, by the configuration.
    write(&folder, "omma.toml", config.replace("model = \"eyes\"", "model = \"ears\""));
    running.signal(libc::SIGHUP);
    running.until(|event| says(event, "reloaded: 0 models changed, 3 cameras to another model"));
    wait_for_model(&folder, "cam-0000", "ears");
    end_well(running, &folder);
}

#[test]
fn the_demo_keeps_its_promises() {
    let folder = folder();
    let output = run(&["demo", "--seconds", "3", "--cameras", "16", "--json", "--out", "shown"], &folder);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let ledger = &summary["ledger"];
    assert_eq!((&ledger["balanced"], &ledger["in_flight"]), (&true.into(), &0.into()), "{summary}");
    assert_eq!((&summary["out_of_order"], &summary["unaccounted_cameras"]), (&0.into(), &0.into()), "{summary}");
    assert!(summary["score"]["map50"].as_f64() >= Some(0.9), "{summary}");
    assert_eq!((output.status.code(), &summary["passed"]), (Some(0), &true.into()), "{summary}");
    let shown = folder.path().join("shown");
    let lines = fs::read_to_string(shown.join("results.jsonl")).expect("results");
    assert_eq!(Some(lines.lines().count() as u64), ledger["published"].as_u64());
    assert!(fs::read(shown.join("contact-sheet.jpg")).expect("a sheet").starts_with(&[0xff, 0xd8, 0xff]));
    let next = run(&["validate", "-c", "shown/omma.toml"], &folder);
    assert_eq!(text(&next.stdout), "shown/omma.toml: sound: 8 cameras, 1 source, 1 model, 1 sink\n");
}

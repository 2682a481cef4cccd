//! What a configuration becomes, and that nothing that it may hold makes reading it fail otherwise than by problems.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::OtherMachine;
use omma_config::{
    AnchorAxis, BackendConfig, Config, Decoder, DirectConfig, Durability, Entry, FrameWire, Login, Outside, Pace,
    Problems, Provider, ResultForm, Runtime, SinkKind, SourceKind, Waiting, load, parse, reference,
};
use omma_engine::cameras::Delivery;
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode};
use omma_engine::tensor::DType;
use omma_frame::Size;
use proptest::prelude::*;

const EVERYTHING: &str = include_str!("everything.toml");
const LEAST: &str = "
[[models]]
name = \"m\"
path = \"m.onnx\"
[[sources]]
type = \"synthetic\"
[[sinks]]
type = \"null\"
name = \"k\"
";

fn read(text: &str) -> Result<Config, Problems> {
    parse(text, "/c/o.toml", &OtherMachine)
}

fn sound(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_least_configuration_has_the_defaults_of_the_specification() {
    let config = sound(LEAST);
    assert_eq!(config.engine, EnginePlan::default());
    assert_eq!(config.http, "127.0.0.1:9090".parse().ok());
    let model = &config.models[0];
    assert_eq!((model.mode, model.instances), (Mode::Auto, None));
    assert_eq!((model.sync_threads_max, model.feeder_threads_max), (8, 16));
    assert_eq!((model.waiting_frames_max, model.in_flight_frames_max), (1000, 2000));
    assert_eq!(model.batch, BatchPlan::default());
    assert_eq!(model.output.decoder, Decoder::Auto);
    let BackendConfig::Onnx { path, runtime, threads_per_instance, .. } = &model.backend else { panic!("{model:?}") };
    assert_eq!((path.as_path(), *runtime, *threads_per_instance), (Path::new("/c/m.onnx"), Runtime::Auto, 1));
    let source = &config.sources[0];
    assert_eq!(source.delivery, Delivery::Latest { age_max: Duration::from_secs(2) });
    assert_eq!((source.cameras.len(), source.waiting_frames_max, source.in_flight_frames_max), (32, 2, 8));
    assert_eq!((source.name.as_str(), config.routes.as_slice()), ("synthetic-0", [vec![0]].as_slice()));
    assert_eq!(config.cameras().last().map(|camera| camera.id.to_string()), Some("cam-0031".to_owned()));
}

#[test]
fn threads_follow_the_cores() {
    struct Cores(usize);
    impl Outside for Cores {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }
        fn cores(&self) -> usize {
            self.0
        }
        fn entry(&self, _: &Path) -> Entry {
            Entry::File
        }
        fn read(&self, _: &Path, _: u64) -> std::io::Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }
    for (cores, readers) in [(1, 1), (2, 1), (7, 1), (8, 2), (32, 8), (256, 8)] {
        let config = parse(LEAST, "o.toml", &Cores(cores)).expect("sound");
        assert_eq!(config.engine.readers, readers, "{cores} cores");
    }
}

#[test]
fn everything_arrives_where_it_belongs() {
    let config = sound(EVERYTHING);
    let engine = EnginePlan {
        shards: 64,
        readers: 3,
        read_frames_max: 16,
        poll_pause_min: Duration::from_millis(2),
        poll_pause_max: Duration::from_millis(50),
        metrics_aggregation_frames: 10,
        metrics_interval: Duration::from_secs(1),
        drain_timeout: Duration::ZERO,
        payload_bytes_max: 1 << 20,
        waiting_bytes_max: 64 << 20,
        error_results: true,
    };
    assert_eq!(config.engine, engine);
    assert_eq!(config.http, "[::1]:9191".parse().ok());
    let direct = DirectConfig {
        grpc: "[::1]:8001".parse().ok(),
        threads: 3,
        connections_max: 99,
        timeout: Duration::from_millis(1500),
        request_bytes_max: 2048,
        requests_bytes_max: 4096,
        client_shared_memory: true,
    };
    assert_eq!(config.direct, direct);

    let boxes = &config.models[0];
    let backend = BackendConfig::Onnx {
        path: PathBuf::from("/c/pictures"),
        version: Some(7),
        watch: true,
        runtime: Runtime::OpenVino,
        provider: Provider::Cpu,
        library: Some(PathBuf::from("/c/pictures")),
        threads_per_instance: 3,
        cores: vec![1, 0],
        batch_sizes: vec![2, 8],
    };
    assert_eq!(boxes.backend, backend);
    let inspected = PictureSpec {
        size: Size { width: 1, height: 1 },
        dtype: DType::U8,
        layout: Layout::Nchw,
        color: Color::Gray,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let written = PictureSpec {
        size: Size { width: 640, height: 384 },
        dtype: DType::F32,
        layout: Layout::Nhwc,
        color: Color::Bgr,
        resize: Resize::Letterbox { pad: 0 },
        scale: 0.5,
        mean: [1.0, 2.5, 3.0],
        std: [2.0; 3],
    };
    assert_eq!(boxes.input.picture(Some(&inspected)).as_ref(), Some(&written));
    assert_eq!(boxes.input.expect, Some(Size { width: 1920, height: 1080 }));
    let plan = boxes.plan(written);
    let batch = BatchPlan { size: 4, size_max: 12, timeout: Duration::from_millis(7), direct_share_percent: 30 };
    assert_eq!((plan.name.as_str(), plan.mode, plan.instances, plan.batch), ("boxes", Mode::Sync, Some(2), batch));
    assert_eq!((plan.sync_threads_max, plan.feeder_threads_max), (6, 5));
    assert_eq!((plan.waiting_frames_max, plan.in_flight_frames_max), (100, 50));
    assert_eq!((plan.deadline, plan.warmup_batches), (Duration::from_millis(500), 0));
    let parameters = [("task name", "a \"quoted\" text\nof two lines"), ("unit", "m")];
    assert_eq!(plan.parameters, parameters.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let output = &boxes.output;
    assert_eq!((output.decoder, output.anchor_axis), (Decoder::YoloV8, Some(AnchorAxis::Last)));
    assert_eq!((output.score_min, output.iou_max, output.class_agnostic), (Some(0.4), Some(0.6), Some(true)));
    assert_eq!((output.candidates_max, output.detections_max), (Some(700), Some(70)));
    assert_eq!((output.only_classes.as_deref(), output.labels.len()), (Some([0, 1].as_slice()), 2));

    // What a model does not say comes from the worker's section.
    let ssd = &config.models[1];
    assert_eq!((ssd.batch.size, ssd.batch.size_max, ssd.batch.timeout), (8, 32, Duration::from_micros(2500)));
    assert_eq!((ssd.waiting_frames_max, ssd.in_flight_frames_max, ssd.sync_threads_max), (500, 400, 4));
    let (base, per_item) = (Duration::from_millis(3), Duration::from_micros(250));
    assert_eq!(config.models[6].backend, BackendConfig::Simulated { base, per_item, waiting: Waiting::Spin });
    assert_eq!(config.models[6].output.decoder, Decoder::Nothing);

    let drawn = &config.sources[0];
    let ids: Vec<&str> = drawn.cameras.iter().map(|id| id.as_str()).collect();
    assert_eq!((ids.as_slice(), drawn.model), (["s/00", "s/01", "s/02"].as_slice(), 6));
    let size = Size { width: 320, height: 240 };
    let kind = SourceKind::Synthetic { pace: Pace::PerSecond(12.5), frames: Some(100), seed: 7, size, quality: 60 };
    assert_eq!(drawn.kind, kind);
    let path = PathBuf::from("/c/pictures/*.jpg");
    assert_eq!(config.sources[1].kind, SourceKind::Images { path, pace: Pace::PerSecond(2.0), repeat: true });
    assert_eq!(config.sources[2].delivery, Delivery::Every);
    assert_eq!((config.sources[2].waiting_frames_max, config.sources[2].in_flight_frames_max), (64, 256));
    let SourceKind::MjpegHttp { streams, .. } = &config.sources[3].kind else { panic!("not http") };
    let said = |login: &Option<Login>| login.as_ref().map(|l| (l.username.clone(), l.password.reveal().to_owned()));
    let logins: Vec<_> = streams.iter().filter_map(|stream| said(&stream.login)).collect();
    let expected = [("viewer", "from the environment"), ("admin", "from the file")];
    assert_eq!(logins, expected.map(|(name, password)| (name.to_owned(), password.to_owned())));
    // Sets of sinks, whatever their order: both, one, both again, all.
    assert_eq!(config.routes, [vec![0, 1], vec![0], vec![0, 1, 2, 3, 4]][..]);
    assert_eq!(config.sources.iter().map(|source| source.route).collect::<Vec<_>>(), [0, 1, 0, 2, 2]);
    let SourceKind::Redis(streams) = &config.sources[4].kind else { panic!("not Redis") };
    let redis = &streams.redis;
    assert_eq!((redis.url.as_str(), redis.username.as_deref()), ("rediss://192.0.2.3:7000", Some("reader")));
    assert_eq!(redis.password.as_ref().map(|secret| secret.reveal()), Some("from the environment"));
    assert_eq!(redis.tls_ca_file, Some(PathBuf::from("/c/labels.txt")));
    assert_eq!(redis.tls_client, Some((PathBuf::from("/c/m.onnx"), PathBuf::from("/c/password"))));
    assert_eq!((redis.cluster, redis.reply_timeout), (true, Duration::from_millis(400)));
    assert_eq!(
        (streams.stream.as_str(), streams.wire, streams.group.as_str()),
        ("in:{camera}", FrameWire::Compat, "eyes")
    );
    assert_eq!((streams.from_oldest, streams.discover), (false, Some(Duration::from_millis(500))));
    assert_eq!((streams.lease, streams.claim_idle), (Duration::from_millis(600), Duration::from_secs(7)));
    assert_eq!((streams.reply_bytes_max, streams.deliveries_max, streams.dead_letter.as_str()), (1 << 20, 8, "dead"));
    assert_eq!((config.sources[4].cameras[1].as_str(), config.sources[4].delivery), ("{s01}:lane", Delivery::Every));
    assert!(config.cameras().filter(|camera| camera.entry_ids).count() == 2);

    let path = Some(PathBuf::from("/c/results.jsonl"));
    assert_eq!(config.sinks[0].kind, SinkKind::Jsonl { path, durability: Durability::Fsync });
    assert_eq!(config.sinks[2].kind, SinkKind::Jsonl { path: None, durability: Durability::Flush });
    let SinkKind::Redis { redis, stream, form, entries_max, result_bytes_max } = &config.sinks[3].kind else {
        panic!("not redis")
    };
    assert_eq!((redis.url.as_str(), redis.cluster), ("rediss://redis.example:6380", true));
    assert_eq!(redis.password.as_ref().map(omma_config::Secret::reveal), Some("from the environment"));
    assert_eq!((redis.connect_timeout, redis.reply_timeout), (Duration::from_millis(100), Duration::from_millis(200)));
    assert_eq!((stream.as_str(), *form, *entries_max), ("out:{shard}", ResultForm::MessagePack, None));
    assert_eq!(*result_bytes_max, 2048);
    let SinkKind::Redis { stream, form, entries_max, .. } = &config.sinks[4].kind else { panic!("not redis") };
    let expected = ("omma:results:{camera}", ResultForm::Compat, Some(500));
    assert_eq!((stream.as_str(), *form, *entries_max), expected);
    assert_eq!((config.sinks[0].plan.buffer_frames_max, config.sinks[1].plan.buffer_frames_max), (5, 10_000));
}

#[test]
fn redis_finds_its_cameras_where_none_is_named() {
    let source = |more: &str| {
        sound(&LEAST.replace("type = \"synthetic\"", &format!("type = \"redis\"\n{more}"))).sources.remove(0)
    };
    let (usual, seconds) = ("omma:frames:{camera}", |count| Some(Duration::from_secs(count)));
    for (more, stream, discover, cameras) in [
        ("", usual, seconds(2), 0),
        ("discover_ms = 5000", usual, seconds(5), 0),
        ("camera_ids = [\"a\", \"b\"]", usual, None, 2),
        ("camera_ids = [\"a\"]\ndiscover_ms = 1000", usual, seconds(1), 1),
        ("wire = \"compat\"", "{camera}_input_topic", seconds(2), 0),
    ] {
        let source = source(more);
        let SourceKind::Redis(streams) = &source.kind else { panic!("not Redis") };
        assert_eq!(
            (streams.stream.as_str(), streams.discover, source.cameras.len()),
            (stream, discover, cameras),
            "{more}"
        );
    }
}

#[test]
fn a_picture_is_completed_by_the_model_and_then_by_what_is_usual() {
    let input = &sound(LEAST).models[0].input;
    assert_eq!(input.picture(None), None, "no size");
    let inspected = PictureSpec {
        size: Size { width: 640, height: 480 },
        dtype: DType::U8,
        layout: Layout::Nhwc,
        color: Color::Gray,
        resize: Resize::Letterbox { pad: 114 },
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    assert_eq!(input.picture(Some(&inspected)), Some(inspected));
}

#[test]
fn everything_holds_every_key() {
    let keys = reference();
    let keys = keys.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(key, _)| key);
    let missing: Vec<&str> = keys
        .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .filter(|key| {
            let written =
                [format!("\n{key} = "), format!(" {key} = "), format!("models.{key}]"), format!("sources.{key}]")];
            !written.iter().any(|written| EVERYTHING.contains(written))
        })
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn the_effective_configuration_reads_back_as_the_same() {
    for text in [LEAST, EVERYTHING] {
        let config = sound(text);
        assert_eq!(sound(config.effective()), config);
        assert!(
            !config.effective().contains("from the environment") && !format!("{config:?}").contains("from the file")
        );
    }
}

#[test]
fn the_effective_configuration_names_what_is_not_set() {
    let config = sound(LEAST);
    let effective = config.effective();
    for line in [
        "[engine]\nreaders = 1\n",
        "async_buffer_size = 2000\nfeeder_poll_timeout = 0.001\nbatch_size = 16\nbatch_timeout_ms = 5.0\n",
        "[[models]]\nname = \"m\"\nruntime = \"auto\"\npath = \"/c/m.onnx\"\n# version: the highest that is there; of `triton` the server's choice\nwatch = false\nprovider = \"cpu\"\n",
        "mode = \"auto\"\ninstances = \"auto\"\n",
        "[models.input]\n# width: the model's own",
        "mean = [0.0, 0.0, 0.0]\n",
        "# frames: no end\n",
        "sinks = [\"k\"]\n",
    ] {
        assert!(effective.contains(line), "{line} in\n{effective}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "\
[engine]
reader = 0
http = 9090

[inference_worker]
batch_size = \"16\"

[[models]]
path = \"nowhere.onnx\"
moed = \"sync\"

[[sources]]
type = \"synthetic\"
cameras = 0
model = \"detector\"
sinks = [\"file\"]

[[sinks]]
name = \"results\"
type = \"jsonl\"
";
    let expected = "\
/c/o.toml:2:1: engine.reader: found an unknown key, expected a key of [engine]; did you mean \"readers\"?
     2 | reader = 0
       | ^^^^^^
/c/o.toml:3:8: engine.http: found 9090, expected \"off\" or an address and port such as \"127.0.0.1:9090\"
     3 | http = 9090
       |        ^^^^
/c/o.toml:6:14: inference_worker.batch_size: found \"16\", expected a whole number from 1 to 1024; write 16 \
                    without quotes
     6 | batch_size = \"16\"
       |              ^^^^
/c/o.toml:8:1: models[0].name: found nothing, expected a name of 1 to 64 letters, digits, \"-\", \"_\" or \".\": what \
                    sources, metrics and results call it
     8 | [[models]]
       | ^^^^^^^^^^
/c/o.toml:9:8: models[0].path: found \"nowhere.onnx\", but there is no \"/c/nowhere.onnx\", expected an ONNX file, or a folder of numbered versions
     9 | path = \"nowhere.onnx\"
       |        ^^^^^^^^^^^^^^
/c/o.toml:10:1: models[0].moed: found an unknown key, expected a key of [models]; did you mean \"mode\"?
    10 | moed = \"sync\"
       | ^^^^
/c/o.toml:14:11: sources[0].cameras: found 0, expected 1 to 100000
    14 | cameras = 0
       |           ^
/c/o.toml:16:10: sources[0].sinks[0]: found \"file\", expected the name of a sink: \"results\"
    16 | sinks = [\"file\"]
       |          ^^^^^^
/c/o.toml:18:1: sinks[0].path: found nothing, expected a path: the file that lines are appended to; `-`: standard output
    18 | [[sinks]]
       | ^^^^^^^^^
9 problems";
    assert_eq!(read(text).expect_err("nine problems").to_string(), expected);
}

#[test]
fn problems_are_fields_for_programs() {
    let problems = read("[[models]]\nname = \"m\"\nruntime = \"nul\"\n[[sinks]]\ntype = \"null\"\nname = \"k\"\n");
    let expected = serde_json::json!({ "problems": [
        {
            "file": "/c/o.toml", "line": 3, "column": 11, "key": "models[0].runtime", "found": "\"nul\"",
            "expected": "one of \"auto\", \"onnxruntime\", \"openvino\", \"rten\", \"null\", \"identity\", \"simulated\", \"python\", \"triton\"",
            "hint": "did you mean \"null\"?",
        },
        {
            "file": "/c/o.toml", "key": "sources", "found": "nothing",
            "expected": "a list of tables, each written [[sources]]: where frames come from", "hint": null,
        },
    ], "omitted": 0 });
    assert_eq!(serde_json::to_value(problems.expect_err("two problems")).expect("JSON"), expected);
}

#[test]
fn secrets_do_not_show_in_the_lines_under_problems() {
    let text = "[[sources]]\ntype = \"mjpeg_http\"\npassword = \"hunter2\"\n\
                urls = [{ camera = \"a\", url = \"http://u:hunter2@h/\" }]\n";
    let problems = read(text).expect_err("problems");
    let said = format!("{problems} {problems:?} {}", serde_json::to_string(&problems).expect("JSON"));
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_page_of_results_speaks_of_durability_as_the_configuration_does() {
    let page = include_str!("../../../docs/ref/results.md");
    let (_, said) = page.split_once("- `durability`").expect("the sink's promise");
    let said = said.split("\n- ").next().expect("a paragraph");
    let refused = read(&LEAST.replace("type = \"null\"", "type = \"jsonl\"\npath = \"o.jsonl\"\ndurability = \"x\""));
    let expected = refused.expect_err("no such word").to_string();
    for word in ["none", "flush", "fsync"] {
        assert!(
            said.contains(&format!("`{word}`")) && expected.contains(&format!("\"{word}\"")),
            "{word}: {said}{expected}"
        );
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    fs::write(place("latin1.toml"), b"# one\n# caf\xe9\n").expect("a file");
    let table = [
        ("none.toml", "found no such file, expected a configuration in TOML"),
        ("", "found a file that cannot be read (not a regular file), expected a configuration in TOML"),
        ("latin1.toml", "found bytes that are not UTF-8 in line 2, expected a configuration in TOML"),
    ];
    for (name, expected) in table {
        let problems = load(&place(name)).expect_err(name);
        assert_eq!(problems.to_string(), format!("{}: {expected}\n1 problem", place(name).display()));
    }
}

#[test]
fn a_file_is_read_with_its_own_folder_in_mind() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("o.toml");
    fs::write(&file, LEAST).expect("a file");
    assert!(load(&file).expect_err("no model").to_string().contains("m.onnx\", expected an ONNX file"));
    fs::write(folder.path().join("m.onnx"), b"").expect("a file");
    let config = load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    let BackendConfig::Onnx { path, .. } = &config.models[0].backend else { panic!("a file") };
    assert_eq!(*path, folder.path().join("m.onnx"));
}

/// The machine on which the examples run: what they name is there.
struct ExampleMachine;

impl Outside for ExampleMachine {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "CAMERA_PASSWORD").then(|| "x".to_owned())
    }

    fn cores(&self) -> usize {
        2
    }

    fn entry(&self, path: &Path) -> Entry {
        if path.extension().is_some() { Entry::File } else { Entry::Folder }
    }

    fn read(&self, _: &Path, _: u64) -> std::io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

#[test]
fn the_examples_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("the folder config") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a text");
        let config =
            parse(&text, &path.to_string_lossy(), &ExampleMachine).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(parse(config.effective(), "/c/o.toml", &ExampleMachine).as_ref(), Ok(&config));
        seen += 1;
    }
    assert!(seen >= 4, "{seen} examples");
}

#[test]
fn ten_thousand_cameras_by_url() {
    let mut text = LEAST.replace("type = \"synthetic\"", "type = \"mjpeg_http\"\nurls = [");
    let at = text.find("urls = [").expect("the list") + "urls = [".len();
    let urls: String =
        (0..10_000).map(|n| format!("{{ camera = \"c{n}\", url = \"http://192.0.2.1/{n}\" }},\n")).collect();
    text.insert_str(at, &(urls + "]"));
    assert_eq!(sound(&text).cameras().count(), 10_000);
}

#[test]
fn what_nobody_writes_by_hand_ends_in_problems_too() {
    let table = [
        ("deep", format!("a = {}", "[".repeat(100_000))),
        ("deep tables", format!("a = {}", "{a=".repeat(100_000))),
        ("deep keys", format!("{}a = 1", "a.".repeat(100_000))),
        ("much that is wrong", (0..20_000).map(|n| format!("k{n} = 1\n")).collect()),
        ("nothing but faults", "=\n".repeat(2 << 20)),
        (
            "one long line",
            format!("engine = {{ {} }}", (0..2000).map(|n| format!("k{n} = 1")).collect::<Vec<_>>().join(", ")),
        ),
    ];
    for (what, text) in table {
        let problems = read(&text).expect_err(what);
        assert!((1..=1000).contains(&problems.problems.len()), "{what}");
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark() {
    let text = format!("\u{feff}{}", EVERYTHING.replace('\n', "\r\n"));
    assert_eq!(sound(&text), sound(EVERYTHING));
    let problems = read("\u{feff}[engine]\r\nreaders = 0\r\n").expect_err("problems");
    assert!(
        problems
            .to_string()
            .contains(":2:11: engine.readers: found 0, expected \"auto\" or 1 to 64\n     2 | readers = 0\n")
    );
}

/// What may stand for a value, right or wrong.
const VALUES: [&str; 22] = [
    "0",
    "1",
    "-1",
    "16",
    "0.5",
    "nan",
    "1e400",
    "99999999999999999999",
    "true",
    "\"\"",
    "\"auto\"",
    "\"max\"",
    "\"every\"",
    "\"m.onnx\"",
    "\"jsonl\"",
    "[]",
    "[1, 2, 3]",
    "[\"lines\"]",
    "{}",
    "{ a = 1 }",
    "2024-12-01",
    "\"\\u0000é\"",
];

fn mutated() -> impl Strategy<Value = String> {
    let line_count = EVERYTHING.lines().count();
    let edit = (0..line_count, 0..5_usize, any::<prop::sample::Index>(), any::<char>());
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut lines: Vec<String> = EVERYTHING.lines().map(str::to_owned).collect();
        for (line, manner, place, c) in edits {
            let line = line % lines.len();
            let text = lines[line].clone();
            match manner {
                0 => lines[line].clear(),
                1 => lines.insert(line, text),
                2 => {
                    let key = text.split(" = ").next().unwrap_or_default().to_owned();
                    lines[line] = format!("{key} = {}", VALUES[place.index(VALUES.len())]);
                }
                3 => {
                    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
                    lines[line].insert(places[place.index(places.len())], c);
                }
                _ => {
                    lines.swap_remove(place.index(lines.len()));
                }
            }
        }
        lines.join("\n")
    })
}

/// Problems have places inside the text, and say something.
fn well_told(text: &str, problems: &Problems) -> Result<(), TestCaseError> {
    prop_assert!(!problems.problems.is_empty());
    prop_assert!(problems.to_string().lines().count() > problems.problems.len());
    for problem in &problems.problems {
        prop_assert!(!problem.found.is_empty());
        if let Some(place) = problem.place {
            prop_assert!(place.line <= text.split('\n').count() && place.line > 0 && place.column > 0, "{problem}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_configuration_or_problems(text in any::<String>()) {
        if let Err(problems) = read(&text) {
            well_told(&text, &problems)?;
        }
    }

    #[test]
    fn any_toml_like_text_is_a_configuration_or_problems(
        text in "([\\[\\]{}=.,\"'#\n a-z0-9_-]|models|sources|\\[\\[| = ){0,200}"
    ) {
        if let Err(problems) = read(&text) {
            well_told(&text, &problems)?;
        }
    }

    #[test]
    fn an_edited_configuration_is_one_or_problems(text in mutated()) {
        match read(&text) {
            Ok(config) => prop_assert_eq!(read(config.effective()), Ok(config)),
            Err(problems) => well_told(&text, &problems)?,
        }
    }
}

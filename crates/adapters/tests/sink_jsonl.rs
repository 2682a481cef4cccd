//! The JSON lines sink on real files, devices and pipes; its lines against the page and the schema that document them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use omma_adapters::sink::jsonl::{Durability, JsonlSink, ModelLabels};
use omma_engine::sink::{Retry, Sink};
use omma_frame::{CameraIndex, DropReason, FrameResult, Outcome, Output};
use omma_testkit::sink::{Mark, cameras, cameras_out_of_redis, conformance, outcomes, result};
use serde_json::Value;

fn models() -> Vec<ModelLabels> {
    vec![ModelLabels { name: "yolo".into(), labels: vec!["person".into(), "car".into()] }]
}

fn some(sequences: std::ops::Range<u64>) -> Vec<FrameResult> {
    sequences.map(|n| result(CameraIndex(0), n, Outcome::Inferred(Output::Nothing))).collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("readable");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn marks(path: &Path) -> Vec<Mark> {
    let mark = |line: Value| {
        (line["camera"].as_str().expect("a camera").to_owned(), line["sequence"].as_u64().expect("a number"))
    };
    lines(path).into_iter().map(mark).collect()
}

#[test]
fn conforms() {
    for durability in [Durability::Written, Durability::Synced] {
        let folder = tempfile::tempdir().expect("a folder");
        let count = RefCell::new(0);
        let path = || folder.path().join(format!("{}.jsonl", count.borrow()));
        conformance(
            || {
                *count.borrow_mut() += 1;
                JsonlSink::append(&path(), durability, models()).expect("opens").0
            },
            |_| marks(&path()),
        );
    }
}

#[test]
fn a_second_run_appends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results.jsonl");
    for run in 0..2 {
        let (mut sink, cut_bytes) = JsonlSink::append(&path, Durability::Written, models()).expect("opens");
        assert_eq!(cut_bytes, 0);
        sink.publish(&some(run * 2..run * 2 + 2), &cameras(&["a"])).expect("room");
    }
    assert_eq!(marks(&path).iter().map(|mark| mark.1).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_file_that_was_emptied_in_between_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results.jsonl");
    let (mut sink, _) = JsonlSink::append(&path, Durability::Written, models()).expect("opens");
    sink.publish(&some(0..5), &cameras(&["a"])).expect("room");
    fs::File::options().write(true).open(&path).expect("opens").set_len(0).expect("emptied");
    sink.publish(&some(5..6), &cameras(&["a"])).expect("room");
    assert_eq!(marks(&path), [("a".to_owned(), 5)]);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = folder.path().display();
    let open = |path: &Path| JsonlSink::append(path, Durability::Written, models()).err().expect("refused").to_string();
    assert_eq!(
        open(&folder.path().join("no/such.jsonl")),
        format!("{shown}/no/such.jsonl: cannot open it: No such file or directory (os error 2)")
    );
    assert_eq!(open(folder.path()), format!("{shown}: cannot open it: Is a directory (os error 21)"));
    fs::write(folder.path().join("notes"), "mine").expect("written");
    assert_eq!(
        open(&folder.path().join("notes")),
        format!(
            "{shown}/notes: its last line is no result and has no end, expected an empty file or one that omma wrote; move it away"
        )
    );
}

#[test]
fn a_device_without_room_is_tried_again() {
    let (mut sink, _) = JsonlSink::append(Path::new("/dev/full"), Durability::Written, models()).expect("opens");
    for _ in 0..2 {
        let error = sink.publish(&some(0..3), &cameras(&["a"])).expect_err("no room");
        assert_eq!((error.published, error.retry), (0, Retry::Backoff));
        assert_eq!(error.to_string(), "/dev/full: cannot write: No space left on device (os error 28)");
    }
}

#[test]
fn a_reader_that_goes_is_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    let name = std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: a path that ends in NUL, which outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            // Opening a pipe waits for the other side; reads one line's beginning and goes.
            let mut begin = [0; 7];
            fs::File::open(path).expect("opens").read_exact(&mut begin).expect("a line");
            begin
        }
    });
    let (mut sink, _) = JsonlSink::append(&path, Durability::Written, models()).expect("opens");
    sink.publish(&some(0..1), &cameras(&["a"])).expect("room");
    assert_eq!(&reader.join().expect("no panic"), b"{\"v\":1,");
    let error = sink.publish(&some(1..3), &cameras(&["a"])).expect_err("nobody reads");
    assert_eq!((error.published, error.retry), (0, Retry::Never));
    assert!(error.to_string().contains("Broken pipe"), "{error}");
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/ref/result.schema.json")).expect("JSON")
}

#[test]
fn every_kind_of_line_is_what_the_schema_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results.jsonl");
    let (mut sink, _) = JsonlSink::append(&path, Durability::Written, models()).expect("opens");
    let mut results: Vec<FrameResult> =
        outcomes().into_iter().map(|outcome| result(CameraIndex(0), 1, outcome)).collect();
    results.extend(DropReason::ALL.map(|reason| {
        let mut dropped = result(CameraIndex(0), 1, Outcome::Dropped { reason, detail: None });
        (dropped.size, dropped.timing) = Default::default();
        dropped
    }));
    sink.publish(&results, &cameras(&["a"])).expect("room");
    sink.publish(&some(0..1), &cameras_out_of_redis(&["a"])).expect("room");
    let (schema, mut documented) = (schema(), BTreeSet::new());
    fields(&schema, "", &mut documented);
    let mut seen = BTreeSet::new();
    for line in lines(&path) {
        check(&schema, &line, "$").unwrap_or_else(|fault| panic!("{fault}: {line}"));
        paths(&line, "", &mut seen);
    }
    assert_eq!(seen, documented, "each documented field is written by one of these lines, and no other");
}

#[test]
fn the_schema_refuses_what_is_no_result() {
    let schema = schema();
    let good = r#"{"v":1,"camera":"a","sequence":1,"captured_at":"2025-12-31T23:59:59.123456789Z","captured_at_ns":1,"timing_ms":{}}"#;
    check(&schema, &serde_json::from_str(good).expect("JSON"), "$").expect("good");
    for (from, to) in [
        ("\"v\":1", "\"v\":2"),
        ("\"camera\":\"a\",", ""),
        ("\"sequence\":1", "\"sequence\":-1"),
        ("\"sequence\":1", "\"sequence\":\"1\""),
        ("\"timing_ms\":{}", "\"timing_ms\":{\"wait\":-1}"),
        ("\"timing_ms\":{}", "\"timing_ms\":{},\"detections\":[],\"classes\":[]"),
        ("\"timing_ms\":{}", "\"timing_ms\":{},\"error\":{\"reason\":\"bad luck\"}"),
        ("\"timing_ms\":{}", "\"timing_ms\":{},\"detections\":[{\"class\":1,\"score\":1,\"box\":[1,2,3]}]"),
    ] {
        let line = serde_json::from_str(&good.replace(from, to)).expect("JSON");
        assert!(check(&schema, &line, "$").is_err(), "{line}");
    }
}

#[test]
fn the_page_lists_the_fields_and_reasons_of_the_schema() {
    let page = include_str!("../../../docs/ref/results.md");
    let (fields_part, reasons_part) = page.split_once("## Reasons").expect("two tables");
    let rows = |part: &str| -> Vec<String> {
        part.lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned()))
            .collect()
    };
    let mut documented = BTreeSet::new();
    fields(&schema(), "", &mut documented);
    assert_eq!(rows(fields_part).into_iter().collect::<BTreeSet<_>>(), documented);
    assert_eq!(rows(reasons_part), DropReason::ALL.map(DropReason::name));
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    check(&schema(), &serde_json::from_str(example).expect("JSON"), "$").expect("the example is a result");
}

/// The paths of all fields that a schema names: `detections[].box`.
fn fields(schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        fields(field, &format!("{path}."), found);
        fields(&field["items"], &format!("{path}[]."), found);
        found.insert(path);
    }
}

/// The paths of all fields that a value has.
fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        paths(field, &format!("{path}."), found);
        field.as_array().into_iter().flatten().for_each(|item| paths(item, &format!("{path}[]."), found));
        found.insert(path);
    }
}

/// As much of JSON Schema as our schema uses; a keyword that is not known here is a failure, not a pass.
fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let number = |limit: &Value| limit.as_f64().expect("a number");
    let all = |list: &Value| list.as_array().expect("a list").clone();
    for (keyword, rule) in schema.as_object().expect("a schema") {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => match rule {
                Value::Array(types) => types.iter().any(|kind| has_type(value, kind)),
                kind => has_type(value, kind),
            },
            "const" => value == rule,
            "enum" => all(rule).contains(value),
            "minimum" => value.as_f64().is_none_or(|value| value >= number(rule)),
            "maximum" => value.as_f64().is_none_or(|value| value <= number(rule)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 >= number(rule)),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 <= number(rule)),
            "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= number(rule)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= number(rule)),
            // The two patterns are of an entry's id and of a time: checked by their shapes.
            "pattern" => value.as_str().is_none_or(|text| {
                let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
                match rule.as_str() {
                    Some("^[0-9]+-[0-9]+$") => shape.trim_matches('0') == "-" && shape.len() > 2,
                    _ => shape == "0000-00-00T00:00:00.000000000Z",
                }
            }),
            "required" => all(rule).iter().all(|name| value.get(name.as_str().expect("a name")).is_some()),
            "properties" => {
                for (name, field) in rule.as_object().expect("fields") {
                    if let Some(inner) = value.get(name) {
                        check(field, inner, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}[{i}]"))?;
                }
                true
            }
            "oneOf" => all(rule).iter().filter(|one| check(one, value, at).is_ok()).count() == 1,
            "anyOf" => all(rule).iter().any(|one| check(one, value, at).is_ok()),
            "not" => check(rule, value, at).is_err(),
            unknown => return Err(format!("{at}: this test does not know the keyword {unknown}")),
        };
        if !holds {
            return Err(format!("{at} breaks {keyword} {rule}"));
        }
    }
    Ok(())
}

fn has_type(value: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        unknown => panic!("this test does not know the type {unknown}"),
    }
}

//! The protocol over HTTP: what is answered, in which form, and what bad requests get.

use serde_json::{Value, json};

use super::*;

const INFER: &str = "POST /v2/models/model/infer";

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

fn input(values: &[u32]) -> Value {
    let data: Vec<u8> = pictures(values);
    json!({ "name": "images", "datatype": "UINT8", "shape": [values.len(), 2, 4, 1], "data": data })
}

#[test]
fn the_server_and_its_models_are_described() {
    let served = Served::start();
    let of = |line: &str| json_of(&ask(served.http(), line, b""));
    for (line, status) in [
        ("GET /v2/health/live", 200),
        ("GET /v2/health/ready", 200),
        ("GET /v2/models/model/ready", 200),
        ("GET /v2/models/model/versions/1/ready", 200),
        ("GET /v2/models/model/versions/7/ready", 404),
        ("GET /v2/models/other/ready", 404),
        ("GET /v2/models/other", 404),
        ("GET /v2/models/other/config", 404),
        ("GET /v2/models/other/stats", 404),
        ("GET /v2/nowhere", 404),
        ("GET /v2/models/model/infer", 405),
    ] {
        assert_eq!(ask(served.http(), line, b"").status, status, "{line}");
    }
    let server = of("GET /v2");
    assert_eq!((&server["name"], &server["version"]), (&json!("omma"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(server["extensions"].as_array().expect("a list").contains(&json!("binary_tensor_data")));
    assert_eq!(
        of("GET /v2/models/model"),
        json!({
            "name": "model", "versions": ["1"], "platform": "omma",
            "inputs": [{ "name": "images", "datatype": "UINT8", "shape": [-1, 2, 4, 1] }],
            "outputs": [{ "name": "out", "datatype": "INT64", "shape": [-1, 2] }],
        })
    );
    let config = of("GET /v2/models/model/versions/1/config");
    assert_eq!(config["input"][0]["data_type"], "TYPE_UINT8");
    assert_eq!(config["output"][0]["dims"], json!([2]));
    assert_eq!(config["max_batch_size"], 128);
    let index = json_of(&ask(served.http(), "POST /v2/repository/index", b"{}"));
    assert_eq!(index, json!([{ "name": "model", "version": "1", "state": "READY", "reason": "" }]));
    served.stop();
}

#[test]
fn values_go_as_json_and_as_binary_tensors_in_both_directions() {
    let served = Served::start();
    let binary = |name: &str, values: &[u32], more: Value| {
        let size = values.len() * 8;
        let mut header = json!({ "id": "7", "inputs": [{
            "name": name, "datatype": "UINT8", "shape": [values.len(), 2, 4, 1],
            "parameters": { "binary_data_size": size },
        }] });
        header.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let header = header.to_string().into_bytes();
        let head = format!("{INFER}\nInference-Header-Content-Length: {}", header.len());
        ask(served.http(), &head, &[header, pictures(values)].concat())
    };
    let out = |values: &[i64]| values.iter().flat_map(|value| [0, *value]).collect::<Vec<i64>>();
    for values in [&[5][..], &[1, 2, 3], &[9; 128]] {
        let expected = out(&values.iter().map(|value| i64::from(*value)).collect::<Vec<_>>());
        let plain = json_of(&ask(served.http(), INFER, json!({ "inputs": [input(values)] }).to_string().as_bytes()));
        assert_eq!(plain["outputs"][0]["data"], json!(expected));
        assert_eq!(plain["outputs"][0]["shape"], json!([values.len(), 2]));
        assert_eq!((&plain["model_name"], &plain["model_version"]), (&json!("model"), &json!("1")));

        let there = json_of(&binary("images", values, json!({})));
        assert_eq!(there["outputs"][0]["data"], json!(expected), "binary in, JSON out");
        assert_eq!(there["id"], "7");
        for asked in [
            json!({ "parameters": { "binary_data_output": true } }),
            json!({ "outputs": [{ "name": "out", "parameters": { "binary_data": true } }] }),
        ] {
            let answer = binary("images", values, asked);
            let length = answer.head.split("inference-header-content-length: ").nth(1).expect("said");
            let length: usize = length.split("\r\n").next().and_then(|n| n.parse().ok()).expect("a number");
            let content: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(answer.body[length..], content);
            assert!(answer.head.contains("content-type: application/octet-stream"), "{}", answer.head);
        }
    }
    served.stop();
}

#[test]
fn bad_requests_get_their_status_and_say_what_was_found() {
    let served = Served::start();
    let with = |key: &str, value: Value| {
        let mut input = input(&[1]);
        input[key] = value;
        json!({ "inputs": [input] }).to_string()
    };
    let table = [
        ("not json".to_owned(), 400, "the JSON header: "),
        ("{}".to_owned(), 400, "missing field `inputs`"),
        (json!({ "inputs": [] }).to_string(), 400, "takes 1 input, \\\"images\\\", found 0"),
        (json!({ "inputs": [input(&[1]), input(&[1])] }).to_string(), 400, "found 2"),
        (with("name", json!("pictures")), 400, "has the input \\\"images\\\""),
        (with("datatype", json!("FP32")), 400, "datatype \\\"FP32\\\", expected UINT8"),
        (with("datatype", json!("WORDS")), 400, "datatype \\\"WORDS\\\""),
        (with("shape", json!([1, 2, 4])), 400, "shape [1, 2, 4], expected [n, 2, 4, 1]"),
        (with("shape", json!([1, 4, 2, 1])), 400, "expected [n, 2, 4, 1] with n from 1 to 128"),
        (with("shape", json!([0, 2, 4, 1])), 400, ""),
        (with("shape", json!([-1, 2, 4, 1])), 400, ""),
        (with("shape", json!([i64::MAX, 2, 4, 1])), 400, ""),
        (with("shape", json!([129, 2, 4, 1])), 400, ""),
        (with("data", json!([1, 2])), 400, "2 value(s), expected 8"),
        (with("data", json!(["a"])), 400, ""),
        (with("data", json!([256, 0, 0, 0, 0, 0, 0, 0])), 400, "256"),
        (
            json!({ "inputs": [input(&[1])], "outputs": [{ "name": "boxes" }] }).to_string(),
            400,
            "has no output \\\"boxes\\\", its outputs are: out",
        ),
        (
            json!({ "inputs": [input(&[1])], "outputs": [{ "name": "out" }, { "name": "out" }] }).to_string(),
            400,
            "asked for twice",
        ),
        (
            json!({ "inputs": [input(&[1])], "outputs": [{ "name": "out", "parameters": { "classification": 2 } }] })
                .to_string(),
            400,
            "classification",
        ),
        (
            with("parameters", json!({ "shared_memory_region": "nowhere", "shared_memory_byte_size": 8 })),
            400,
            "more than one of",
        ),
    ];
    for (body, status, part) in table {
        let answer = ask(served.http(), INFER, body.as_bytes());
        let text = answer.text();
        assert_eq!(answer.status, status, "{body}: {text}");
        assert!(text.starts_with("{\"error\":\"") && text.contains(part), "{body}: {text}");
    }
    for (head, status) in [
        ("POST /v2/models/other/infer", 404),
        ("POST /v2/models/model/versions/3/infer", 404),
        ("POST /v2/models/model/infer\nInference-Header-Content-Length: 99999999999999999999", 400),
        ("POST /v2/models/model/infer\nInference-Header-Content-Length: -1", 400),
        ("POST /v2/models/model/infer\nInference-Header-Content-Length: 99", 400),
        ("POST /v2/models/model/infer\nInference-Header-Content-Length: 1\nInference-Header-Content-Length: 2", 400),
        ("POST /v2/models/model/infer\nContent-Encoding: gzip", 415),
        ("POST /v2/repository/models/other/load", 404),
        ("POST /v2/repository/models/other/unload", 404),
        // This engine was started without a store of versions.
        ("POST /v2/repository/models/model/load", 400),
        ("POST /v2/cudasharedmemory/region/r/register", 400),
        ("POST /v2/cudasharedmemory/unregister", 200),
        ("POST /v2/cudasharedmemory/region/r/unregister", 200),
    ] {
        let answer = ask(served.http(), head, b"{}");
        assert_eq!(answer.status, status, "{head}: {}", answer.text());
    }
    served.stop();
}

#[test]
fn what_the_model_does_wrong_is_said() {
    let table = [
        (Turn::Fail, 500, "backend_failed: out of memory"),
        (Turn::Panic, 500, "backend_panicked"),
        (Turn::Silence, 500, "wrong_count"),
        (Turn::Count(1), 500, "wrong_count"),
    ];
    for (turn, status, part) in table {
        let served = Served::with(&Model::new(move |_| turn.clone()), &options());
        let answer = ask(served.http(), INFER, json!({ "inputs": [input(&[1])] }).to_string().as_bytes());
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(part), "{}", answer.text());
        served.stop();
    }
}

#[test]
fn an_unloaded_model_is_not_found_and_the_others_go_on() {
    let served = Served::start();
    assert_eq!(ask(served.http(), "POST /v2/repository/models/model/unload", b"").status, 200);
    let answer = ask(served.http(), INFER, json!({ "inputs": [input(&[1])] }).to_string().as_bytes());
    assert_eq!(answer.status, 404, "{}", answer.text());
    let index = json_of(&ask(served.http(), "POST /v2/repository/index", b""));
    assert_eq!((&index[0]["state"], &index[0]["version"]), (&json!("UNAVAILABLE"), &json!("")));
    let ready = ask(served.http(), "POST /v2/repository/index", b"{\"ready\":true}");
    assert_eq!(json_of(&ready), json!([]));
    served.stop();
}

#[test]
fn statistics_tell_where_the_time_went() {
    let served = Served::start();
    for values in [&[1][..], &[1, 2, 3]] {
        let answer = ask(served.http(), INFER, json!({ "inputs": [input(values)] }).to_string().as_bytes());
        assert_eq!(answer.status, 200);
    }
    for line in ["GET /v2/models/model/stats", "GET /v2/models/stats"] {
        let told = json_of(&ask(served.http(), line, b""));
        let told = &told["model_stats"][0];
        assert_eq!((&told["name"], &told["inference_count"]), (&json!("model"), &json!(4)));
        assert_eq!(told["inference_stats"]["success"]["count"], 2);
        for part in ["success", "queue", "compute_input", "compute_infer", "compute_output"] {
            let span = &told["inference_stats"][part];
            assert!(span["count"] == 2 && span["ns"].as_u64().is_some_and(|ns| ns > 0), "{part}: {told}");
        }
        assert_eq!(told["inference_stats"]["fail"]["count"], 0);
    }
    served.stop();
}

#[test]
fn a_picture_is_answered_with_what_was_seen() {
    let served = Served::start();
    let picture = pictures(&[42]);
    let part = "Content-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\n\r\n";
    let form = [format!("--b\r\n{part}").as_bytes(), &picture, b"\r\n--b--\r\n"].concat();
    let seen = "Inferred(Embedding([42.0]))";
    let predict = "POST /v1/models/model/predict";
    for (head, body, status, expected) in [
        (predict.to_owned(), &picture, 200, seen),
        (format!("{predict}\nContent-Type: image/jpeg"), &picture, 200, seen),
        (format!("{predict}\nContent-Type: image/png; q=1"), &picture, 200, seen),
        (format!("{predict}\nContent-Type: multipart/form-data; boundary=b"), &form, 200, seen),
        (format!("{predict}\nContent-Type: multipart/form-data"), &form, 400, "without its boundary"),
        (format!("{predict}\nContent-Type: multipart/form-data; boundary=c"), &form, 400, "begin with its boundary"),
        (format!("{predict}\nContent-Type: text/html"), &picture, 415, "expected image/jpeg"),
        (predict.to_owned(), &Vec::new(), 400, "no picture"),
        (predict.to_owned(), &b"junk".to_vec(), 400, "picture_corrupt: the picture ends early"),
        (predict.to_owned(), &vec![0; (1 << 20) + 1], 413, "expected at most 1048576"),
        ("POST /v1/models/other/predict".to_owned(), &picture, 404, "there is no model"),
        ("GET /v1/models/model/predict".to_owned(), &picture, 405, ""),
    ] {
        let answer = ask(served.http(), &head, body);
        assert_eq!(answer.status, status, "{head}: {}", answer.text());
        assert!(answer.text().contains(expected), "{head}: {}", answer.text());
    }
    served.stop();
}

#[test]
fn before_there_is_an_engine_requests_are_unavailable() {
    let server = Server::start(&options(), Watched::default()).expect("free ports");
    let address = server.http().expect("listens");
    for (line, status) in [
        ("GET /v2/health/live", 200),
        ("GET /v2/health/ready", 400),
        ("GET /v2/models/model", 503),
        (INFER, 503),
        ("POST /v1/models/model/predict", 503),
    ] {
        assert_eq!(ask(address, line, b"").status, status, "{line}");
    }
}

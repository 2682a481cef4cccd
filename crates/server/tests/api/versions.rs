//! Requests while the model's versions change: an answer is of one version, and says which.

use omma_testkit::engine_rig::{model_plan, until, version};
use serde_json::{Value, json};

use super::*;

fn infer(address: SocketAddr, path: &str, values: &[u32]) -> (u16, Value) {
    let input = json!({
        "name": "images", "datatype": "UINT8", "shape": [values.len(), 2, 4, 1], "data": pictures(values),
    });
    let body = json!({ "inputs": [input] }).to_string();
    let answer = ask(address, &format!("POST /v2/models/model{path}/infer"), body.as_bytes());
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

/// Whether each item of the answer is what the model gives for it.
fn whole(answer: &Value, values: &[u32]) -> bool {
    answer["outputs"][0]["data"] == json!(values.iter().flat_map(|&value| [0, value]).collect::<Vec<_>>())
}

#[test]
fn an_answer_is_of_the_version_that_it_names_in_all_its_items() {
    let (served, gate) = Served::held();
    let (address, shared) = (served.http(), Arc::clone(served.running.engine.shared()));
    let several: Vec<u32> = (0..20).collect();
    let values = several.clone();
    let in_part = std::thread::spawn(move || infer(address, "", &values));
    until("the first of its batches is in version 1", || gate.waiting() == 1);
    let of_one = std::thread::spawn(move || infer(address, "/versions/1", &[7]));
    let of_any = std::thread::spawn(move || infer(address, "", &[8]));
    until("they wait", || shared.direct_in_flight() == 3);
    let swapped = {
        let second = version(2, &model_plan("model"), loaded(&Model::new(|_| Turn::Answer)));
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || shared.swap("model", second))
    };
    let (status, answer) = of_one.join().expect("no panic");
    assert_eq!(status, 404, "{answer}");
    assert!(answer["error"].as_str().expect("said").contains("there is no version \"1\""), "{answer}");
    let (status, answer) = of_any.join().expect("no panic");
    assert_eq!((status, &answer["model_version"], whole(&answer, &[8])), (200, &json!("2"), true), "{answer}");
    gate.open();
    let (status, answer) = in_part.join().expect("no panic");
    assert_eq!((status, &answer["model_version"], whole(&answer, &several)), (200, &json!("2"), true), "{answer}");
    assert!(swapped.join().expect("no panic").is_ok());
    served.stop();
}

#[test]
fn what_a_version_has_in_hand_when_another_takes_over_is_its_own() {
    let (served, gate) = Served::held();
    let (address, shared) = (served.http(), Arc::clone(served.running.engine.shared()));
    let asked = std::thread::spawn(move || infer(address, "/versions/1", &[7]));
    until("it is in version 1", || gate.waiting() == 1);
    let swapped = {
        let second = version(2, &model_plan("model"), loaded(&Model::new(|_| Turn::Answer)));
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || shared.swap("model", second))
    };
    until("version 2 serves", || served.running.serving(0).version == 2);
    gate.open();
    let (status, answer) = asked.join().expect("no panic");
    assert_eq!((status, &answer["model_version"], whole(&answer, &[7])), (200, &json!("1"), true), "{answer}");
    assert!(swapped.join().expect("no panic").is_ok());
    served.stop();
}

//! Tensors in shared memory, by HTTP; by gRPC the same code runs.

use serde_json::{Value, json};

use super::*;

struct Object(String);

impl Object {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let key = format!("omma-test-api-{}-{name}", std::process::id());
        std::fs::write(format!("/dev/shm/{key}"), bytes).expect("shared memory can be made");
        Self(key)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(format!("/dev/shm/{}", self.0)).expect("there")
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("/dev/shm/{}", self.0));
    }
}

fn infer(served: &Served, input: usize, output: usize) -> Answer {
    let at = |region: &str, size| json!({ "shared_memory_region": region, "shared_memory_byte_size": size, "shared_memory_offset": 8 });
    let body = json!({
        "inputs": [{ "name": "images", "datatype": "UINT8", "shape": [2, 2, 4, 1], "parameters": at("in", input) }],
        "outputs": [{ "name": "out", "parameters": at("out", output) }],
    });
    ask(served.http(), "POST /v2/models/model/infer", body.to_string().as_bytes())
}

fn register(served: &Served, region: &str, key: &str, byte_size: usize) -> u16 {
    let body = json!({ "key": format!("/{key}"), "offset": 0, "byte_size": byte_size }).to_string();
    let line = format!("POST /v2/systemsharedmemory/region/{region}/register");
    ask(served.http(), &line, body.as_bytes()).status
}

#[test]
fn tensors_are_read_from_and_written_to_registered_regions_only() {
    let served = Served::start();
    let (from, to) = (Object::new("in", &[&[0; 8], &pictures(&[3, 4])[..]].concat()), Object::new("out", &[9; 48]));
    assert_eq!(infer(&served, 16, 32).status, 404, "not registered");
    assert_eq!(register(&served, "in", &from.0, 24), 200);
    assert_eq!(register(&served, "in", &from.0, 24), 400, "the name is taken");
    assert_eq!(register(&served, "out", &to.0, 49), 400, "longer than it is");
    assert_eq!(register(&served, "out", &to.0, 48), 200);
    let answer = infer(&served, 16, 32);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(said["outputs"][0]["parameters"]["shared_memory_byte_size"], 32);
    assert!(said["outputs"][0].get("data").is_none(), "{said}");
    let values: Vec<i64> =
        to.bytes()[8..40].chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8"))).collect();
    assert_eq!(values, [0, 3, 0, 4]);
    assert_eq!((&to.bytes()[..8], &to.bytes()[40..]), (&[9; 8][..], &[9; 8][..]), "nothing around it is touched");
    for (input, output) in [(15, 32), (17, 32), (16, 31), (16, 41)] {
        assert_eq!(infer(&served, input, output).status, 400, "{input}, {output}");
    }
    let status = ask(served.http(), "GET /v2/systemsharedmemory/status", b"");
    assert_eq!(serde_json::from_slice::<Value>(&status.body).expect("JSON").as_array().map(Vec::len), Some(2));
    // Its owner cuts it off while it is registered.
    std::fs::write(format!("/dev/shm/{}", from.0), b"").expect("cut off");
    let answer = infer(&served, 16, 32);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("shorter than it was registered"), "{}", answer.text());
    assert_eq!(ask(served.http(), "POST /v2/systemsharedmemory/region/in/unregister", b"").status, 200);
    assert_eq!(infer(&served, 16, 32).status, 404);
    assert_eq!(ask(served.http(), "POST /v2/systemsharedmemory/unregister", b"").status, 200);
    served.stop();
}

#[test]
fn it_is_off_unless_it_is_allowed() {
    let mut options = options();
    options.api.client_shared_memory = false;
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    let object = Object::new("off", &[0; 24]);
    assert_eq!(register(&served, "in", &object.0, 24), 400);
    assert!(infer(&served, 16, 32).text().contains("direct.client_shared_memory"));
    assert_eq!(ask(served.http(), "POST /v2/systemsharedmemory/unregister", b"").status, 200, "clients ask for it");
    served.stop();
}

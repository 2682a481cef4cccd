//! Hostile clients: what they may cost is bounded, and neither other clients nor cameras notice them.

use std::time::Instant;

use omma_testkit::engine_rig::until;

use super::*;

fn predict(address: SocketAddr) -> Answer {
    ask(address, "POST /v1/models/model/predict", &pictures(&[1]))
}

/// Open files that the test needs on both ends; the soft limit is often 1024.
fn allow_files(count: u64) {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to an `rlimit` of our own.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits), 0);
        limits.rlim_cur = limits.rlim_cur.max(count).min(limits.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits), 0);
    }
}

#[test]
fn a_thousand_connections_that_say_nothing_or_little_keep_nobody_out() {
    allow_files(8192);
    let options = ServerOptions { connections_max: 200, ..options() };
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    served.running.push_all(0, 0..50);
    let heads: [&[u8]; 4] =
        [b"", b"GET /healthz HT", b"POST /v2/models/model/infer HTTP/1.1\r\nHost: o\r\nA: ", b"PRI * HTTP/2.0\r\n\r\n"];
    let mut silent = Vec::new();
    for number in 0..1000 {
        for address in [served.http(), served.grpc()] {
            let mut stream = connect(address);
            let _ = stream.write_all(heads[number % heads.len()]);
            silent.push(stream);
        }
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(predict(served.http()).status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "they wait for nobody: {:?}", begun.elapsed());
    served.running.push_all(1, 0..50);
    served.running.wait_settled();
    assert_eq!(served.running.total().published, 100, "the cameras notice nothing");
    drop(silent);
    served.stop();
}

#[test]
fn when_all_connections_are_busy_the_process_is_not_taken_for_dead() {
    let options = ServerOptions { connections_max: 4, ..options() };
    let gate = Gate::default();
    let hold = gate.clone();
    let served = Served::with(&Model::new(move |_| Turn::Wait(hold.clone())), &options);
    let address = served.http();
    let asked: Vec<_> = (0..4).map(|_| std::thread::spawn(move || predict(address))).collect();
    until("they wait for the model", || served.running.engine.shared().direct_in_flight() == 4);
    // These say nothing; they hold spare places only until somebody comes.
    let _silent: Vec<_> = (0..12).map(|_| connect(address)).collect();
    for page in ["healthz", "readyz", "metrics"] {
        // Whoever would keep the connection is told that it ends: the next one may find a place.
        let mut stream = connect(address);
        stream.write_all(format!("GET /{page} HTTP/1.1\r\nHost: o\r\n\r\n").as_bytes()).expect("sent");
        let answer = answer(stream);
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    let refused = predict(address);
    assert_eq!((refused.status, refused.text().contains("busy")), (503, true), "{}", refused.text());
    gate.open();
    for asked in asked {
        assert_eq!(asked.join().expect("no panic").status, 200);
    }
    until("there is a place again", || predict(address).status == 200);
    served.stop();
}

#[test]
fn a_body_that_does_not_come_is_given_up_and_its_connection_too() {
    let mut options = options();
    options.api.timeout = Duration::from_millis(300);
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    let mut stream = connect(served.http());
    let head = "POST /v1/models/model/predict HTTP/1.1\r\nHost: o\r\nConnection: close\r\nContent-Length: 8\r\n\r\nabc";
    stream.write_all(head.as_bytes()).expect("sent");
    let answer = answer(stream);
    assert_eq!(answer.status, 408, "{}", answer.text());
    served.stop();
}

#[test]
fn a_change_of_a_camera_that_does_not_come_is_given_up_too() {
    let mut options = options();
    options.api.timeout = Duration::from_millis(300);
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    let mut stream = connect(served.http());
    let head = "PUT /v1/cameras/cam-0 HTTP/1.1\r\nHost: o\r\nConnection: close\r\nContent-Length: 18\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("sent");
    let late = answer(stream);
    assert_eq!(late.status, 408, "{}", late.text());
    let large = ask(served.http(), "PUT /v1/cameras/cam-0", &[b' '; 5000]);
    assert_eq!(large.status, 413, "{}", large.text());
    served.stop();
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let served = Served::start();
    let mut stream = connect(served.http());
    let head =
        "POST /v1/models/model/predict HTTP/1.1\r\nHost: o\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    assert_eq!(answer(stream).status, 413);
    // Who would keep the connection is told that it ends.
    let mut stream = connect(served.http());
    let head = "POST /v1/models/model/predict HTTP/1.1\r\nHost: o\r\nContent-Length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let refused = answer(stream);
    assert_eq!(refused.status, 413);
    assert!(refused.head.contains("connection: close"), "{}", refused.head);
    // Without a length: after as many bytes as it may have.
    let mut stream = connect(served.http());
    let head =
        "POST /v1/models/model/predict HTTP/1.1\r\nHost: o\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let chunk = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
    let sent = (0..64).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 64 || answer(stream).status == 413);
    let long = format!("GET /{} HTTP/1.1\r\nHost: o\r\n\r\n", "x".repeat(100_000));
    let mut stream = connect(served.http());
    let _ = stream.write_all(long.as_bytes());
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&told));
    assert_eq!(predict(served.http()).status, 200);
    served.stop();
}

#[test]
fn all_requests_together_hold_no_more_than_they_may() {
    let mut options = options();
    options.api.requests_bytes_max = 1 << 20;
    let gate = Gate::default();
    let hold = gate.clone();
    let served = Served::with(&Model::new(move |_| Turn::Wait(hold.clone())), &options);
    let address = served.http();
    let large = || [pictures(&[1]), vec![0; 300 << 10]].concat();
    let asked: Vec<_> =
        (0..3).map(|_| std::thread::spawn(move || ask(address, "POST /v1/models/model/predict", &large()))).collect();
    until("they wait for the model", || served.running.engine.shared().direct_in_flight() == 3);
    let refused = ask(address, "POST /v1/models/model/predict", &large());
    assert_eq!(refused.status, 503, "{}", refused.text());
    gate.open();
    for asked in asked {
        assert_eq!(asked.join().expect("no panic").status, 200);
    }
    until("what they held is given back", || ask(address, "POST /v1/models/model/predict", &large()).status == 200);
    served.stop();
}

/// 128 pictures of eight bytes, of each of which the model gives two numbers of eight.
fn infer_many(address: SocketAddr, binary: bool) -> Answer {
    let header = serde_json::json!({
        "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [128, 2, 4, 1],
            "parameters": { "binary_data_size": 1024 },
        }],
        "parameters": { "binary_data_output": binary },
    });
    let header = header.to_string().into_bytes();
    let head = format!("POST /v2/models/model/infer\nInference-Header-Content-Length: {}", header.len());
    ask(address, &head, &[header, pictures(&[1; 128])].concat())
}

#[test]
fn what_an_answer_will_take_is_taken_before_the_model_is_asked() {
    let mut options = options();
    // 2 KB of numbers and the request itself; not their text as JSON, which may be three times as much.
    options.api.requests_bytes_max = 4 << 10;
    let model = Model::new(|_| Turn::Answer);
    let served = Served::with(&model, &options);
    let before = model.frames();
    let refused = infer_many(served.http(), false);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("all of the 4096 bytes that they may"), "{}", refused.text());
    assert_eq!(model.frames(), before, "nothing was computed in vain");
    for _ in 0..10 {
        until("what the one before held is given back", || infer_many(served.http(), true).status == 200);
    }
    served.stop();
}

#[test]
fn what_no_model_says_beforehand_is_taken_when_it_is_there() {
    for (most, status) in [(2 << 10, 503), (4 << 10, 200)] {
        let mut options = options();
        options.api.requests_bytes_max = most;
        let mut loaded = loaded(&Model::new(|_| Turn::Answer));
        loaded.info.outputs[0].shape = vec![None, None];
        let served = Served::of(loaded, &options);
        let answer = infer_many(served.http(), true);
        assert_eq!(answer.status, status, "{}", answer.text());
        served.stop();
    }
}

#[test]
fn who_leaves_is_not_served() {
    let (served, gate) = Served::held();
    let first = connect(served.http());
    let body = String::from_utf8_lossy(&pictures(&[1])).into_owned();
    let head =
        format!("POST /v1/models/model/predict HTTP/1.1\r\nHost: o\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    (&first).write_all(head.as_bytes()).expect("sent");
    until("the model is busy", || gate.waiting() == 1);
    let others: Vec<_> = (0..5)
        .map(|_| {
            let stream = connect(served.http());
            (&stream).write_all(head.as_bytes()).expect("sent");
            stream
        })
        .collect();
    let shared = Arc::clone(served.running.engine.shared());
    until("they wait", || shared.direct_in_flight() == 6);
    drop(others);
    // Their tasks end when their connections do, which the server notices by itself.
    gate.open();
    until("all are gone", || shared.direct_in_flight() == 0);
    served.stop();
}

#[test]
fn an_answer_that_takes_too_long_is_given_up_by_name() {
    let mut options = options();
    options.api.timeout = Duration::from_millis(200);
    let gate = Gate::default();
    let hold = gate.clone();
    let served = Served::with(&Model::new(move |_| Turn::Wait(hold.clone())), &options);
    let answer = predict(served.http());
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("no answer within 200 ms"), "{}", answer.text());
    gate.open();
    served.stop();
}

#[test]
fn a_request_whose_time_is_over_before_the_model_begins_may_be_tried_again() {
    let (served, gate) = Served::held();
    let address = served.http();
    let infer = move |micros: u64| {
        let body = serde_json::json!({
            "inputs": [{ "name": "images", "datatype": "UINT8", "shape": [1, 2, 4, 1], "data": pictures(&[1]) }],
            "parameters": { "timeout": micros },
        });
        ask(address, "POST /v2/models/model/infer", body.to_string().as_bytes())
    };
    let in_model = std::thread::spawn(move || infer(3_000_000));
    until("it is in the model", || gate.waiting() == 1);
    let waited = infer(1000);
    assert_eq!(waited.status, 503, "{}", waited.text());
    let expected = "no answer within 1 ms: the request waited for the model all the time, try again later";
    assert!(waited.text().contains(expected), "{}", waited.text());
    let late = in_model.join().expect("no panic");
    assert_eq!(late.status, 504, "{}", late.text());
    gate.open();
    served.stop();
}

#[test]
fn beyond_what_may_wait_requests_are_refused_and_not_queued() {
    let (served, gate) = Served::held();
    let address = served.http();
    let full = 4096 / 128;
    let body = || {
        let header = serde_json::json!({ "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [128, 2, 4, 1],
            "parameters": { "binary_data_size": 1024 },
        }] });
        let header = header.to_string().into_bytes();
        (header.len(), [header, pictures(&[1; 128])].concat())
    };
    let infer = move || {
        let (length, body) = body();
        ask(address, &format!("POST /v2/models/model/infer\nInference-Header-Content-Length: {length}"), &body)
    };
    let asked: Vec<_> = (0..full + 8).map(|_| std::thread::spawn(infer)).collect();
    until("one is refused", || asked.iter().any(std::thread::JoinHandle::is_finished));
    gate.open();
    let statuses: Vec<u16> = asked.into_iter().map(|asked| asked.join().expect("no panic").status).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() >= full, "{statuses:?}");
    served.stop();
}

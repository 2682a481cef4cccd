//! Models on a real Triton keep what every backend owes, by every way that a batch can take to the server; and what does
//! not fit is said at start.
#![cfg(feature = "triton")]

use omma_adapters::infer::open_inference::{
    OpenInferenceModel, OpenInferenceOptions, Send, ServerUrl, SharedMemoryUse, open,
};
use omma_adapters::infer::{check, guess_spec};
use omma_engine::infer::backend::{BatchLimit, Device};
use omma_frame::Size;
use omma_testkit::backend::{Subject, conforms};
use omma_testkit::backend_served::{Served, serves};
use omma_testkit::triton_server::TritonServer;

fn options(url: &str, model: &str) -> OpenInferenceOptions {
    OpenInferenceOptions::new(ServerUrl::parse(url).expect("a URL"), model)
}

fn opened(url: &str, model: &str, shared_memory: SharedMemoryUse) -> OpenInferenceModel {
    open(OpenInferenceOptions { shared_memory, ..options(url, model) })
        .unwrap_or_else(|error| panic!("{model}: {error}"))
}

#[test]
fn models_conform_by_grpc_by_http_and_in_shared_memory() {
    let models = ["statistics_u8", "statistics_f16", "statistics_f32", "single_f32", "identity_u8"];
    let Some(server) = TritonServer::start(&models) else { return };
    for url in [server.grpc(), server.http()] {
        for shared_memory in [SharedMemoryUse::Off, SharedMemoryUse::On] {
            for (model, batch) in [
                ("statistics_u8", BatchLimit::UpTo(8)),
                ("statistics_f16", BatchLimit::UpTo(8)),
                ("statistics_f32", BatchLimit::UpTo(8)),
                // Without a batch dimension of the server's own.
                ("single_f32", BatchLimit::Exactly(1)),
                // Its outputs are large enough to lie in shared memory too.
                ("identity_u8", BatchLimit::UpTo(64)),
            ] {
                let OpenInferenceModel { model: loaded, notes, .. } = opened(&url, model, shared_memory);
                assert_eq!((loaded.device, loaded.info.batch), (Device::Remote, batch), "{model}");
                assert_eq!(loaded.memory.is_some(), shared_memory == SharedMemoryUse::On, "{notes:?}");
                let spec = guess_spec(&loaded.info, None).expect("a picture");
                let batch_max = match batch {
                    BatchLimit::Exactly(fixed) => fixed,
                    BatchLimit::UpTo(most) if most > 8 => 2,
                    BatchLimit::UpTo(_) => 3,
                };
                conforms(&Subject { model: &loaded, spec: &spec, batch_max, tolerance: 1e-6 });
            }
        }
    }
    let (_, regions) = server.ask("GET", "/v2/systemsharedmemory/status");
    assert!(!regions.contains("omma-oip-"), "a client that ends takes its regions along: {regions}");
}

#[test]
fn models_serve_whatever_happens_around_them() {
    let Some(server) = TritonServer::start(&["statistics_u8"]) else { return };
    for (url, shared_memory) in [
        (server.grpc(), SharedMemoryUse::Off),
        (server.grpc(), SharedMemoryUse::On),
        (server.http(), SharedMemoryUse::Off),
    ] {
        let load = || opened(&url, "statistics_u8", shared_memory).model;
        let spec = guess_spec(&load().info, None).expect("a picture");
        serves(&Served { load: &load, spec: &spec, batch_max: 8, tolerance: 1e-6 });
    }
    let (_, regions) = server.ask("GET", "/v2/systemsharedmemory/status");
    assert!(!regions.contains("omma-oip-"), "a client that ends takes its regions along: {regions}");
}

#[test]
fn what_does_not_fit_is_said_at_start() {
    let Some(server) = TritonServer::start(&["statistics_f32", "encoded"]) else { return };
    for url in [server.grpc(), server.http()] {
        let refused = |options: OpenInferenceOptions| open(options).err().expect("refused");
        let version = "9".to_owned();
        let table = [
            (options(&url, "nothing"), "no server has \"nothing\""),
            (OpenInferenceOptions { version, ..options(&url, "encoded") }, "no server has \"encoded\""),
            (
                options(&url, "encoded"),
                "its input \"images\" holds BYTES, expected UINT8, FP16 or FP32; for a model that decodes",
            ),
            (
                OpenInferenceOptions { send: Send::Picture, ..options(&url, "statistics_f32") },
                "its input \"images\" holds FP32, expected BYTES with send = \"picture\"",
            ),
        ];
        for (options, expected) in table {
            let error = refused(options);
            assert!(error.contains(expected), "{url}: {error}");
            assert!(error.contains("127.0.0.1"), "which server: {error}");
        }
        let model = opened(&url, "statistics_f32", SharedMemoryUse::Auto).model;
        let spec = guess_spec(&model.info, None).expect("a picture");
        assert_eq!((spec.size, spec.color.channels()), (Size { width: 24, height: 16 }, 3));
        assert_eq!(check(&model.info, &spec), Ok(()));
        let mut wide = spec.clone();
        wide.size.width = 32;
        let error = check(&model.info, &wide).expect_err("of another size");
        assert!(error.contains("`images`") && error.contains("24"), "{error}");
    }
}

#[test]
fn a_server_that_is_not_there_is_said_and_can_be_waited_for() {
    let error = open(options("grpc://127.0.0.1:1", "m")).err().expect("nobody listens");
    assert!(error.contains("no server has \"m\" (grpc://127.0.0.1:1: "), "{error}");
    assert!(error.contains("start_timeout_ms"), "{error}");
    let Some(mut server) = TritonServer::start(&["scripted"]) else { return };
    server.restart();
    let start_timeout = std::time::Duration::from_secs(60);
    let model = open(OpenInferenceOptions { start_timeout, ..options(&server.grpc(), "scripted") });
    assert!(model.is_ok(), "{:?}", model.err());
}

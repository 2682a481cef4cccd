//! A real Triton under load is killed, stopped, restarted, too busy, without the model: no frame is lost that can be
//! saved, each has one fate, and the others are served.
#![cfg(feature = "triton")]

mod triton_between;

use std::sync::Arc;
use std::time::Duration;

use omma_adapters::infer::open_inference::{
    OpenInferenceModel, OpenInferenceOptions, ServerUrl, SharedMemoryUse, open,
};
use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{AsyncBackend, BackendError, Opener, OwnedBatch};
use omma_engine::plan::Mode;
use omma_engine::tensor::BatchTensor;
use omma_frame::DropReason;
use omma_testkit::backend::{Answer, origins};
use omma_testkit::backend_async::wait;
use omma_testkit::doubles_picture::{OnInfer, Picture};
use omma_testkit::engine_rig::{Rig, Running, until};
use omma_testkit::redis_proxy::Proxy;
use omma_testkit::triton_server::TritonServer;
use triton_between::Between;

const CAMERAS: usize = 4;

fn options(servers: &[&TritonServer], model: &str) -> OpenInferenceOptions {
    let urls: Vec<ServerUrl> = servers.iter().map(|server| ServerUrl::parse(&server.grpc()).expect("a URL")).collect();
    // A restart may take a while on a busy machine.
    let deadline = Duration::from_secs(25);
    let one = OpenInferenceOptions::new(urls[0].clone(), model);
    OpenInferenceOptions { servers: urls, name: "model".to_owned(), deadline, ..one }
}

fn opened(options: OpenInferenceOptions) -> OpenInferenceModel {
    open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// An engine whose cameras keep every frame, served by these servers.
fn running(options: OpenInferenceOptions) -> Running {
    let deadline = options.deadline;
    let mut rig = Rig::new(CAMERAS, Delivery::Every, opened(options).model);
    let plan = &mut rig.models[0].0;
    (plan.mode, plan.deadline) = (Mode::Auto, deadline);
    plan.in_flight_frames_max = 64;
    rig.start().expect("starts")
}

/// The frames of one stretch of the load.
struct Load {
    next: u64,
}

impl Load {
    fn push(&mut self, running: &Running, frames: u64) {
        (0..CAMERAS).for_each(|camera| running.push_all(camera, self.next..self.next + frames));
        self.next += frames;
    }

    /// Waits until frames of now are through.
    fn flows(&mut self, running: &Running) {
        let before = running.total().published;
        self.push(running, 50);
        until("frames flow", || running.total().published > before + 20);
    }

    /// Every frame was published, in order; the rig has checked the order and the ledger.
    fn end(self, running: Running) {
        running.wait_settled();
        let stopped = running.stop();
        assert_eq!(stopped.report.counts.published, self.next * CAMERAS as u64, "{:?}", stopped.messages);
        assert_eq!(stopped.report.counts.dropped_total(), 0);
    }
}

#[test]
fn a_server_killed_under_load_and_restarted_costs_no_frame() {
    let Some(mut server) = TritonServer::start(&["scripted"]) else { return };
    let by_http = OpenInferenceOptions {
        servers: vec![ServerUrl::parse(&server.http()).expect("a URL")],
        ..options(&[&server], "scripted")
    };
    for options in [options(&[&server], "scripted"), by_http] {
        let running = running(OpenInferenceOptions { shared_memory: SharedMemoryUse::On, ..options });
        let mut load = Load { next: 0 };
        load.flows(&running);
        load.push(&running, 200);
        server.kill();
        load.push(&running, 100);
        until("it is missed", || running.said("model model", "does not serve it"));
        server.restart();
        until("it is back", || running.said("model model", "serves it again"));
        load.flows(&running);
        let (_, regions) = server.ask("GET", "/v2/systemsharedmemory/status");
        assert!(regions.contains("omma-oip-"), "the new server was told of the memory: {regions}");
        load.end(running);
    }
}

#[test]
fn a_server_stopped_under_load_costs_no_frame() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let running = running(options(&[&server], "scripted"));
    let mut load = Load { next: 0 };
    load.flows(&running);
    load.push(&running, 100);
    server.pause();
    load.push(&running, 100);
    until("it is missed", || running.said("model model", "it does not answer"));
    server.resume();
    load.flows(&running);
    load.end(running);
}

#[test]
fn a_connection_that_dies_in_silence_is_replaced_and_costs_no_frame() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let url = server.grpc();
    let (_, port) = url.rsplit_once(':').expect("a port");
    let proxy = Proxy::start(port.parse().expect("a number"));
    let servers = vec![ServerUrl::parse(&format!("grpc://127.0.0.1:{}", proxy.port())).expect("a URL")];
    let running = running(OpenInferenceOptions { servers, ..options(&[&server], "scripted") });
    let mut load = Load { next: 0 };
    load.flows(&running);
    proxy.lose();
    load.push(&running, 100);
    until("it is served by another connection", || running.said("model model", "serves it again"));
    load.flows(&running);
    load.end(running);
}

#[test]
fn a_server_that_hangs_before_it_knows_of_the_memory_costs_no_frame() {
    let (Some(first), Some(second)) = (TritonServer::start(&["scripted"]), TritonServer::start(&["scripted"])) else {
        return;
    };
    let options =
        OpenInferenceOptions { shared_memory: SharedMemoryUse::On, ..options(&[&first, &second], "scripted") };
    let running = running(options);
    let mut load = Load { next: 0 };
    second.pause();
    load.push(&running, 100);
    running.wait_settled();
    second.resume();
    load.end(running);
}

#[test]
fn several_servers_share_the_load_and_stand_in_for_one_another() {
    let (Some(mut first), Some(second)) = (TritonServer::start(&["scripted"]), TritonServer::start(&["scripted"]))
    else {
        return;
    };
    let running = running(options(&[&first, &second], "scripted"));
    let mut load = Load { next: 0 };
    load.push(&running, 200);
    running.wait_settled();
    let shares = [&first, &second].map(|server| server.executions("scripted"));
    assert!(
        shares.iter().all(|share| *share * 4 >= shares.iter().sum::<u64>()),
        "the least loaded is asked: {shares:?}"
    );
    load.push(&running, 200);
    first.kill();
    load.flows(&running);
    first.restart();
    until("it is back", || running.said("model model", "serves it again"));
    // Stopped, it keeps its connections; what is under way to it goes to the other one.
    load.push(&running, 200);
    second.pause();
    load.push(&running, 50);
    running.wait_settled();
    second.resume();
    load.end(running);
}

#[test]
fn a_refused_batch_fails_by_name_and_is_not_sent_again() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let running = running(options(&[&server], "scripted"));
    running.push(0, 0, Picture { infer: OnInfer::FailBatch, ..Picture::default() });
    running.wait_settled();
    let attempts = server.executions("scripted");
    running.push_all(0, 1..20);
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!((stopped.dropped(DropReason::BackendFailed), stopped.report.counts.published), (1, 19));
    assert!(stopped.said("model model", "told to fail"), "{:?}", stopped.messages);
    assert!(attempts <= 1, "the same again would fail again: {attempts} attempts");
}

/// A batch of one picture, asked of the client itself.
fn ask(model: &OpenInferenceModel) -> Result<Answer, BackendError> {
    let backend: &Arc<dyn AsyncBackend> = match &model.model.opener {
        Opener::Async(backend) => backend,
        Opener::Blocking(_) => panic!("a server is asked asynchronously"),
    };
    let spec = omma_adapters::infer::guess_spec(&model.model.info, None).expect("a picture");
    let tensor = BatchTensor::within(model.model.memory.as_ref(), 1, spec.slot_bytes());
    let batch = OwnedBatch { tensor, spec: Arc::new(spec), origins: origins(1), parameters: Arc::new([]) };
    let mut answer = Answer::default();
    let (_, ended) = wait(backend.infer(batch, &mut answer));
    ended.map(|()| answer)
}

#[test]
fn batches_are_given_up_at_their_deadline_and_the_next_are_served() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let deadline = Duration::from_millis(200);
    let running = running(OpenInferenceOptions { deadline, ..options(&[&server], "scripted") });
    let mut load = Load { next: 0 };
    load.flows(&running);
    running.wait_settled();
    server.pause();
    load.push(&running, 10);
    running.wait_settled();
    server.resume();
    load.flows(&running);
    running.wait_settled();
    let stopped = running.stop();
    let (late, published) = (stopped.dropped(DropReason::DeadlineExceeded), stopped.report.counts.published);
    assert_eq!(late + published, load.next * CAMERAS as u64, "{:?}", stopped.messages);
    assert!((10 * CAMERAS as u64..20 * CAMERAS as u64).contains(&late), "{late} were given up");
    assert!(stopped.said("model model", "no answer within 200 ms; grpc://"), "{:?}", stopped.messages);
}

#[test]
fn a_server_that_is_too_busy_is_asked_again() {
    let Some(server) = TritonServer::start(&["narrow"]) else { return };
    let ask_at_once = |retries_max| {
        let model = opened(OpenInferenceOptions { retries_max, ..options(&[&server], "narrow") });
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(&model).map(|_| ()))).collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller")).collect::<Vec<_>>()
        })
    };
    let refused: Vec<_> = ask_at_once(0).into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty(), "the queue has room for one");
    assert!(refused.iter().all(|error| error.message.contains("queue")), "{refused:?}");
    assert!(ask_at_once(20).iter().all(Result::is_ok));
}

#[test]
fn a_model_that_is_unloaded_for_a_while_costs_no_frame() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let between = Between::start(&server.http(), &[]);
    let servers = vec![between.url()];
    let running = running(OpenInferenceOptions { servers, retries_max: 0, ..options(&[&server], "scripted") });
    let mut load = Load { next: 0 };
    load.flows(&running);
    let asked = || between.passed("/infer") + between.passed("/ready");
    assert_eq!(server.ask("POST", "/v2/repository/models/scripted/unload").0, 200);
    let before = asked();
    load.push(&running, 50);
    until("it is missed", || running.said("model model", "does not serve it"));
    until("it is asked for in vain more than once", || asked() > before + 3);
    assert_eq!(server.ask("POST", "/v2/repository/models/scripted/load").0, 200);
    load.flows(&running);
    load.end(running);
}

#[test]
fn a_model_that_does_not_come_back_says_so_at_the_deadline() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let deadline = Duration::from_millis(500);
    let model = opened(OpenInferenceOptions { deadline, ..options(&[&server], "scripted") });
    assert!(ask(&model).is_ok());
    assert_eq!(server.ask("POST", "/v2/repository/models/scripted/unload").0, 200);
    until("it is missed", || {
        ask(&model).is_err_and(|error| {
            assert_eq!(error.reason, DropReason::DeadlineExceeded, "{error}");
            error.message.starts_with("no answer within 500 ms; grpc://") && error.message.contains("model")
        })
    });
}

/// An engine served by both, and the load that it has.
fn beside(sound: &TritonServer, other: ServerUrl) -> (Running, Load) {
    let servers = vec![other, ServerUrl::parse(&sound.http()).expect("a URL")];
    (running(OpenInferenceOptions { servers, ..options(&[sound], "scripted") }), Load { next: 0 })
}

#[test]
fn a_server_that_refuses_what_another_takes_costs_no_frame_and_is_set_aside() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let broken = Between::start(&server.http(), &[("/infer", 500, "{\"error\":\"out of memory\"}")]);
    let (running, mut load) = beside(&server, broken.url());
    for _ in 0..20 {
        load.push(&running, 50);
        running.wait_settled();
    }
    assert!(running.said("model model", "refuses what others take: out of memory; it is set aside"));
    assert!(broken.ruled() < 100, "it has no traffic but a try now and then: {}", broken.ruled());
    load.end(running);
}

#[test]
fn a_server_that_takes_no_shared_memory_is_sent_tensors_beside_one_that_does() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let refusal = "{\"error\":\"Unable to open shared memory region: 'omma'\"}";
    let contained = Between::start(&server.http(), &[("/register", 400, refusal)]);
    let (running, mut load) = beside(&server, contained.url());
    for _ in 0..5 {
        load.push(&running, 50);
        running.wait_settled();
    }
    assert!(contained.passed("/infer") > 10, "it has its share: {}", contained.passed("/infer"));
    let (_, regions) = server.ask("GET", "/v2/systemsharedmemory/status");
    assert!(regions.contains("omma-oip-"), "the other one shares memory: {regions}");
    load.end(running);
    let servers = vec![ServerUrl::parse(&server.http()).expect("a URL"), contained.url()];
    let shared_memory = SharedMemoryUse::On;
    let refused = open(OpenInferenceOptions { servers, shared_memory, ..options(&[&server], "scripted") });
    let error = refused.err().expect("it takes none");
    assert!(error.contains(&format!("{} does not take it: Unable to open", contained.url())), "{error}");
}

#[test]
fn another_model_by_the_same_name_is_an_error_at_start_and_gets_no_batch_later() {
    let Some(server) = TritonServer::start(&["scripted"]) else { return };
    let (_, metadata) = server.ask("GET", "/v2/models/scripted");
    let other = metadata.replace("[-1,2,4,1]", "[-1,2,2,2]");
    assert_ne!(metadata, other);
    let rules = [("GET /v2/models/scripted HTTP", 200, other.as_str())];
    let expected = "its input is UINT8 \"images\" [any, 2, 2, 2], expected UINT8 \"images\" [any, 2, 4, 1]";
    let late = {
        let different = Between::start(&server.http(), &rules);
        let servers = vec![ServerUrl::parse(&server.http()).expect("a URL"), different.url()];
        let error = open(OpenInferenceOptions { servers, ..options(&[&server], "scripted") }).err().expect("refused");
        assert!(error.contains(&format!("on {}: {expected}", different.url())), "which server, and what: {error}");
        different.url()
    };
    // Nobody is there when omma starts.
    let (running, mut load) = beside(&server, late.clone());
    load.flows(&running);
    let different = Between::at(late.port, &server.http(), &rules);
    until("it is asked what it has", || different.ruled() > 0);
    for _ in 0..5 {
        load.push(&running, 50);
        running.wait_settled();
    }
    assert_eq!(different.passed("/infer"), 0);
    load.end(running);
}

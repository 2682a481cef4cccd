//! The direct API over real connections, against a real engine with a scripted model: pictures of eight bytes, of which
//! the model gives two numbers each.

mod bounds;
mod grpc;
mod http;
mod memory;
mod versions;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{Device, LoadedModel, TensorInfo};
use omma_engine::tensor::DType;
use omma_server::{ApiLimits, Server, ServerOptions, Watched};
use omma_testkit::doubles_backend::{Gate, Model, Turn};
use omma_testkit::doubles_picture::Picture;
use omma_testkit::engine_rig::{Rig, Running};

/// A server with an engine behind it.
struct Served {
    server: Server,
    running: Running,
}

fn loaded(model: &Arc<Model>) -> LoadedModel {
    let mut loaded = model.blocking(Device::Cpu);
    let info = |name: &str, dtype, shape| TensorInfo { name: name.to_owned(), dtype, shape };
    loaded.info.inputs = vec![info("images", DType::U8, vec![None, Some(2), Some(4), Some(1)])];
    loaded.info.outputs = vec![info("out", DType::I64, vec![None, Some(2)])];
    loaded
}

fn options() -> ServerOptions {
    let address = || Some("127.0.0.1:0".to_owned());
    let api = ApiLimits { client_shared_memory: true, request_bytes_max: 1 << 20, ..ApiLimits::default() };
    ServerOptions {
        http: address(),
        grpc: address(),
        api,
        encode: Arc::new(|result, out| out.extend(format!("{:?}", result.outcome).into_bytes())),
        ..ServerOptions::default()
    }
}

impl Served {
    fn start() -> Self {
        Self::with(&Model::new(|_| Turn::Answer), &options())
    }

    fn with(model: &Arc<Model>, options: &ServerOptions) -> Self {
        Self::of(loaded(model), options)
    }

    fn of(loaded: LoadedModel, options: &ServerOptions) -> Self {
        let running = Rig::new(2, Delivery::Every, loaded).start().expect("starts");
        let watched = Watched::default();
        watched.show(running.engine.shared());
        Self { server: Server::start(options, watched).expect("free ports"), running }
    }

    /// Whose model is held until the gate opens.
    fn held() -> (Self, Gate) {
        let gate = Gate::default();
        let hold = gate.clone();
        (Self::with(&Model::new(move |_| Turn::Wait(hold.clone())), &options()), gate)
    }

    fn http(&self) -> SocketAddr {
        self.server.http().expect("listens")
    }

    fn grpc(&self) -> SocketAddr {
        self.server.grpc().expect("listens")
    }

    /// The server goes first, so that nothing comes to an engine that drains.
    fn stop(self) {
        drop(self.server);
        let _ = self.running.stop();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
}

/// One request on a connection of its own; `head` without the length and the end.
fn ask(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = connect(address);
    let (line, rest) = head.split_once('\n').unwrap_or((head, ""));
    let rest: String = rest.lines().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: omma\r\nConnection: close\r\nContent-Length: {length}\r\n{rest}\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    // A server that refuses a body closes before it has all of it.
    let _ = stream.write_all(body);
    answer(stream)
}

fn answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    // An answer before a close that loses what was not read: what has come counts.
    let _ = stream.read_to_end(&mut bytes);
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body: bytes[at + 4..].to_vec() }
}

/// The values of pictures, as a request's tensor has them.
fn pictures(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|&value| Picture { value, ..Picture::default() }.bytes().to_vec()).collect()
}

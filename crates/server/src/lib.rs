//! The control plane and the direct API: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever keeps the process
//! alive, and inference on request over HTTP and gRPC ([`api`]).
//!
//! A few threads with a runtime of their own, none of which is the data plane's. The pages read atomics, and once per
//! scrape the lock of the stage histograms, which the data plane takes once per hundred frames; a direct request takes a
//! model's desk lock once. Connections, heads, bodies, requests at once and times are bounded ([`connections`]), so that
//! clients who say nothing, or too much, cost little and hold up no frame.
//!
//! What is absent: authentication and TLS. It listens where the configuration says, by default on the loopback only.

pub mod api;
mod connections;
mod grpc;
mod http;
pub mod metrics;
mod text;
mod watched;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use omma_engine::threads::{Begin, Role};

pub use api::{Api, ApiLimits, Encode};
pub use connections::IDLE_MAX;
pub use grpc::message;
pub use http::multipart;
pub use watched::Watched;

/// Where to listen, and how much to say.
#[derive(Clone)]
pub struct ServerOptions {
    /// `HOST:PORT`; port 0 picks a free one. `None`: no HTTP.
    pub http: Option<String>,
    /// As `http`, for gRPC.
    pub grpc: Option<String>,
    /// Cameras that have series of their own in `/metrics`; of further ones only the totals show.
    pub camera_series_max: usize,
    pub api: ApiLimits,
    /// Connections at once, on each of the two.
    pub connections_max: usize,
    pub threads: usize,
    /// Called on each thread as it begins.
    pub begin_thread: Begin,
    /// Writes the answers of `predict`.
    pub encode: Encode,
}

impl ServerOptions {
    /// The default of `camera_series_max`: some ten thousand lines a scrape.
    pub const CAMERA_SERIES_MAX: usize = 2000;
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            http: None,
            grpc: None,
            camera_series_max: Self::CAMERA_SERIES_MAX,
            api: ApiLimits::default(),
            connections_max: 1024,
            threads: 2,
            begin_thread: omma_engine::threads::leave,
            encode: Arc::new(|_, _| {}),
        }
    }
}

/// Why the server could not start.
#[derive(Debug)]
pub struct ServerError {
    pub what: &'static str,
    pub address: String,
    pub error: io::Error,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serve {} on {}: {}", self.what, self.address, self.error)?;
        if self.error.kind() == io::ErrorKind::AddrInUse {
            f.write_str("; another process listens there, choose another port or \"off\"")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// A running server. Dropping it closes the ports and waits a moment for its threads.
pub struct Server {
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Listens, then serves on threads of its own. `watched` may learn of the engine later: until then the process is
    /// healthy but not ready.
    ///
    /// # Errors
    /// An address cannot be listened on, or a thread cannot be started.
    pub fn start(options: &ServerOptions, watched: Watched) -> Result<Self, ServerError> {
        let begin = options.begin_thread;
        let failed = |what: &'static str, address: &Option<String>| {
            let address = address.clone().unwrap_or_default();
            move |error| ServerError { what, address, error }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("omma-api")
            .on_thread_start(move || begin(Role::Relay))
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed("http", &options.http))?;
        let listen = |what: &'static str, address: &Option<String>| {
            let Some(at) = address else { return Ok(None) };
            let listener = TcpListener::bind(at).map_err(failed(what, address))?;
            listener.set_nonblocking(true).map_err(failed(what, address))?;
            let local = listener.local_addr().map_err(failed(what, address))?;
            // Registers with the runtime's reactor.
            let _entered = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed(what, address))?;
            Ok(Some((listener, local)))
        };
        let (http, grpc) = (listen("http", &options.http)?, listen("grpc", &options.grpc)?);
        let api = Api::new(watched.clone(), options.api, Arc::clone(&options.encode));
        let addresses = (http.as_ref().map(|(_, at)| *at), grpc.as_ref().map(|(_, at)| *at));
        if let Some((listener, _)) = http {
            let routes = http::routes(watched, options.camera_series_max, Arc::clone(&api));
            // What a request and its answer may take, and a while to fetch the answer.
            let stalled_max = options.api.timeout * 2 + IDLE_MAX;
            let protocol = connections::Protocol::Http1;
            let connections = connections::Connections::new(options.connections_max, protocol, stalled_max);
            let budget = Arc::clone(&api.budget);
            runtime.spawn(connections::serve(listener, protocol, connections, budget, routes));
        }
        if let Some((listener, _)) = grpc {
            let stalled_max = options.api.timeout * 2 + grpc::stream::IDLE_MAX;
            let protocol = connections::Protocol::Http2;
            let connections = connections::Connections::new(options.connections_max, protocol, stalled_max);
            let budget = Arc::clone(&api.budget);
            runtime.spawn(connections::serve(listener, protocol, connections, budget, grpc::service(api)));
        }
        Ok(Self { http: addresses.0, grpc: addresses.1, runtime: Some(runtime) })
    }

    /// Where it listens for HTTP; with the port that was picked.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where it listens for gRPC; with the port that was picked.
    #[must_use]
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Requests in progress are cut off at a stop: the process is going away.
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

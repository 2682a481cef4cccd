//! The control plane over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever keeps the process alive.
//!
//! One thread with a runtime of its own. It reads atomics, and once per scrape the lock of the stage histograms, which
//! the data plane takes once per hundred frames; nothing that it does can hold up a frame. At most
//! [`CONNECTIONS_MAX`] connections, each closed after [`CONNECTION_AGE_MAX`], so that clients that say nothing cost
//! nothing.
//!
//! What is absent: authentication and TLS. It listens where the configuration says, by default on the loopback only.

mod connections;
pub mod metrics;
mod routes;
mod text;
mod watched;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use connections::{CONNECTION_AGE_MAX, CONNECTIONS_MAX};
pub use watched::Watched;

/// Where to listen, and how much to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// `HOST:PORT`; port 0 picks a free one.
    pub address: String,
    /// Cameras that have series of their own in `/metrics`; of further ones only the totals show.
    pub camera_series_max: usize,
}

impl ServerOptions {
    /// The default of `camera_series_max`: some ten thousand lines a scrape.
    pub const CAMERA_SERIES_MAX: usize = 2000;
}

/// Why the server could not start.
#[derive(Debug)]
pub struct ServerError {
    pub address: String,
    pub error: io::Error,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serve http on {}: {}", self.address, self.error)?;
        if self.error.kind() == io::ErrorKind::AddrInUse {
            f.write_str("; another process listens there, choose another port or \"off\"")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// A running server. Dropping it closes the port and waits for its thread.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, then serves on a thread of its own. `watched` may learn of the engine later: until then the process is
    /// healthy but not ready.
    ///
    /// # Errors
    /// The address cannot be listened on, or the thread cannot be started.
    pub fn start(options: &ServerOptions, watched: Watched) -> Result<Self, ServerError> {
        let failed = |error| ServerError { address: options.address.clone(), error };
        let listener = TcpListener::bind(&options.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = routes::routes(watched, options.camera_series_max);
        let serve = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let listener = connections::Limited::new(listener);
                let serving = axum::serve(listener, routes).into_future();
                // Whichever comes first. Requests in progress are cut off at a stop: the process is going away.
                tokio::select! {
                    _ = serving => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("omma-http".to_owned()).spawn(serve).map_err(failed)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens; with the port that was picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has printed its own message, and the process is on its way out.
            let _ = thread.join();
        }
    }
}

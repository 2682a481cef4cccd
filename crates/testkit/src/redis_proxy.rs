//! A network between a client and a server that cuts, delays and truncates, as a test says.
//!
//! Two threads for each connection: a test's tool. What it does to bytes it does in the direction of the answers;
//! commands pass, except when the network is cut or frozen.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What the network does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Passes,
    /// Connections break, and new ones break at once.
    Cut,
    /// Nothing arrives any more, and nobody is told.
    Frozen,
    /// Answers take this much longer.
    Slow(Duration),
    /// The connection breaks after this many more bytes of answers, and then passes again.
    BreaksAfter(u64),
}

/// How often a waiting thread looks whether things have changed.
const GLANCE: Duration = Duration::from_millis(5);

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: u16,
    network: Mutex<Network>,
    stopping: AtomicBool,
    connections: AtomicU64,
    /// Connections up to this number carry nothing any more.
    lost: AtomicU64,
    answered_bytes: AtomicU64,
}

impl Proxy {
    /// In front of a server's port on the loopback.
    ///
    /// # Panics
    /// The loopback gives no port.
    #[must_use]
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            upstream,
            network: Mutex::new(Network::Passes),
            stopping: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            answered_bytes: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            let mut ways: Vec<JoinHandle<()>> = Vec::new();
            for client in listener.incoming() {
                if serving.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                if *serving.network.lock() == Network::Cut {
                    continue;
                }
                let number = serving.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let Ok(server) = TcpStream::connect(("127.0.0.1", serving.upstream)) else { continue };
                let ends = [client.try_clone(), server.try_clone()];
                let [Ok(client_too), Ok(server_too)] = ends else { continue };
                let (there, back) = (Arc::clone(&serving), Arc::clone(&serving));
                ways.push(std::thread::spawn(move || there.carry(number, &client, &server, false)));
                ways.push(std::thread::spawn(move || back.carry(number, &server_too, &client_too, true)));
            }
            ways.into_iter().for_each(|way| drop(way.join()));
        });
        Self { port, shared, listener: Some(listener) }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The connections of now carry nothing any more, and nobody is told; new ones pass.
    pub fn lose(&self) {
        self.shared.lost.store(self.connections(), Ordering::SeqCst);
    }

    pub fn set(&self, network: Network) {
        *self.shared.network.lock() = network;
    }

    #[must_use]
    pub fn network(&self) -> Network {
        *self.shared.network.lock()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes of answers so far.
    #[must_use]
    pub fn answered_bytes(&self) -> u64 {
        self.shared.answered_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

impl Shared {
    /// Until either end goes or the network breaks.
    fn carry(&self, number: u64, from: &TcpStream, to: &TcpStream, answers: bool) {
        // Ends are broken on purpose here.
        let _ = self.carry_bytes(number, from, to, answers);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn carry_bytes(&self, number: u64, mut from: &TcpStream, mut to: &TcpStream, answers: bool) -> io::Result<()> {
        from.set_read_timeout(Some(GLANCE))?;
        to.set_nodelay(true)?;
        let mut buffer = vec![0; 64 << 10];
        while !self.stopping.load(Ordering::SeqCst) {
            let network = *self.network.lock();
            match network {
                Network::Cut => return Ok(()),
                Network::Frozen => {
                    std::thread::sleep(GLANCE);
                    continue;
                }
                _ => {}
            }
            if number <= self.lost.load(Ordering::SeqCst) {
                std::thread::sleep(GLANCE);
                continue;
            }
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(error) => return Err(error),
            };
            if !answers {
                to.write_all(&buffer[..count])?;
                continue;
            }
            // What the network is now, not what it was when the wait for these bytes began.
            let mut network = self.network.lock();
            match *network {
                Network::BreaksAfter(left) if left <= count as u64 => {
                    *network = Network::Passes;
                    drop(network);
                    to.write_all(&buffer[..usize::try_from(left).unwrap_or(count)])?;
                    return Ok(());
                }
                Network::BreaksAfter(left) => {
                    *network = Network::BreaksAfter(left - count as u64);
                    drop(network);
                }
                Network::Slow(delay) => {
                    drop(network);
                    let due = Instant::now() + delay;
                    while Instant::now() < due && !self.stopping.load(Ordering::SeqCst) {
                        std::thread::sleep(GLANCE.min(due.saturating_duration_since(Instant::now())));
                    }
                }
                _ => drop(network),
            }
            self.answered_bytes.fetch_add(count as u64, Ordering::SeqCst);
            to.write_all(&buffer[..count])?;
        }
        Ok(())
    }
}

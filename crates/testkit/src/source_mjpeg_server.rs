//! An IP camera's HTTP server on the loopback that behaves, and misbehaves, as a test's script says.
//!
//! A thread for each connection: this is a test's tool, not an engine's. Whatever a script does ends when the client
//! goes or the server is dropped.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

/// What a connection's script does, step by step; after the last one the server closes the connection.
#[derive(Debug, Clone)]
pub enum Act {
    Send(Vec<u8>),
    /// Sends this again and again until the client goes.
    Flood(Vec<u8>),
    /// Sends nothing more and keeps the connection open.
    Stall,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which connection of this server it came on, from 0.
    pub connection: u64,
    pub text: String,
}

impl Request {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

type Script = dyn Fn(&Request) -> Vec<Act> + Send + Sync;

/// How often a waiting thread looks whether the server is still wanted.
const GLANCE: Duration = Duration::from_millis(20);

pub struct MjpegServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    stopping: AtomicBool,
    /// Connections that a client has not left yet.
    open: AtomicU64,
    sent_bytes: AtomicU64,
    requests: Mutex<Vec<Request>>,
    script: Box<Script>,
}

impl MjpegServer {
    /// Serves on a free port of the loopback; `script` says what each request is answered with.
    ///
    /// # Panics
    /// The loopback gives no port.
    pub fn start(script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            open: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            requests: Mutex::default(),
            script: Box::new(script),
        });
        let serving = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            let mut connections: Vec<JoinHandle<()>> = Vec::new();
            for (number, stream) in (0..).zip(listener.incoming()) {
                if serving.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), serving) = (stream, Arc::clone(&serving)) else { continue };
                serving.open.fetch_add(1, Ordering::SeqCst);
                connections.push(std::thread::spawn(move || {
                    // A client that goes in the middle is what tests do.
                    let _ = serving.serve(&stream, number);
                    let _ = stream.shutdown(Shutdown::Both);
                    serving.open.fetch_sub(1, Ordering::SeqCst);
                }));
            }
            connections.into_iter().for_each(|connection| drop(connection.join()));
        });
        Self { address, shared, listener: Some(listener) }
    }

    /// A server each of whose connections shows these pictures and then does `end`.
    pub fn showing(pictures: Vec<Vec<u8>>, end: Act) -> Self {
        Self::start(move |_| {
            let mut stream = head("frame");
            pictures.iter().for_each(|picture| stream.extend(part("frame", picture)));
            vec![Act::Send(stream), end.clone()]
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().clone()
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Bytes that clients (or the system's buffers for them) have taken.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for MjpegServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream, connection: u64) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        stream.set_write_timeout(Some(GLANCE))?;
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            match self.patiently(|| (&mut &*stream).read(&mut buffer))? {
                0 => return Ok(()),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
        let request = Request { connection, text: String::from_utf8_lossy(&text).into_owned() };
        self.requests.lock().push(request.clone());
        for act in (self.script)(&request) {
            match act {
                Act::Send(bytes) => self.send(stream, &bytes)?,
                Act::Flood(bytes) => loop {
                    self.send(stream, &bytes)?;
                },
                Act::Stall => while self.patiently(|| (&mut &*stream).read(&mut buffer))? > 0 {},
            }
        }
        Ok(())
    }

    fn send(&self, mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.patiently(|| stream.write(bytes))?;
            self.sent_bytes.fetch_add(count as u64, Ordering::SeqCst);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Tries until it succeeds, fails, or the server is to stop.
    fn patiently(&self, mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match attempt() {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.stopping.load(Ordering::SeqCst) {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }
}

/// The header of a stream by the book.
#[must_use]
pub fn head(boundary: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={boundary}\r\n\r\n--{boundary}\r\n")
        .into_bytes()
}

/// A part by the book, with the delimiter that follows it.
#[must_use]
pub fn part(boundary: &str, picture: &[u8]) -> Vec<u8> {
    let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
    [head.as_bytes(), picture, format!("\r\n--{boundary}\r\n").as_bytes()].concat()
}

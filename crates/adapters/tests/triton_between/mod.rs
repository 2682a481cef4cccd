//! Something that stands in front of a Triton's HTTP port and answers some requests itself: a server that is not like others.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use omma_adapters::infer::open_inference::ServerUrl;
use parking_lot::Mutex;

/// How a request line goes on, and the status and the body that such a request is answered with.
type Rule = (String, u16, String);

pub struct Between {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: String,
    rules: Vec<Rule>,
    stopping: AtomicBool,
    ruled: AtomicU64,
    /// The request lines that went to the server.
    passed: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
}

impl Between {
    /// In front of a server, with what it answers itself: part of a request line, status, body.
    pub fn start(upstream: &str, rules: &[(&str, u16, &str)]) -> Self {
        Self::at(0, upstream, rules)
    }

    /// On a port of the caller's choice.
    pub fn at(port: u16, upstream: &str, rules: &[(&str, u16, &str)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
        let port = listener.local_addr().expect("an address").port();
        let rules =
            rules.iter().map(|(part, status, body)| ((*part).to_owned(), *status, (*body).to_owned())).collect();
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            rules,
            stopping: AtomicBool::new(false),
            ruled: AtomicU64::new(0),
            passed: Mutex::default(),
            connections: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            let mut served = Vec::new();
            for client in listener.incoming().map_while(Result::ok) {
                if serving.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let serving = Arc::clone(&serving);
                // A connection that breaks ends; its client makes another.
                served.push(std::thread::spawn(move || drop(serving.serve(client))));
            }
            served.into_iter().for_each(|connection| drop(connection.join()));
        });
        Self { port, shared, listener: Some(listener) }
    }

    pub fn url(&self) -> ServerUrl {
        ServerUrl::parse(&format!("http://127.0.0.1:{}", self.port)).expect("a URL")
    }

    /// Requests that were answered here.
    pub fn ruled(&self) -> u64 {
        self.shared.ruled.load(Ordering::SeqCst)
    }

    /// Requests that went to the server whose line has this in it.
    pub fn passed(&self, part: &str) -> usize {
        self.shared.passed.lock().iter().filter(|line| line.contains(part)).count()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.shared.connections.lock().drain(..).for_each(|end| drop(end.shutdown(Shutdown::Both)));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.upstream)?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            self.connections.lock().push(end.try_clone()?);
        }
        let (mut from_client, mut from_server) = (BufReader::new(&client), BufReader::new(&server));
        while let Some(request) = message(&mut from_client)? {
            let text = String::from_utf8_lossy(&request);
            let line = text.lines().next().unwrap_or_default();
            let answer = match self.rules.iter().find(|(part, ..)| line.contains(part.as_str())) {
                Some((_, status, body)) => {
                    self.ruled.fetch_add(1, Ordering::SeqCst);
                    format!("HTTP/1.1 {status} Ruled\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
                }
                None => {
                    self.passed.lock().push(line.to_owned());
                    (&server).write_all(&request)?;
                    message(&mut from_server)?.ok_or(io::ErrorKind::UnexpectedEof)?
                }
            };
            (&client).write_all(&answer)?;
        }
        Ok(())
    }
}

/// One head with its body; `None` at the end.
fn message(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let (mut whole, mut length) = (Vec::new(), 0);
    loop {
        let start = whole.len();
        if from.read_until(b'\n', &mut whole)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&whole[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    from.take(length).read_to_end(&mut whole)?;
    Ok(Some(whole))
}

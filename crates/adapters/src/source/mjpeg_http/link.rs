//! One camera's connection: waiting, looking up, connecting, asking, receiving, and back to waiting when it fails. Its
//! socket never blocks; whoever calls brings the time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use omma_frame::{CameraIndex, Mono};

use super::super::Keep;
use super::auth::Scheme;
use super::backoff::Backoff;
use super::multipart::{Fault, Limits, ParseError, Parser};
use super::resolve::Resolver;
use super::url::Url;

/// Reads of one camera in a row before the others have their turn.
const READS_MAX: usize = 4;

/// What all cameras of a source have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub connect_timeout: Duration,
    pub picture_timeout: Duration,
}

pub(super) struct Link {
    pub camera: CameraIndex,
    pub url: Url,
    pub keep: Keep,
    /// When something must have happened.
    pub deadline: Mono,
    /// Complete pictures with their numbers, oldest first: one for a live camera, what one read completed otherwise.
    pub ready: VecDeque<(u64, Bytes)>,
    next: u64,
    phase: Phase,
    place: usize,
    attempt: u64,
    backoff: Backoff,
    limits: Limits,
    auth: Option<Scheme>,
    /// The last request carried the answer to the camera's newest challenge.
    auth_tried: bool,
    /// Pictures on this connection.
    pictures: u64,
    /// The camera has closed its side: read up to the end, although reads come up short.
    pub hung_up: bool,
}

enum Phase {
    Waiting,
    Resolving,
    Connecting { stream: TcpStream, to: SocketAddr, others: std::vec::IntoIter<SocketAddr> },
    Sending { stream: TcpStream, request: Vec<u8>, sent: usize },
    Receiving { stream: TcpStream, parser: Box<Parser> },
}

/// Why an attempt is over.
#[derive(Debug)]
pub(super) struct Failure {
    /// `None`: nothing to report, the next attempt begins at once.
    pub message: Option<String>,
    /// Trying again soon will not help.
    lasting: bool,
}

impl Failure {
    fn new(message: String) -> Self {
        Self { message: Some(message), lasting: false }
    }
}

/// What a turn of reading left behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The socket is empty; it will say when it is not.
    Drained,
    /// There may be more.
    More,
}

impl Link {
    pub fn new(
        camera: CameraIndex,
        url: Url,
        keep: Keep,
        place: usize,
        limits: Limits,
        backoff: Backoff,
        now: Mono,
    ) -> Self {
        Self {
            camera,
            url,
            keep,
            deadline: now,
            ready: VecDeque::new(),
            next: 0,
            phase: Phase::Waiting,
            place,
            attempt: 0,
            backoff,
            limits,
            auth: None,
            auth_tried: false,
            pictures: 0,
            hung_up: false,
        }
    }

    pub fn is_receiving(&self) -> bool {
        matches!(self.phase, Phase::Receiving { .. })
    }

    /// The deadline has passed: begins an attempt if it was waiting for one, or fails the one that takes too long.
    pub fn expire(
        &mut self,
        registry: &Registry,
        resolver: Option<&Resolver>,
        now: Mono,
        timing: Timing,
    ) -> Result<(), Failure> {
        let seconds = |timeout: Duration| timeout.as_secs_f64();
        match &mut self.phase {
            Phase::Waiting => self.start(registry, resolver, now, timing),
            Phase::Resolving => Err(Failure::new(format!(
                "the name {:?} was not looked up within {:.1} s",
                self.url.host,
                seconds(timing.connect_timeout)
            ))),
            Phase::Connecting { to, others, .. } => {
                let slow =
                    Failure::new(format!("no connection to {to} within {:.1} s", seconds(timing.connect_timeout)));
                let others = std::mem::take(others);
                self.connect(registry, others, slow, now, timing)
            }
            Phase::Sending { .. } => {
                Err(Failure::new(format!("the request was not taken within {:.1} s", seconds(timing.picture_timeout))))
            }
            Phase::Receiving { parser, .. } => Err(Failure::new(format!(
                "no picture for {:.1} s, after {} pictures and {} bytes on this connection",
                seconds(timing.picture_timeout),
                self.pictures,
                parser.offset()
            ))),
        }
    }

    fn start(
        &mut self,
        registry: &Registry,
        resolver: Option<&Resolver>,
        now: Mono,
        timing: Timing,
    ) -> Result<(), Failure> {
        self.attempt += 1;
        self.pictures = 0;
        self.hung_up = false;
        if let Ok(address) = self.url.host.parse::<IpAddr>() {
            let none = Failure::new("no address to connect to".into());
            return self.connect(
                registry,
                vec![SocketAddr::new(address, self.url.port)].into_iter(),
                none,
                now,
                timing,
            );
        }
        if !resolver.is_some_and(|resolver| resolver.ask(self.place, self.attempt, &self.url.host, self.url.port)) {
            return Err(Failure::new(format!(
                "the name {:?} waits behind too many others that are looked up",
                self.url.host
            )));
        }
        self.phase = Phase::Resolving;
        self.deadline = now.plus(timing.connect_timeout);
        Ok(())
    }

    /// The addresses of the camera's name have come.
    pub fn resolved(
        &mut self,
        attempt: u64,
        addresses: io::Result<Vec<SocketAddr>>,
        registry: &Registry,
        now: Mono,
        timing: Timing,
    ) -> Result<(), Failure> {
        if !matches!(self.phase, Phase::Resolving) || attempt != self.attempt {
            return Ok(());
        }
        let failed = |why: String| Failure::new(format!("cannot look up the name {:?}: {why}", self.url.host));
        let addresses = addresses.map_err(|error| failed(error.to_string()))?;
        let none = failed("it has no address".into());
        self.connect(registry, addresses.into_iter(), none, now, timing)
    }

    /// Begins to connect to the first address that can be tried; `failure` if there is none.
    fn connect(
        &mut self,
        registry: &Registry,
        mut addresses: std::vec::IntoIter<SocketAddr>,
        mut failure: Failure,
        now: Mono,
        timing: Timing,
    ) -> Result<(), Failure> {
        while let Some(to) = addresses.next() {
            let begun = TcpStream::connect(to).and_then(|mut stream| {
                registry.register(&mut stream, mio::Token(self.place), Interest::READABLE | Interest::WRITABLE)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    self.phase = Phase::Connecting { stream, to, others: addresses };
                    self.deadline = now.plus(timing.connect_timeout);
                    return Ok(());
                }
                Err(error) => failure = Failure::new(format!("cannot connect to {to}: {error}")),
            }
        }
        Err(failure)
    }

    /// The socket has news: completes connecting and asking. Pictures are read by [`Self::pump`].
    pub fn advance(&mut self, registry: &Registry, now: Mono, timing: Timing) -> Result<(), Failure> {
        if let Phase::Connecting { stream, to, others } = &mut self.phase {
            let error = match (stream.take_error(), stream.peer_addr()) {
                (Ok(Some(error)) | Err(error), _) => error,
                (Ok(None), Ok(_)) => {
                    let request = self.request();
                    let Phase::Connecting { stream, .. } = std::mem::replace(&mut self.phase, Phase::Waiting) else {
                        return Ok(());
                    };
                    self.phase = Phase::Sending { stream, request, sent: 0 };
                    self.deadline = now.plus(timing.picture_timeout);
                    return self.send();
                }
                // News of something else: still on its way.
                (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                (Ok(None), Err(error)) => error,
            };
            let failure = Failure::new(format!("cannot connect to {to}: {error}"));
            let others = std::mem::take(others);
            return self.connect(registry, others, failure, now, timing);
        }
        self.send()
    }

    fn request(&mut self) -> Vec<u8> {
        let Url { target, .. } = &self.url;
        let host = self.url.authority();
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: omma/{}\r\nAccept: multipart/x-mixed-replace, image/jpeg\r\n",
            env!("CARGO_PKG_VERSION")
        );
        if let (Some(scheme), Some(credentials)) = (&mut self.auth, &self.url.credentials) {
            let fresh = self.backoff.random();
            request.push_str(&format!("Authorization: {}\r\n", scheme.answer(credentials, target, fresh)));
        }
        request.push_str("Connection: close\r\n\r\n");
        request.into_bytes()
    }

    fn send(&mut self) -> Result<(), Failure> {
        let Phase::Sending { stream, request, sent } = &mut self.phase else { return Ok(()) };
        while *sent < request.len() {
            match stream.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Failure::new(format!("the camera took no request: {error}"))),
            }
        }
        if let Phase::Sending { stream, .. } = std::mem::replace(&mut self.phase, Phase::Waiting) {
            self.phase = Phase::Receiving { stream, parser: Box::new(Parser::new(self.limits)) };
        }
        Ok(())
    }

    /// Reads what is there, a bounded number of times, and says how many bytes that were.
    pub fn pump(&mut self, buffer: &mut [u8], now: Mono, timing: Timing) -> Result<(Pumped, usize), Failure> {
        let Phase::Receiving { stream, parser } = &mut self.phase else { return Ok((Pumped::Drained, 0)) };
        let (ready, next, pictures, keep) = (&mut self.ready, &mut self.next, &mut self.pictures, self.keep);
        let mut read = 0;
        for _ in 0..READS_MAX {
            if keep == Keep::All && !ready.is_empty() {
                return Ok((Pumped::More, read));
            }
            let count = match stream.read(buffer) {
                Ok(0) => {
                    let skipped = match parser.skipped_bytes() {
                        0 => String::new(),
                        bytes => format!(", {bytes} of which belonged to no picture"),
                    };
                    let at = parser.offset();
                    let message =
                        format!("the camera closed the connection after {pictures} pictures and {at} bytes{skipped}");
                    return Err(Failure::new(message));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((Pumped::Drained, read)),
                Err(error) => {
                    let at = parser.offset();
                    return Err(Failure::new(format!(
                        "the connection broke after {pictures} pictures and {at} bytes: {error}"
                    )));
                }
            };
            read += count;
            let before = *next;
            let parsed = parser.feed(&buffer[..count], |bytes| {
                if keep == Keep::Newest {
                    // The newest wins; the gap in the numbers shows the one before.
                    ready.clear();
                }
                ready.push_back((*next, bytes));
                *next += 1;
            });
            if *next > before {
                *pictures += *next - before;
                self.deadline = now.plus(timing.picture_timeout);
                self.backoff.succeeded();
                self.auth_tried = false;
            }
            if let Err(error) = parsed {
                return Err(self.refused(error));
            }
            if count < buffer.len() && !self.hung_up {
                return Ok((Pumped::Drained, read));
            }
        }
        Ok((Pumped::More, read))
    }

    /// What a response that is no stream of pictures means for the next attempt.
    fn refused(&mut self, error: ParseError) -> Failure {
        let Fault::Status { code, authenticate, .. } = &error.fault else { return Failure::new(error.to_string()) };
        if *code == 401 && self.url.credentials.is_some() && !self.auth_tried {
            match Scheme::choose(authenticate) {
                Ok(scheme) => {
                    self.auth = Some(scheme);
                    self.auth_tried = true;
                    return Failure { message: None, lasting: false };
                }
                Err(message) => return Failure { message: Some(message), lasting: true },
            }
        }
        self.auth = None;
        self.auth_tried = false;
        let lasting = matches!(code, 300..=499);
        Failure { message: Some(error.fault.to_string()), lasting }
    }

    /// Ends the attempt; returns the pause before the next.
    pub fn fail(&mut self, failure: &Failure, now: Mono) -> Duration {
        self.phase = Phase::Waiting;
        let pause = match failure {
            Failure { message: None, .. } => Duration::ZERO,
            Failure { lasting: true, .. } => self.backoff.longest(),
            Failure { lasting: false, .. } => self.backoff.next(),
        };
        self.deadline = now.plus(pause);
        pause
    }
}

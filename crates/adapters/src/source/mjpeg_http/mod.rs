//! MJPEG over HTTP, as IP cameras serve it: `multipart/x-mixed-replace` on one connection for each camera.
//!
//! All cameras of a source share the reader thread that polls it: sockets that never block, one readiness call a poll,
//! and one read buffer. A camera costs its connection and the picture that is coming in. Names are looked up on two
//! threads of the source's own. A camera that fails is left alone for a pause that grows, and the others never notice.
//!
//! A camera that keeps the newest is always read, and a complete picture replaces the one before it. One that keeps all
//! is not read while it has no room: TCP then tells the camera to wait.
//!
//! Absent on purpose: TLS, redirects (a camera that moves should be configured), and acknowledgements: what a live
//! camera has sent cannot be had again.

mod auth;
mod backoff;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod head;
mod link;
mod multipart;
mod resolve;
mod url;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use omma_engine::clock::Clock;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraIndex, Mono, Payload, Token};

use self::backoff::Backoff;
use self::link::{Failure, Link, Pumped, Timing};
use self::multipart::Limits;
use self::resolve::Resolver;
use self::url::Url;
use super::Keep;

const READ_BYTES: usize = 64 << 10;
/// Read in one poll over all cameras; who did not have a turn comes first in the next.
const POLL_BYTES_MAX: usize = 8 << 20;
/// Connections begun in one poll.
const STARTS_MAX: usize = 64;
/// For a camera that has sent what nobody has had the time to read.
const UNREAD_GRACE: Duration = Duration::from_millis(100);
const EVENTS_MAX: usize = 1024;

#[derive(Debug, Clone)]
pub struct MjpegHttpOptions {
    pub cameras: Vec<MjpegHttpCamera>,
    /// For looking up the name, and for each address.
    pub connect_timeout: Duration,
    /// The longest without a complete picture, before the connection counts as dead.
    pub picture_timeout: Duration,
    /// Pauses before a new attempt grow from the first to the second.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// Of one picture.
    pub bytes_max: usize,
    /// Of the response's header, and of each part's.
    pub header_bytes_max: usize,
}

impl Default for MjpegHttpOptions {
    fn default() -> Self {
        Self {
            cameras: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            picture_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            bytes_max: 32 << 20,
            header_bytes_max: 16 << 10,
        }
    }
}

#[derive(Clone)]
pub struct MjpegHttpCamera {
    pub camera: CameraIndex,
    /// `http://[user[:password]@]host[:port]/path`.
    pub url: String,
    pub keep: Keep,
}

impl std::fmt::Debug for MjpegHttpCamera {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL as written may hold a password.
        f.debug_struct("MjpegHttpCamera")
            .field("camera", &self.camera)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Cameras that are read over HTTP. Never ends.
pub struct MjpegHttpSource {
    links: Vec<Watched>,
    sockets: mio::Poll,
    events: mio::Events,
    /// None if every host is an address.
    resolver: Option<Resolver>,
    /// When to look at a camera whatever its socket says: exactly one entry each.
    timers: BTreeSet<(Mono, usize)>,
    /// Cameras whose sockets may have something to read, each once.
    active: VecDeque<usize>,
    /// Cameras with complete pictures, each once.
    filled: VecDeque<usize>,
    /// Cameras with an error that was not reported yet, each once.
    failed: VecDeque<usize>,
    timing: Timing,
    buffer: Box<[u8]>,
    clock: Arc<dyn Clock>,
}

/// A camera and where it stands in the source's queues.
struct Watched {
    link: Link,
    timer: Mono,
    active: bool,
    filled: bool,
    error: Option<(String, Duration)>,
}

impl MjpegHttpSource {
    /// Checks the options; connections are made by polling.
    ///
    /// # Errors
    /// A URL is malformed (the message says how, without its password), or the system gives no poll or thread.
    pub fn open(options: MjpegHttpOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let refused = |camera, message| SourceError { source: NAME.into(), camera, message, retry_after: None };
        let system = |error: io::Error| refused(None, format!("cannot set it up: {error}"));
        let now = clock.mono();
        let limits = Limits { header_bytes: options.header_bytes_max, part_bytes: options.bytes_max };
        let mut links = Vec::with_capacity(options.cameras.len());
        for (place, MjpegHttpCamera { camera, url, keep }) in options.cameras.iter().enumerate() {
            let url = Url::parse(url).map_err(|message| refused(Some(*camera), message))?;
            let backoff = Backoff::new(options.backoff_min, options.backoff_max, u64::from(camera.0));
            let link = Link::new(*camera, url, *keep, place, limits, backoff, now);
            links.push(Watched { link, timer: now, active: false, filled: false, error: None });
        }
        let named = links.iter().any(|watched| watched.link.url.host.parse::<IpAddr>().is_err());
        Ok(Self {
            resolver: if named { Some(Resolver::start(links.len()).map_err(system)?) } else { None },
            timers: (0..links.len()).map(|place| (now, place)).collect(),
            links,
            sockets: mio::Poll::new().map_err(system)?,
            events: mio::Events::with_capacity(EVENTS_MAX),
            active: VecDeque::new(),
            filled: VecDeque::new(),
            failed: VecDeque::new(),
            timing: Timing { connect_timeout: options.connect_timeout, picture_timeout: options.picture_timeout },
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            clock,
        })
    }

    /// Books what an operation on a camera gave: its failure, its new deadline.
    fn after(&mut self, place: usize, outcome: Result<(), Failure>, now: Mono) {
        let watched = &mut self.links[place];
        if let Err(failure) = outcome {
            let pause = watched.link.fail(&failure, now);
            if let Some(message) = failure.message {
                // A newer error replaces one that nobody has asked for yet.
                if watched.error.replace((message, pause)).is_none() {
                    self.failed.push_back(place);
                }
            }
        }
        // A deadline that moved away is looked at when its old time comes, so that pictures never touch the timers.
        if watched.link.deadline < watched.timer {
            self.timers.remove(&(watched.timer, place));
            watched.timer = watched.link.deadline;
            self.timers.insert((watched.timer, place));
        }
    }

    fn take_answers(&mut self, now: Mono) {
        while let Some(answer) = self.resolver.as_ref().and_then(Resolver::answer) {
            let link = &mut self.links[answer.camera].link;
            let outcome = link.resolved(answer.attempt, answer.addresses, self.sockets.registry(), now, self.timing);
            self.after(answer.camera, outcome, now);
        }
    }

    fn expire(&mut self, now: Mono) {
        for _ in 0..STARTS_MAX {
            let Some(&(time, place)) = self.timers.first() else { return };
            if time > now {
                return;
            }
            self.timers.pop_first();
            let watched = &mut self.links[place];
            let mut outcome = Ok(());
            // A camera whose turn to be read has not come yet is not late; bytes without end fail in the parser.
            let unread = watched.active && watched.link.is_receiving();
            if unread {
                watched.link.deadline = watched.link.deadline.max(now.plus(UNREAD_GRACE));
            }
            if watched.link.deadline <= now {
                outcome = watched.link.expire(self.sockets.registry(), self.resolver.as_ref(), now, self.timing);
            }
            watched.timer = watched.link.deadline;
            self.timers.insert((watched.timer, place));
            self.after(place, outcome, now);
        }
    }

    fn take_events(&mut self, now: Mono) -> Result<(), SourceError> {
        match self.sockets.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => {
                let message = format!("cannot ask the system which cameras have sent: {error}");
                return Err(SourceError {
                    source: NAME.into(),
                    camera: None,
                    message,
                    retry_after: Some(Duration::ZERO),
                });
            }
        }
        // Moved out while its events are worked off, because each works on the whole source.
        let events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        for event in &events {
            let place = event.token().0;
            let watched = &mut self.links[place];
            watched.link.hung_up |= event.is_read_closed() || event.is_error();
            let outcome = watched.link.advance(self.sockets.registry(), now, self.timing);
            if outcome.is_ok() && watched.link.is_receiving() && !watched.active {
                watched.active = true;
                self.active.push_back(place);
            }
            self.after(place, outcome, now);
        }
        self.events = events;
        Ok(())
    }

    fn pump(&mut self, demand: &dyn Demand, now: Mono) {
        let mut left = POLL_BYTES_MAX;
        for _ in 0..self.active.len() {
            if left == 0 {
                return;
            }
            let Some(place) = self.active.pop_front() else { return };
            let watched = &mut self.links[place];
            let link = &mut watched.link;
            if !link.is_receiving() {
                watched.active = false;
                continue;
            }
            if link.keep == Keep::All
                && (!link.ready.is_empty() || demand.total() == 0 || demand.room(link.camera) == 0)
            {
                // Not the camera's fault: its time stands still while nobody reads it.
                link.deadline = now.plus(self.timing.picture_timeout);
                self.active.push_back(place);
                continue;
            }
            let outcome = link.pump(&mut self.buffer, now, self.timing);
            if !link.ready.is_empty() && !watched.filled {
                watched.filled = true;
                self.filled.push_back(place);
            }
            watched.active = matches!(outcome, Ok((Pumped::More, _)));
            if watched.active {
                self.active.push_back(place);
            }
            let outcome = outcome.map(|(_, bytes)| left = left.saturating_sub(bytes));
            self.after(place, outcome, now);
        }
    }

    fn hand_over(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) {
        let mut left = demand.total();
        for _ in 0..self.filled.len() {
            if left == 0 {
                return;
            }
            let Some(place) = self.filled.pop_front() else { return };
            let Watched { link, filled, .. } = &mut self.links[place];
            let count = demand.room(link.camera).min(left).min(link.ready.len());
            left -= count;
            arrivals.extend(link.ready.drain(..count).map(|(number, bytes)| Arrival {
                camera: link.camera,
                sequence: Some(number),
                captured_at: None,
                payload: Payload::Encoded(bytes),
                token: Token(number, 0),
                overtaken: 0,
                redelivered: false,
                name: None,
            }));
            *filled = !link.ready.is_empty();
            if *filled {
                self.filled.push_back(place);
            }
        }
    }
}

impl Source for MjpegHttpSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let now = self.clock.mono();
        self.take_answers(now);
        let events = self.take_events(now);
        self.pump(demand, now);
        // After reading: if this thread itself was late, no camera is to blame whose picture is there.
        self.expire(now);
        self.hand_over(demand, arrivals);
        events?;
        if let Some(place) = self.failed.pop_front() {
            let Watched { link, error, .. } = &mut self.links[place];
            if let Some((message, pause)) = error.take() {
                let (source, camera) = (link.url.to_string(), Some(link.camera));
                return Err(SourceError { source, camera, message, retry_after: Some(pause) });
            }
        }
        Ok(Polled::Open)
    }

    /// Nothing to acknowledge: what a camera has sent cannot be had again.
    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

const NAME: &str = "MJPEG over HTTP";

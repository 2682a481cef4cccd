//! One of a model's servers: how it is spoken with, whether it is up, what it has been told.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use omma_protocol::wire::{ModelConfig, ModelInferRequest, ModelInferResponse, ModelMetadataResponse};
use parking_lot::{Mutex, RwLock};

use super::failure::{Failure, Kind};
use super::grpc::Grpc;
use super::http::Http;
use super::options::{ServerUrl, Transport};
use super::segment::Segment;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a server is set aside that refuses what others take.
const ASIDE_MIN: Duration = Duration::from_secs(1);
const ASIDE_MAX: Duration = Duration::from_secs(60);
/// After so many unanswered questions in a row the connection is given up: whoever was at its other end may be gone without
/// a word (a lost node, a firewall that forgets), and what is sent into it would be repeated by the kernel for a quarter of
/// an hour. Pings would find out too, but gRPC servers turn clients away that ping often.
const UNANSWERED_MAX: u32 = 2;

pub(super) struct Server {
    pub(super) url: ServerUrl,
    connect_timeout: Duration,
    transport: RwLock<Speaks>,
    /// Counts the connections that were given up; what was sent on one of them is not answered any more.
    given_up: AtomicU64,
    /// Requests on their way to it.
    in_flight: AtomicUsize,
    state: Mutex<State>,
    /// What it has by the model's name is the model, as far as is known since it was last missed.
    checked: AtomicBool,
    /// It takes no shared memory: its tensors travel in the requests, until it is another process.
    inline: AtomicBool,
    /// Held while it is asked what it has, so that it is asked once.
    checking: tokio::sync::Mutex<()>,
    /// Regions of shared memory that it knows of.
    regions: Mutex<HashSet<String>>,
    /// Held while one is registered, so that each is registered once.
    registering: tokio::sync::Mutex<()>,
    /// Regions that are gone and that it is still to be told of.
    gone: Mutex<Vec<String>>,
}

#[derive(Clone)]
enum Speaks {
    Grpc(Grpc),
    Http(Http),
}

impl Speaks {
    fn new(url: &ServerUrl, connect_timeout: Duration) -> Result<Self, String> {
        Ok(match url.transport {
            Transport::Grpc => Self::Grpc(Grpc::new(url, connect_timeout)?),
            Transport::Http => Self::Http(Http::new(url, connect_timeout)),
        })
    }
}

#[derive(Default)]
struct State {
    /// Not asked before this moment, unless no server is better.
    down_until: Option<Instant>,
    pause: Duration,
    heard_at: Option<Instant>,
    /// Questions about its health in a row that it has not answered.
    unanswered: u32,
    /// It has refused what another server took: until this moment it is asked only if no server is better, however healthy it
    /// says that it is. Otherwise the one that fails at once would always be the least loaded.
    aside_until: Option<Instant>,
    aside_pause: Duration,
}

/// Counts a request as on its way for as long as it lives.
pub(super) struct OnItsWay<'a>(&'a Server);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

macro_rules! speak {
    ($server:expr, $call:ident ( $($argument:expr),* )) => {{
        let transport = $server.transport.read().clone();
        match transport {
            Speaks::Grpc(grpc) => grpc.$call($($argument),*).await,
            Speaks::Http(http) => http.$call($($argument),*).await,
        }
    }};
}

impl Server {
    /// Within a runtime: the transports make their connections there, when they are needed.
    pub(super) fn new(url: ServerUrl, connect_timeout: Duration) -> Result<Self, String> {
        let transport = RwLock::new(Speaks::new(&url, connect_timeout)?);
        Ok(Self {
            url,
            connect_timeout,
            transport,
            given_up: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            state: Mutex::default(),
            checked: AtomicBool::new(false),
            inline: AtomicBool::new(false),
            checking: tokio::sync::Mutex::default(),
            regions: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            gone: Mutex::default(),
        })
    }

    pub(super) fn on_its_way(&self) -> OnItsWay<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        OnItsWay(self)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// When it may be asked again; `None`: now.
    pub(super) fn down_until(&self, now: Instant) -> Option<Instant> {
        let state = self.state.lock();
        state.down_until.max(state.aside_until).filter(|until| *until > now)
    }

    /// Whether it cannot be reached, or has not the model, by what was last seen of it.
    pub(super) fn is_missed(&self, now: Instant) -> bool {
        self.state.lock().down_until.is_some_and(|until| until > now)
    }

    /// It has answered something. `true`: it was down before.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let was_down = state.down_until.is_some();
        let State { aside_until, aside_pause, .. } = *state;
        *state = State { heard_at: Some(now), aside_until, aside_pause, ..State::default() };
        was_down
    }

    /// It has run a batch. `true`: it was down or set aside before.
    pub(super) fn serves(&self, now: Instant) -> bool {
        let was_down = self.is_up(now);
        let mut state = self.state.lock();
        state.aside_pause = Duration::ZERO;
        state.aside_until.take().is_some() || was_down
    }

    /// It has refused a batch that another one took: it is set aside, longer each time. `true`: it was not before.
    pub(super) fn is_aside(&self, now: Instant) -> bool {
        // It may have another model by now.
        self.checked.store(false, Ordering::Release);
        let mut state = self.state.lock();
        let newly = state.aside_until.is_none();
        if state.aside_until.is_none_or(|until| until <= now) {
            state.aside_pause = (state.aside_pause * 2).clamp(ASIDE_MIN, ASIDE_MAX);
            state.aside_until = Some(now + state.aside_pause);
        }
        newly
    }

    /// Whether it has the model, as far as is known since it was last missed.
    pub(super) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Acquire)
    }

    /// It has the model.
    pub(super) fn has_it(&self) {
        self.checked.store(true, Ordering::Release);
    }

    /// Held by whoever asks it what it has.
    pub(super) async fn checking(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.checking.lock().await
    }

    /// Whether its tensors travel in the requests, though there is shared memory.
    pub(super) fn is_inline(&self) -> bool {
        self.inline.load(Ordering::Acquire)
    }

    /// It takes no shared memory. `true`: this was not known before.
    pub(super) fn takes_inline(&self) -> bool {
        !self.inline.swap(true, Ordering::AcqRel)
    }

    /// Whoever is at its address next may be another process, with another model and other memory.
    fn is_unknown(&self) {
        self.checked.store(false, Ordering::Release);
        self.inline.store(false, Ordering::Release);
    }

    /// It cannot serve the model now; it is left alone for a while, longer each time. `true`: it was up before.
    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.is_unknown();
        let mut state = self.state.lock();
        let was_up = state.down_until.is_none();
        // Many requests that fail together are one failure.
        if state.down_until.is_none_or(|until| until <= now) {
            state.pause = (state.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            state.down_until = Some(now + state.pause);
        }
        was_up
    }

    /// It has been asked how it is and does not answer: until it does, it is left alone for so long. `true`: it was up
    /// before. Within a runtime, for it may be asked by another connection from then on.
    pub(super) fn is_hung(&self, now: Instant, span: Duration) -> bool {
        self.is_unknown();
        let mut state = self.state.lock();
        state.unanswered += 1;
        if state.unanswered == UNANSWERED_MAX {
            state.unanswered = 0;
            self.connect_anew();
        }
        state.down_until.replace(now + span).is_none()
    }

    fn connect_anew(&self) {
        // The same URL was understood before.
        if let Ok(transport) = Speaks::new(&self.url, self.connect_timeout) {
            *self.transport.write() = transport;
            self.given_up.fetch_add(1, Ordering::Release);
        }
    }

    /// The connection of now, by its number.
    pub(super) fn connection(&self) -> u64 {
        self.given_up.load(Ordering::Acquire)
    }

    /// Whether nothing has been heard of it for so long.
    pub(super) fn silent(&self, now: Instant, span: Duration) -> bool {
        self.state.lock().heard_at.is_none_or(|heard| now.saturating_duration_since(heard) >= span)
    }

    pub(super) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Failure> {
        speak!(self, infer(request))
    }

    pub(super) async fn ready(&self, name: &str, version: &str) -> Result<bool, Failure> {
        speak!(self, ready(name, version))
    }

    pub(super) async fn metadata(&self, name: &str, version: &str) -> Result<ModelMetadataResponse, Failure> {
        speak!(self, metadata(name, version))
    }

    pub(super) async fn config(&self, name: &str, version: &str) -> Result<Option<ModelConfig>, Failure> {
        speak!(self, config(name, version))
    }

    /// Sees to it that the server knows this segment.
    pub(super) async fn register(&self, segment: &Segment) -> Result<(), Failure> {
        if self.regions.lock().contains(segment.name()) {
            return Ok(());
        }
        let _one_at_a_time = self.registering.lock().await;
        if self.regions.lock().contains(segment.name()) {
            return Ok(());
        }
        match speak!(self, register(segment.name(), &segment.key(), segment.len())) {
            Ok(()) => {}
            // Told in an attempt whose answer was lost: no other process has this name.
            Err(failure) if failure.message.contains("already") => {}
            Err(failure) => return Err(failure),
        }
        self.regions.lock().insert(segment.name().to_owned());
        Ok(())
    }

    /// It has forgotten its regions: it is another process now.
    pub(super) fn forget_regions(&self) {
        self.regions.lock().clear();
        self.gone.lock().clear();
    }

    /// These segments are gone: those that it knows of it will be told.
    pub(super) fn condemn(&self, names: &[String]) {
        let mut regions = self.regions.lock();
        self.gone.lock().extend(names.iter().filter(|name| regions.remove(*name)).cloned());
    }

    /// Tells it of segments that are gone; whether it heard of one does not matter to anybody else.
    pub(super) async fn unregister_gone(&self) {
        while let Some(name) = { self.gone.lock().pop() } {
            let _ = speak!(self, unregister(&name));
        }
    }

    /// Tells it of all segments that they are gone.
    pub(super) async fn unregister_all(&self) {
        let names: Vec<_> = self.regions.lock().drain().collect();
        for name in names {
            if speak!(self, unregister(&name)).is_err_and(|failure| failure.kind == Kind::Connection) {
                return;
            }
        }
    }
}

/// The server for the next request: the one with the fewest on their way of those that are up, else the one that is down
/// for the shortest time, with the moment from which it may be asked. `avoid` is the one that has just failed the request.
pub(super) fn choose(servers: &[Server], avoid: Option<usize>, now: Instant) -> (usize, Option<Instant>) {
    let up = |at: &usize| servers[*at].down_until(now).is_none();
    let ranked = |at: &usize| (Some(*at) == avoid, servers[*at].in_flight());
    if let Some(best) = (0..servers.len()).filter(up).min_by_key(ranked) {
        return (best, None);
    }
    let until = |at: &usize| servers[*at].down_until(now);
    let best = (0..servers.len()).min_by_key(until).unwrap_or(0);
    (best, servers[best].down_until(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: usize) -> Vec<Server> {
        let url = |n: usize| ServerUrl::parse(&format!("http://127.0.0.1:{}", 9000 + n)).expect("a URL");
        (0..count).map(|n| Server::new(url(n), Duration::from_secs(1)).expect("a client")).collect()
    }

    #[test]
    fn the_least_loaded_server_that_is_up_is_asked() {
        let (servers, now) = (servers(3), Instant::now());
        assert_eq!(choose(&servers, None, now), (0, None));
        let _busy = (servers[0].on_its_way(), servers[1].on_its_way());
        assert_eq!(choose(&servers, None, now), (2, None));
        assert!(servers[2].is_down(now));
        assert!(!servers[2].is_down(now), "said once");
        assert_eq!(choose(&servers, Some(0), now), (1, None), "not the one that has just failed");
        assert!(servers[0].is_down(now) && servers[1].is_down(now));
        let (best, until) = choose(&servers, None, now);
        assert_eq!((best, until), (0, Some(now + PAUSE_MIN)), "all are down: the first that may be asked again");
        assert!(servers[1].is_up(now));
        assert_eq!(choose(&servers, None, now), (1, None));
    }

    #[test]
    fn a_server_that_refuses_what_others_take_is_set_aside_however_healthy_it_is() {
        let (servers, mut now) = (servers(2), Instant::now());
        for (round, expected) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            assert_eq!(servers[0].is_aside(now), round == 0, "said once");
            assert!(!servers[0].is_aside(now), "many requests that are refused together are one");
            assert!(!servers[0].is_up(now), "it is not down");
            assert_eq!(choose(&servers, None, now), (1, None));
            let until = servers[0].down_until(now).expect("set aside");
            assert_eq!(until - now, Duration::from_secs(expected));
            now = until;
        }
        assert!(!servers[0].is_missed(now) && !servers[0].is_checked());
        assert!(servers[0].serves(now) && !servers[0].serves(now), "said once");
        assert_eq!(choose(&servers, None, now), (0, None));
        servers[0].is_aside(now);
        assert_eq!(servers[0].down_until(now), Some(now + ASIDE_MIN));
    }

    #[test]
    fn pauses_grow_while_a_server_stays_down_and_begin_anew() {
        let (servers, mut now) = (servers(1), Instant::now());
        for expected in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            servers[0].is_down(now);
            let until = servers[0].down_until(now).expect("down");
            assert_eq!(until - now, Duration::from_millis(expected));
            now = until;
        }
        assert!(servers[0].is_up(now) && !servers[0].is_up(now));
        servers[0].is_down(now);
        assert_eq!(servers[0].down_until(now), Some(now + PAUSE_MIN));
    }
}

//! Connections with limits: so many at once, each served or soon closed.
//!
//! A connection without a request in progress is idle, also if a stream is open on it. Idle ones are closed after a while;
//! and once all places are taken, the one that has been idle longest makes room for whoever comes, so that clients who say
//! nothing, or say it slowly, keep nobody out. A change of a model takes as long as that takes. Every other request in
//! progress is bounded by its own time and by the bytes that all requests may hold; one whose client does not take the
//! answer is ended with its connection once nothing has moved for a while.
//!
//! When every place is busy, a few connections more are let in as *spare*: whoever asks how the process is must hear it
//! then of all times, or a busy process is taken for a dead one and restarted. What they may ask is up to the service,
//! which finds [`Spare`] among the request's extensions.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::api::budget::{Budget, Lease};

/// A connection that says nothing is closed after this; also one that has not said all of a request's head.
pub const IDLE_MAX: Duration = Duration::from_secs(60);
/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Between two looks at an HTTP/2 client that says nothing, and how long it may take to answer them.
const PING: Duration = Duration::from_secs(20);
/// How much of a request HTTP/2 lets its sender be ahead. A tensor of a megabyte goes without a pause.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A picture of 320x320 in floats comes in one piece, which is then never copied to be joined with others.
const FRAME_BYTES_MAX: u32 = 2 << 20;
/// Connections beyond the limit, of HTTP.
const SPARE_MAX: usize = 8;
/// After an accept that failed, usually for want of file descriptors; how long a busy place is waited for, and how long a
/// connection is new.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What an HTTP/2 client that has asked something has to hear that it should go elsewhere.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// gRPC's; without TLS, so the client must know it beforehand.
    Http2,
}

/// Marks a request whose connection has no place of its own.
#[derive(Clone, Copy)]
pub(crate) struct Spare;

/// What a connection holds as long as it is open.
struct Place {
    _permit: OwnedSemaphorePermit,
    spare: bool,
}

/// All connections of one listener.
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    open: Mutex<Vec<Arc<Entry>>>,
    begun: Instant,
    stalled_max: Duration,
}

/// One connection, as the others see it.
struct Entry {
    /// Requests in progress.
    busy: AtomicUsize,
    /// Open calls of many requests: each of these counts as one in progress, the call itself does not.
    streams: AtomicUsize,
    /// Changes of models in progress, during which nothing moves.
    changes: AtomicUsize,
    /// Milliseconds after the listener's begin at which something moved last: the connection came, a request began or
    /// ended, a part of it came or a part of its answer went.
    since: AtomicU64,
    /// It has asked something.
    used: AtomicBool,
    /// It has been told to make room.
    told: AtomicBool,
    close: Notify,
}

impl Connections {
    /// `stalled_max`: a connection whose request does not move for so long is closed.
    pub(crate) fn new(most: usize, protocol: Protocol, stalled_max: Duration) -> Arc<Self> {
        let spare = if protocol == Protocol::Http1 { SPARE_MAX } else { 0 };
        let (places, spare) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(spare)));
        Arc::new(Self { places, spare, open: Mutex::default(), begun: Instant::now(), stalled_max })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A place for one more, which the connection idle for longest has to leave if there is none.
    async fn place(&self) -> Place {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Place { _permit: permit, spare: false };
        }
        loop {
            self.make_room();
            // Whoever leaves first; with nobody idle that is whoever is done first.
            let soon = tokio::time::timeout(ACCEPT_PAUSE, Arc::clone(&self.places).acquire_owned()).await;
            if let Ok(Ok(permit)) = soon {
                return Place { _permit: permit, spare: false };
            }
            if let Ok(permit) = Arc::clone(&self.spare).try_acquire_owned() {
                return Place { _permit: permit, spare: true };
            }
        }
    }

    /// Tells the connection that is idle for longest to leave; not one so new that what it asks may not be read yet.
    fn make_room(&self) {
        let before = self.now().saturating_sub(ACCEPT_PAUSE.as_millis() as u64);
        let open = self.open.lock();
        let idle = |entry: &&Arc<Entry>| {
            entry.busy.load(Ordering::Relaxed) == 0
                && entry.since.load(Ordering::Relaxed) <= before
                && !entry.told.load(Ordering::Relaxed)
        };
        if let Some(idlest) = open.iter().filter(idle).min_by_key(|entry| entry.since.load(Ordering::Relaxed)) {
            idlest.told.store(true, Ordering::Relaxed);
            idlest.close.notify_one();
        }
    }

    fn enter(&self) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            busy: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            since: AtomicU64::new(self.now()),
            used: AtomicBool::new(false),
            told: AtomicBool::new(false),
            close: Notify::new(),
        });
        self.open.lock().push(Arc::clone(&entry));
        entry
    }

    fn leave(&self, entry: &Arc<Entry>) {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|other| Arc::ptr_eq(other, entry)) {
            open.swap_remove(at);
        }
    }
}

/// Accepts for ever. Each connection is a task of its own.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    protocol: Protocol,
    connections: Arc<Connections>,
    budget: Arc<Budget>,
    service: S,
) where
    S: Service<Request<Metered>, Response = Response<B>, Error = std::convert::Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !of_one_connection(&error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let place = connections.place().await;
        let spare = place.spare;
        let (connections, budget, service) = (Arc::clone(&connections), Arc::clone(&budget), service.clone());
        tokio::spawn(async move {
            let entry = connections.enter();
            let tracked =
                Tracked { connections: Arc::clone(&connections), entry: Arc::clone(&entry), budget, service, spare };
            one(stream, protocol, &connections, &entry, tracked).await;
            connections.leave(&entry);
            drop(place);
        });
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn one<S, B>(stream: TcpStream, protocol: Protocol, connections: &Connections, entry: &Entry, tracked: Tracked<S>)
where
    S: Service<Request<Metered>, Response = Response<B>, Error = std::convert::Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Small answers must not wait for the acknowledgement of the ones before them.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_MAX)
                .max_buf_size(HEAD_BYTES_MAX.max(8 << 10))
                .pipeline_flush(true);
            let connection = builder.serve_connection(io, tracked);
            tokio::pin!(connection);
            tokio::select! {
                // What went wrong on a connection concerns its client, who knows.
                _ = connection.as_mut() => {}
                () = closed(connections, entry) => {}
            }
        }
        Protocol::Http2 => {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME_BYTES_MAX)
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEAD_BYTES_MAX as u32)
                .max_send_buf_size(4 << 20)
                .keep_alive_interval(Some(PING))
                .keep_alive_timeout(PING);
            let connection = builder.serve_connection(io, tracked);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = closed(connections, entry) => {}
            }
            // A client that is there sends its next request elsewhere; one that never asked anything, nowhere.
            if entry.used.load(Ordering::Relaxed) {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(FAREWELL, connection).await;
            }
        }
    }
}

/// Until the connection has to make room, or nothing has moved on it for too long.
async fn closed(connections: &Connections, entry: &Entry) {
    loop {
        let still = Duration::from_millis(connections.now().saturating_sub(entry.since.load(Ordering::Relaxed)));
        let asked = entry.busy.load(Ordering::Relaxed) > 0 || entry.streams.load(Ordering::Relaxed) > 0;
        let most = if asked { connections.stalled_max } else { IDLE_MAX };
        let changes = entry.changes.load(Ordering::Relaxed) > 0;
        if still >= most && !changes {
            return;
        }
        // An idle one that becomes busy, or the reverse, is looked at again when the shorter of the two is over.
        let wait = if changes { IDLE_MAX } else { (most - still).min(IDLE_MAX) };
        tokio::select! {
            () = entry.close.notified() => {
                if entry.busy.load(Ordering::Relaxed) == 0 {
                    return;
                }
                // It has asked something meanwhile and stays.
                entry.told.store(false, Ordering::Relaxed);
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Counts the requests of one connection and what they hold.
#[derive(Clone)]
struct Tracked<S> {
    connections: Arc<Connections>,
    entry: Arc<Entry>,
    budget: Arc<Budget>,
    service: S,
    spare: bool,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Tracked<S>
where
    S: Service<Request<Metered>, Response = Response<B>, Error = std::convert::Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Held<B>>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let lease = Arc::new(self.budget.lease());
        let open = Arc::new(Open::new(&self.connections, &self.entry));
        let mut request =
            request.map(|body| Metered { body, ended: false, lease: Arc::clone(&lease), open: Arc::clone(&open) });
        // For those to whom the body comes as any other.
        request.extensions_mut().insert(Arc::clone(&lease));
        request.extensions_mut().insert(Arc::clone(&open));
        let spare = self.spare;
        if spare {
            request.extensions_mut().insert(Spare);
        }
        let http2 = request.version() == http::Version::HTTP_2;
        let answer = self.service.clone().call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            // What is left of the request ends the connection; a client that is not told would ask here again. And a
            // spare one is for one question: the next connection may find a place.
            if !http2 && (spare || open.unread.load(Ordering::Relaxed)) {
                response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Held { body: Box::pin(body), _lease: lease, open }))
        })
    }
}

/// A request in progress, or a stream of them.
pub(crate) struct Open {
    connections: Arc<Connections>,
    entry: Arc<Entry>,
    /// Its body was let go of before its end.
    unread: AtomicBool,
    stream: AtomicBool,
    changes: AtomicBool,
}

impl Open {
    fn new(connections: &Arc<Connections>, entry: &Arc<Entry>) -> Self {
        entry.busy.fetch_add(1, Ordering::Relaxed);
        entry.used.store(true, Ordering::Relaxed);
        let open = Self {
            connections: Arc::clone(connections),
            entry: Arc::clone(entry),
            unread: AtomicBool::new(false),
            stream: AtomicBool::new(false),
            changes: AtomicBool::new(false),
        };
        open.moved();
        open
    }

    /// From now on it is a stream, in progress only while one of its requests is.
    pub(crate) fn becomes_stream(&self) {
        if !self.stream.swap(true, Ordering::Relaxed) {
            self.entry.streams.fetch_add(1, Ordering::Relaxed);
            self.entry.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// It changes a model from now on: until what is returned is dropped, the times of requests are not its own.
    pub(crate) fn change(self: &Arc<Self>) -> Change {
        self.changes.store(true, Ordering::Relaxed);
        self.entry.changes.fetch_add(1, Ordering::Relaxed);
        Change(Arc::clone(self))
    }

    pub(crate) fn changes(&self) -> bool {
        self.changes.load(Ordering::Relaxed)
    }

    /// A request of the stream, in progress until it is dropped.
    pub(crate) fn request(&self) -> Self {
        Self::new(&self.connections, &self.entry)
    }

    fn moved(&self) {
        self.entry.since.store(self.connections.now(), Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.moved();
        let counted = if *self.stream.get_mut() { &self.entry.streams } else { &self.entry.busy };
        counted.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A change of a model in progress; whoever makes it bounds its time.
pub(crate) struct Change(Arc<Open>);

impl Drop for Change {
    fn drop(&mut self) {
        self.0.moved();
        self.0.changes.store(false, Ordering::Relaxed);
        self.0.entry.changes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body, whose bytes are taken from the budget as they come.
pub(crate) struct Metered {
    body: Incoming,
    ended: bool,
    lease: Arc<Lease>,
    open: Arc<Open>,
}

impl Metered {
    /// What the request holds of the budget.
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    pub(crate) fn open(&self) -> &Arc<Open> {
        &self.open
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.open.unread.store(true, Ordering::Relaxed);
        }
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else { return Poll::Pending };
        let Some(frame) = frame else {
            self.ended = true;
            return Poll::Ready(None);
        };
        let frame = frame?;
        self.open.moved();
        if let Some(data) = frame.data_ref() {
            // As what gRPC makes its answer of; HTTP reads it too.
            self.lease.take(data.len()).map_err(|error| error.status())?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, with which its request ends.
pub(crate) struct Held<B> {
    body: Pin<Box<B>>,
    _lease: Arc<Lease>,
    open: Arc<Open>,
}

impl<B: Body> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = self.body.as_mut().poll_frame(context);
        if frame.is_ready() {
            self.open.moved();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than nothing may move in a test's connection, and much less than a test may take.
    const A_WHILE: Duration = Duration::from_millis(200);

    async fn closes(connections: &Connections, entry: &Entry) -> bool {
        tokio::time::timeout(A_WHILE, closed(connections, entry)).await.is_ok()
    }

    #[tokio::test]
    async fn a_change_of_a_model_is_waited_for_and_another_request_that_does_not_move_is_not() {
        let connections = Connections::new(1, Protocol::Http1, A_WHILE / 4);
        let entry = connections.enter();
        let open = Arc::new(Open::new(&connections, &entry));
        let change = open.change();
        assert!(!closes(&connections, &entry).await);
        drop(change);
        assert!(closes(&connections, &entry).await);
    }

    #[tokio::test]
    async fn a_stream_is_idle_but_while_one_of_its_requests_is_in_progress() {
        let connections = Connections::new(1, Protocol::Http2, Duration::from_secs(600));
        let entry = connections.enter();
        let open = Open::new(&connections, &entry);
        open.becomes_stream();
        let request = open.request();
        entry.close.notify_one();
        assert!(!closes(&connections, &entry).await);
        drop(request);
        entry.close.notify_one();
        assert!(closes(&connections, &entry).await);
        drop(open);
        assert_eq!((entry.busy.load(Ordering::Relaxed), entry.streams.load(Ordering::Relaxed)), (0, 0));
    }
}

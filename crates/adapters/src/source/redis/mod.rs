//! Frames out of Redis Streams: one stream for each camera, read through a consumer group, many streams with one call.
//!
//! The source lives on a reader thread and never waits: it hands over what its own thread (`worker`) has brought and tells
//! that thread what has room now. While the engine looks at one batch, the next is being read. Settlements travel as
//! acknowledgements in front of the next read. A poll costs a look at each camera's room when a read is due, and nothing
//! per camera when none is.
//!
//! docs/design/redis.md says how cameras, groups, leases and failures go together.

mod backlog;
mod budget;
mod discover;
mod entries;
mod groups;
mod identity;
mod latest;
mod leases;
mod poison;
mod read;
mod rhythm;
mod rota;
mod stream;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::source::{Arrival, Demand, Fate, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraId, CameraIndex, DropReason};
use omma_ring::RingsOptions;

pub use self::backlog::Backlog;
pub use self::discover::{CameraInbox, CameraInboxEnd, InboxError};
use self::entries::EntryReader;
use self::leases::Leases;
use self::stream::{EntryId, FIRST};
use self::worker::{EntryFate, REPLIES_MAX, Reply, Request, Settled, Worker};
use crate::redis::link::Link;
use crate::redis::wire::Wire;
use crate::redis::{RedisOptions, StreamNames};

/// Errors that are kept for the reader to ask for.
const ERRORS_MAX: usize = 64;
/// How long the last acknowledgements may take at the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// One reader's part of a source.
#[derive(Clone)]
pub struct RedisSourceOptions {
    /// The source's name: processes that share cameras use the same.
    pub name: String,
    pub redis: RedisOptions,
    pub names: StreamNames,
    /// Streams that are no cameras', although their names fit: those that results are written to.
    pub not_cameras: Vec<StreamNames>,
    pub wire: Wire,
    pub group: String,
    /// The name under which entries are pending. One owner for each shard makes one name enough.
    pub consumer: String,
    /// A new group begins with what is in the stream already, not with what comes next.
    pub from_start: bool,
    pub delivery: Delivery,
    /// The plan of a camera that is found.
    pub plan_of: Arc<dyn Fn(CameraId) -> CameraPlan + Send + Sync>,
    /// The engine's table, to which cameras that are found are added.
    pub cameras: Arc<Cameras>,
    pub cameras_max: usize,
    /// How often streams are searched for new cameras; `None`: never.
    pub discover_interval: Option<Duration>,
    pub inbox: Option<CameraInboxEnd>,
    /// This reader's number, of how many: it owns the shards whose number modulo theirs is its own.
    pub reader: usize,
    pub readers: usize,
    pub shards: u32,
    /// `batch_read_count`: entries of one stream that one read may bring.
    pub read_frames_max: usize,
    /// What the answers of one part of a turn should come to at most.
    pub reply_bytes: usize,
    pub entries_max: usize,
    pub payload_bytes_max: usize,
    pub poll_min: Duration,
    pub poll_max: Duration,
    /// How long a process that has died keeps its cameras.
    pub lease: Duration,
    /// Entries of other consumers are taken over when they were left alone for this long.
    pub claim_idle: Duration,
    /// Deliveries of one entry before it counts as poison.
    pub deliveries_max: u32,
    pub dead_letter: String,
    pub reconnect_max: Duration,
    pub rings: RingsOptions,
    /// The same for all readers of the source.
    pub backlog: Arc<Backlog>,
    /// Tells this process from others; `None`: by what the system knows of it. For tests that play two processes.
    pub identity: Option<String>,
}

impl RedisSourceOptions {
    /// The defaults, for one reader that owns all shards. Cameras that are found are like `template` but for the id.
    #[must_use]
    pub fn new(name: &str, redis: RedisOptions, cameras: Arc<Cameras>, template: CameraPlan) -> Self {
        Self {
            name: name.to_owned(),
            redis,
            names: StreamNames::frames(),
            not_cameras: Vec::new(),
            wire: Wire::Own,
            group: "omma".to_owned(),
            consumer: "omma".to_owned(),
            from_start: true,
            delivery: template.delivery,
            plan_of: Arc::new(move |id| CameraPlan { id, ..template.clone() }),
            shards: cameras.shards(),
            cameras,
            cameras_max: 100_000,
            discover_interval: None,
            inbox: None,
            reader: 0,
            readers: 1,
            read_frames_max: 32,
            reply_bytes: 4 << 20,
            entries_max: 4096,
            payload_bytes_max: 32 << 20,
            poll_min: Duration::from_millis(1),
            poll_max: Duration::from_millis(20),
            lease: Duration::from_secs(5),
            claim_idle: Duration::from_secs(30),
            deliveries_max: 5,
            dead_letter: "omma:dead".to_owned(),
            reconnect_max: Duration::from_secs(5),
            rings: RingsOptions::default(),
            backlog: Arc::new(Backlog::new(1, Instant::now())),
            identity: None,
        }
    }
}

/// What the source knows of a camera.
struct Known {
    camera: CameraIndex,
    shard: u32,
    /// Frames that were read and have had no room yet.
    held: u32,
    /// Handed over in this poll.
    given: u32,
    /// The newest that was ever handed over.
    last: EntryId,
}

/// See the module.
pub struct RedisSource {
    name: String,
    delivery: Delivery,
    poll_max: Duration,
    /// In the order of the worker's streams.
    cameras: Vec<Known>,
    /// By camera index the place among them.
    places: Vec<u32>,
    held: VecDeque<(u32, Arrival)>,
    entries_max: usize,
    settled: Vec<Settled>,
    errors: VecDeque<SourceError>,
    found: Vec<CameraIndex>,
    resumed: Vec<CameraIndex>,
    /// The next request may be posted from then on; `None`: one is on its way.
    due: Option<Instant>,
    pause: Duration,
    /// Something has come since the last request was posted.
    brought: bool,
    /// By place whether the camera may be due, until it is asked for; for the request then, how much room it has.
    rooms: Vec<u32>,
    /// Places of cameras whose `given` is not zero.
    served: Vec<u32>,
    requests: Sender<Request>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

impl RedisSource {
    /// Starts the source's thread; connecting is that thread's. `cameras` are those of the engine's table that are this
    /// reader's.
    ///
    /// # Errors
    /// The options cannot be right, or the system gives no thread.
    pub fn open(options: RedisSourceOptions, cameras: &[CameraIndex]) -> Result<Self, SourceError> {
        let options = RedisSourceOptions { poll_max: options.poll_max.max(options.poll_min), ..options };
        let refused =
            |message: String| SourceError { source: options.name.clone(), camera: None, message, retry_after: None };
        let mut redis = RedisOptions { value_bytes_max: options.payload_bytes_max, ..options.redis.clone() };
        if redis.cluster {
            // While one master is waited for, the leases that the others keep must not run out.
            redis.reply_timeout = redis.reply_timeout.min(options.lease / 3);
        }
        let link = Link::new(redis).map_err(|error| refused(error.message))?;
        let now = Instant::now();
        let identity = options.identity.clone().unwrap_or_else(|| identity::own().to_owned());
        let own = (0..options.shards).filter(|shard| *shard as usize % options.readers.max(1) == options.reader);
        // Who reads other streams shares no cameras. Braces would have a cluster put all leases in one slot.
        let streams = options.names.stream("*").replace(['{', '}'], "");
        let prefix = format!("omma:lease:{}:{}:{streams}", options.group, options.name);
        let leases = Leases::new(prefix, identity, options.shards, options.lease, own, now);
        let entries = EntryReader::new(options.wire, options.payload_bytes_max, &options.rings);
        let (requests, to_do) = bounded(1);
        let (done, replies) = bounded(REPLIES_MAX);
        let mut source = Self {
            name: options.name.clone(),
            delivery: options.delivery,
            poll_max: options.poll_max,
            cameras: Vec::new(),
            places: Vec::new(),
            held: VecDeque::new(),
            entries_max: options.entries_max,
            settled: Vec::new(),
            errors: VecDeque::new(),
            found: Vec::new(),
            resumed: Vec::new(),
            due: Some(now),
            pause: options.poll_min,
            brought: false,
            rooms: Vec::new(),
            served: Vec::new(),
            requests,
            replies,
            thread: None,
        };
        let table = options.cameras.snapshot();
        let mut worker = Worker::new(Arc::new(options.clone()), link, leases, entries, now);
        for &camera in cameras {
            let Some(known) = table.get(camera.slot()) else { continue };
            worker.add(camera, &options.names.stream(known.plan.id.as_str()), known.shard, false, now);
            source.know(camera, known.shard);
        }
        let thread = std::thread::Builder::new().name(format!("omma-redis-{}", options.reader)).spawn(move || {
            crate::threads::schedule(omma_engine::threads::Role::Relay);
            worker.run(&to_do, &done);
        });
        source.thread = Some(thread.map_err(|error| refused(format!("cannot start its thread: {error}")))?);
        Ok(source)
    }

    fn know(&mut self, camera: CameraIndex, shard: u32) {
        let place = u32::try_from(self.cameras.len()).unwrap_or(u32::MAX);
        if self.places.len() <= camera.slot() {
            self.places.resize(camera.slot() + 1, u32::MAX);
        }
        self.places[camera.slot()] = place;
        self.cameras.push(Known { camera, shard, held: 0, given: 0, last: FIRST });
    }

    /// The specification's batch read (its section 3.2): up to `count` messages of any cameras within `timeout`, fewer if
    /// no more are there by then. What is read must be settled like what [`Source::poll`] gives, which goes the same way.
    ///
    /// # Errors
    /// As [`Source::poll`]. Messages that have come are given first, and the error with the next call.
    pub fn get_messages_batch(&mut self, timeout: Duration, count: usize) -> Result<Vec<Arrival>, SourceError> {
        struct Plenty(usize);
        impl Demand for Plenty {
            fn room(&self, _: CameraIndex) -> usize {
                self.0
            }
            fn total(&self) -> usize {
                self.0
            }
        }
        let until = Instant::now() + timeout;
        let mut messages = Vec::new();
        loop {
            match self.poll(&Plenty(count - messages.len()), &mut messages) {
                Ok(_) => {}
                Err(error) if messages.is_empty() => return Err(error),
                Err(error) => {
                    self.errors.push_front(error);
                    return Ok(messages);
                }
            }
            let now = Instant::now();
            if messages.len() >= count || now >= until {
                return Ok(messages);
            }
            match self.due {
                // An answer is on its way.
                None => {
                    if let Ok(reply) = self.replies.recv_timeout(until - now) {
                        self.take(reply);
                    }
                }
                Some(due) => std::thread::sleep(due.min(until).saturating_duration_since(now)),
            }
        }
    }

    /// Takes in what the worker has brought.
    fn take(&mut self, reply: Reply) {
        let Reply { last, arrivals, found, lost_shards, resumed_shards, errors, more, rest, due, mut settled } = reply;
        for (camera, shard) in found {
            self.know(camera, shard);
            self.found.push(camera);
        }
        if !lost_shards.is_empty() {
            // Another process is given them again; ours have not been counted yet.
            let Self { held, cameras, settled, delivery, .. } = self;
            let every = *delivery == Delivery::Every;
            held.retain(|(place, arrival)| {
                let known = &mut cameras[*place as usize];
                let lost = lost_shards.contains(&known.shard);
                if lost {
                    known.held -= 1;
                    if every {
                        let id = (arrival.token.0, arrival.token.1);
                        settled.push(Settled { stream: *place, id, fate: EntryFate::Again });
                    }
                }
                !lost
            });
        }
        if !resumed_shards.is_empty() {
            let resumed = self.cameras.iter().filter(|known| resumed_shards.contains(&known.shard));
            self.resumed.extend(resumed.map(|known| known.camera));
        }
        self.brought |= !arrivals.is_empty();
        for (place, arrival) in arrivals {
            self.cameras[place as usize].held += 1;
            self.held.push_back((place, arrival));
        }
        for error in errors {
            if self.errors.len() < ERRORS_MAX {
                self.errors.push_back(error);
            }
        }
        if !last {
            return;
        }
        self.rooms = due;
        // The vector is used again.
        settled.clear();
        if self.settled.is_empty() {
            self.settled = settled;
        }
        self.pause = match std::mem::take(&mut self.brought) {
            _ if more => Duration::ZERO,
            true => rest,
            false => (self.pause * 2).clamp(rest, self.poll_max),
        };
        self.due = Some(Instant::now() + self.pause);
    }

    /// Hands over what has room, each camera's oldest first.
    fn hand_over(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) {
        let mut left = demand.total();
        if self.held.is_empty() || left == 0 {
            return;
        }
        let every = self.delivery == Delivery::Every;
        let mut kept = VecDeque::new();
        while let Some((place, mut arrival)) = self.held.pop_front() {
            let known = &mut self.cameras[place as usize];
            if known.given == 0 {
                self.served.push(place);
            }
            if left > 0 && (known.given as usize) < demand.room(known.camera) {
                known.given += 1;
                known.held -= 1;
                left -= 1;
                // Entries come in the order of their ids but for those that were pending with somebody else or forgotten.
                let id = (arrival.token.0, arrival.token.1);
                arrival.redelivered = every && id <= known.last;
                known.last = known.last.max(id);
                arrivals.push(arrival);
            } else {
                // Nothing younger of this camera may pass it.
                known.given = u32::MAX;
                kept.push_back((place, arrival));
            }
        }
        self.held = kept;
    }

    /// Asks for what has room, if it is time.
    fn ask(&mut self, demand: &dyn Demand) {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let mut rooms = std::mem::take(&mut self.rooms);
        if demand.total() > 0 && self.held.len() < self.entries_max {
            // Those that the worker has not told of yet may be due.
            rooms.resize(self.cameras.len(), 1);
            for (room, known) in rooms.iter_mut().zip(&self.cameras).filter(|(due, _)| **due > 0) {
                let taken = if known.given == u32::MAX { usize::MAX } else { (known.given + known.held) as usize };
                *room = u32::try_from(demand.room(known.camera).saturating_sub(taken)).unwrap_or(u32::MAX);
            }
        } else {
            rooms.clear();
        }
        // Without room too there are leases, groups and acknowledgements to see to.
        self.post(rooms, false);
    }

    fn post(&mut self, rooms: Vec<u32>, stop: bool) {
        let settled = std::mem::take(&mut self.settled);
        // One request at a time is on its way, so there is room for it; a worker that is gone is noticed by the poll.
        if let Err(unsent) = self.requests.try_send(Request { rooms, settled, stop }) {
            let request = unsent.into_inner();
            (self.rooms, self.settled) = (request.rooms, request.settled);
            return;
        }
        self.due = None;
    }
}

impl Source for RedisSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        loop {
            match self.replies.try_recv() {
                Ok(reply) => self.take(reply),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    let message = "its thread has ended: a fault of omma itself".to_owned();
                    self.hand_over(demand, arrivals);
                    return Err(SourceError { source: self.name.clone(), camera: None, message, retry_after: None });
                }
            }
        }
        self.hand_over(demand, arrivals);
        self.ask(demand);
        self.served.drain(..).for_each(|place| self.cameras[place as usize].given = 0);
        match self.errors.pop_front() {
            Some(error) => Err(error),
            None => Ok(Polled::Open),
        }
    }

    fn found(&mut self) -> Vec<CameraIndex> {
        std::mem::take(&mut self.found)
    }

    fn resumed(&mut self) -> Vec<CameraIndex> {
        std::mem::take(&mut self.resumed)
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        if self.delivery != Delivery::Every {
            return Ok(());
        }
        for settlement in settlements {
            let Some(&stream) = self.places.get(settlement.camera.slot()).filter(|&&place| place != u32::MAX) else {
                continue;
            };
            let fate = match settlement.fate {
                Fate::Dropped(DropReason::Shutdown) => EntryFate::Again,
                Fate::Dropped(DropReason::Poisoned) => EntryFate::Poisoned,
                Fate::Published | Fate::Dropped(_) => EntryFate::Done,
            };
            let id = (settlement.token.0, settlement.token.1);
            self.settled.push(Settled { stream, id, fate });
        }
        // While the engine drains nobody polls any more.
        while let Ok(reply) = self.replies.try_recv() {
            self.take(reply);
        }
        if self.due.is_some() && self.settled.len() >= ACKNOWLEDGED_AT_ONCE {
            self.post(Vec::new(), false);
        }
        Ok(())
    }
}

/// So many settlements do not wait for the next read.
const ACKNOWLEDGED_AT_ONCE: usize = 4096;

impl Drop for RedisSource {
    /// Acknowledges what was settled and hands the cameras over, unless Redis takes too long.
    fn drop(&mut self) {
        let until = Instant::now() + GOODBYE;
        while self.due.is_none() {
            match self.replies.recv_deadline(until) {
                Ok(reply) => self.take(reply),
                Err(_) => return,
            }
        }
        // What was read and never handed over is still pending.
        self.post(Vec::new(), true);
        while self.replies.recv_deadline(until).is_ok() {}
        if let Some(thread) = self.thread.take()
            && Instant::now() < until
        {
            let _ = thread.join();
        }
    }
}

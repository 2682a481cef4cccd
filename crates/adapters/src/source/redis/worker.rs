//! The thread that talks to Redis for one reader: it may wait for answers, so that the reader never does.
//!
//! One turn for each request of the source: leases, new cameras, groups, then pipelines with the acknowledgements in front
//! of the reads, the next of which is posted before the answers of the last are read. Owns the streams' state and the
//! connection; an entry costs no allocation but its payload's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use omma_engine::cameras::Delivery;
use omma_engine::source::SourceError;
use omma_frame::{Arrival, CameraIndex};

use super::RedisSourceOptions;
use super::budget::Budget;
use super::discover::Discovery;
use super::entries::EntryReader;
use super::leases::Leases;
use super::rhythm::Rhythm;
use super::rota::Rota;
use super::stream::{Cursor, EntryId, FIRST, Stream};
use crate::redis::link::{Commands, Link, LinkError, Retry};

/// Errors that are kept until the source asks; a fault of all cameras at once is told by a few of them.
const ERRORS_MAX: usize = 32;
/// Pauses between attempts to reach Redis.
const DOWN_MIN: Duration = Duration::from_millis(100);

/// How often segments are looked at whose producers may have gone.
const RINGS_REFRESH: Duration = Duration::from_secs(5);

/// Reads of one turn while there is more than one answer may hold.
const PARTS_MAX: usize = 16;
/// Replies that wait for the source: more than a turn has parts, so that handing over one of those never waits.
pub(super) const REPLIES_MAX: usize = 4 * PARTS_MAX;
/// So often what has come is handed over while more of it comes.
const HAND_OVER: Duration = Duration::from_millis(1);

/// What the source asks for.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// By stream how many entries have room; empty: read nothing.
    pub rooms: Vec<u32>,
    pub settled: Vec<Settled>,
    /// Say goodbye and end.
    pub stop: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub stream: u32,
    pub id: EntryId,
    pub fate: EntryFate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryFate {
    /// It need not be delivered again.
    Done,
    /// It stays pending, for whoever owns the camera next.
    Again,
    /// It goes to the dead-letter stream.
    Poisoned,
}

/// What a turn, or a part of one, brought. The request's vectors come back with the last part, to be used again.
#[derive(Default)]
pub(super) struct Reply {
    /// Nothing more comes for this request.
    pub last: bool,
    pub arrivals: Vec<(u32, Arrival)>,
    /// Cameras that are new, in the order of their streams.
    pub found: Vec<(CameraIndex, u32)>,
    /// Shards whose frames are another process's now.
    pub lost_shards: Vec<u32>,
    /// Shards whose frames others have read, and which are ours again.
    pub resumed_shards: Vec<u32>,
    pub errors: Vec<SourceError>,
    /// There is more than was asked for: ask again at once.
    pub more: bool,
    /// How long Redis is best left alone after what was asked.
    pub rest: Duration,
    /// By stream whether it may be due when the next request comes: not zero.
    pub due: Vec<u32>,
    pub settled: Vec<Settled>,
}

pub(super) struct Worker {
    pub options: Arc<RedisSourceOptions>,
    pub link: Link,
    pub commands: Commands,
    pub streams: Vec<Stream>,
    /// In the same order: when each is worth asking, apart from what else there is to know, since every turn looks at all.
    pub rhythms: Vec<Rhythm>,
    /// By shard, those of one place in a cluster next to each other.
    pub by_shard: Vec<Vec<u32>>,
    pub leases: Leases,
    pub entries: EntryReader,
    pub budget: Budget,
    pub discovery: Discovery,
    /// Streams with something to acknowledge, each once.
    pub owing: Vec<u32>,
    /// Since when, if there are any.
    pub owing_since: Option<Instant>,
    /// Poisoned entries that are not in the dead-letter stream yet, and when that is tried (again).
    pub dead: Vec<(u32, EntryId)>,
    pub bury_at: Instant,
    pub burials_failed: u32,
    /// Entries that were given back without having been tried.
    pub untried: Vec<(u32, EntryId)>,
    /// Streams whose group has to be seen to.
    pub closed: bool,
    pub rota: Rota,
    /// How long Redis is best left alone after what was asked last.
    pub rest: Duration,
    pub next_look: Instant,
    pub next_stream_looked: usize,
    pub next_rings: Instant,
    down: Option<Instant>,
    failures: u32,
    /// What happened while nobody asked.
    untold: Reply,
}

impl Worker {
    pub fn new(
        options: Arc<RedisSourceOptions>,
        link: Link,
        leases: Leases,
        entries: EntryReader,
        now: Instant,
    ) -> Self {
        let (budget, rest) = (Budget::new(options.reply_bytes, options.entries_max), options.poll_min);
        let discovery = Discovery::new(options.discover_interval, now);
        let shards = options.shards as usize;
        Self {
            options,
            link,
            commands: Commands::default(),
            streams: Vec::new(),
            rhythms: Vec::new(),
            by_shard: vec![Vec::new(); shards],
            leases,
            entries,
            budget,
            discovery,
            owing: Vec::new(),
            owing_since: None,
            dead: Vec::new(),
            bury_at: now,
            burials_failed: 0,
            untried: Vec::new(),
            closed: true,
            rota: Rota::default(),
            rest,
            next_look: now,
            next_stream_looked: 0,
            next_rings: now,
            down: None,
            failures: 0,
            untold: Reply::default(),
        }
    }

    /// Whether unfinished entries stay with the group.
    pub fn keeps_pending(&self) -> bool {
        self.options.delivery == Delivery::Every
    }

    /// A stream more, named by the configuration or found.
    pub fn add(&mut self, camera: CameraIndex, key: &str, shard: u32, found: bool, now: Instant) {
        let position = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        let stream = Stream::new(camera, key, shard, found, now);
        let Some(list) = self.by_shard.get_mut(shard as usize) else { return };
        if self.link.is_cluster() {
            let slot_of = |position: &u32| match self.streams[*position as usize].place {
                crate::redis::link::Place::Slot(slot) => slot,
                _ => 0,
            };
            let crate::redis::link::Place::Slot(slot) = stream.place else { return };
            let at = list.partition_point(|other| slot_of(other) <= slot);
            list.insert(at, position);
        } else {
            list.push(position);
        }
        self.streams.push(stream);
        self.rhythms.push(Rhythm::new(now));
        self.closed = true;
    }

    /// Until the source is gone.
    pub fn run(mut self, requests: &Receiver<Request>, replies: &Sender<Reply>) {
        let idle = self.options.lease / 4;
        loop {
            match requests.recv_timeout(idle) {
                Ok(request) => {
                    let stop = request.stop;
                    if !self.turn(request, replies) || stop {
                        return;
                    }
                }
                // Nobody asks, as when everything is full: what is owned stays so all the same.
                Err(RecvTimeoutError::Timeout) => {
                    let mut reply = std::mem::take(&mut self.untold);
                    self.keep_leases(Instant::now(), &mut reply);
                    self.untold = reply;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does what a request asks for; `false`: nobody is there who would hear of it.
    fn turn(&mut self, mut request: Request, replies: &Sender<Reply>) -> bool {
        let now = Instant::now();
        let mut reply = std::mem::take(&mut self.untold);
        for settled in request.settled.drain(..) {
            self.settle(settled);
        }
        // Nobody is asked again at once who has just not answered; a goodbye is worth a try.
        if self.down.is_none_or(|until| now >= until) || request.stop {
            if request.stop {
                self.bury(&mut reply, now);
                self.undo_deliveries();
                if let Some(part) = self.post(&[], now) {
                    self.hear(part, &mut Outlet::new(&mut [], replies), &mut reply);
                }
                self.leases.leave(&mut self.link);
            } else {
                // Before anything that may fail for reasons of its own.
                self.keep_leases(now, &mut reply);
                self.bury(&mut reply, now);
                self.undo_deliveries();
                self.find_cameras(now, &mut reply);
                self.open(now, &mut reply);
                self.look(now, &mut reply);
                self.refresh_rings(now);
                if !self.read_in_parts(&mut request.rooms, &mut reply, replies) {
                    return false;
                }
            }
        }
        self.tell_due(&mut request.rooms);
        (reply.due, reply.settled) = (request.rooms, request.settled);
        (reply.last, reply.rest) = (true, self.rest);
        hand_over(reply, replies)
    }

    /// Which streams may be due when the next request comes: of many cameras few are, and the reader need not find out
    /// how much room the others have.
    fn tell_due(&self, due: &mut Vec<u32>) {
        let soon = Instant::now() + self.options.poll_max;
        due.clear();
        due.extend(self.rhythms.iter().map(|rhythm| u32::from(rhythm.is_due(soon))));
    }

    /// Reads while there is more; all parts but the last are handed over as they come.
    fn read_in_parts(&mut self, rooms: &mut [u32], reply: &mut Reply, replies: &Sender<Reply>) -> bool {
        let mut outlet = Outlet::new(rooms, replies);
        let mut next = self.post(outlet.rooms, Instant::now());
        let mut posted = 1;
        while let Some(part) = next.take() {
            if self.may_go_on(posted) && part.cut && !part.again {
                next = self.post(outlet.rooms, Instant::now());
                posted += 1;
            }
            let came = self.hear(part, &mut outlet, reply);
            if next.is_none() && (!self.may_go_on(posted) || !reply.more || came == 0) {
                break;
            }
            if !outlet.hand_over(std::mem::take(reply)) {
                return false;
            }
            if next.is_none() {
                next = self.post(outlet.rooms, Instant::now());
                posted += 1;
            }
        }
        true
    }

    /// Whether a turn of so many parts may have another: leases are renewed between turns, and a server that has just
    /// not answered is left alone.
    fn may_go_on(&self, posted: usize) -> bool {
        posted < PARTS_MAX && self.down.is_none() && !self.leases.is_due(Instant::now())
    }

    fn settle(&mut self, settled: Settled) {
        let Some(stream) = self.streams.get_mut(settled.stream as usize) else { return };
        match settled.fate {
            EntryFate::Again => {
                stream.settled(settled.id);
                self.untried.push((settled.stream, settled.id));
            }
            EntryFate::Done => {
                stream.settled(settled.id);
                self.acknowledge(settled.stream, settled.id);
            }
            EntryFate::Poisoned => self.dead.push((settled.stream, settled.id)),
        }
    }

    /// With a read that comes soon.
    pub fn acknowledge(&mut self, position: u32, id: EntryId) {
        let stream = &mut self.streams[position as usize];
        if stream.acks.is_empty() {
            self.owing.push(position);
        }
        stream.acks.push(id);
    }

    fn keep_leases(&mut self, now: Instant, reply: &mut Reply) {
        if !self.leases.is_due(now) || self.down.is_some_and(|until| now < until) {
            return;
        }
        let (streams, by_shard) = (&self.streams, &self.by_shard);
        let is_drained = |shard: u32| {
            let list = by_shard.get(shard as usize).map_or(&[][..], Vec::as_slice);
            list.iter().all(|&position| streams[position as usize].is_drained())
        };
        let changes = self.leases.tick(&mut self.link, now, &is_drained);
        self.closed |= !changes.gained.is_empty();
        self.lose(&changes.lost, reply);
        reply.resumed_shards.extend(changes.resumed);
        if let Some(error) = changes.down {
            return self.fail(&error, now, reply);
        }
        self.is_up();
        if let Some(error) = changes.failed {
            self.say(None, &error.message, Duration::from_millis(250), reply);
        }
    }

    fn lose(&mut self, shards: &[u32], reply: &mut Reply) {
        for &shard in shards {
            for &position in self.by_shard.get(shard as usize).map_or(&[][..], Vec::as_slice) {
                self.streams[position as usize].give_up();
            }
        }
        self.closed |= !shards.is_empty();
        reply.lost_shards.extend_from_slice(shards);
    }

    fn refresh_rings(&mut self, now: Instant) {
        if now < self.next_rings {
            return;
        }
        self.next_rings = now + RINGS_REFRESH;
        self.entries.refresh_rings();
        self.options.backlog.note(self.options.reader, self.read_to_end(now));
        // One of the readers is enough.
        if self.options.reader == 0
            && let Some(grace) = self.options.backlog.grace(now)
        {
            // Where the folder cannot be read there are no handles, and those that come say so.
            let _ = self.entries.rings.sweep(grace);
        }
    }

    /// Redis as a whole could not be reached or would not: it is left alone for a pause that grows.
    pub fn fail(&mut self, error: &LinkError, now: Instant, reply: &mut Reply) {
        let pause = DOWN_MIN.saturating_mul(1 << self.failures.min(16)).min(self.options.reconnect_max);
        self.failures = self.failures.saturating_add(1);
        self.down = Some(now + pause);
        let retry_after = if error.retry == Retry::Now { Duration::ZERO } else { pause };
        self.say(None, &error.message, retry_after, reply);
    }

    pub fn is_up(&mut self) {
        self.failures = 0;
        self.down = None;
    }

    pub fn say(&self, camera: Option<CameraIndex>, message: &str, retry_after: Duration, reply: &mut Reply) {
        if reply.errors.len() < ERRORS_MAX {
            let (source, message) = (self.options.name.clone(), message.to_owned());
            reply.errors.push(SourceError { source, camera, message, retry_after: Some(retry_after) });
        }
    }

    /// The stream's group has to be seen to before it is read on.
    pub fn close(&mut self, position: u32) {
        let stream = &mut self.streams[position as usize];
        let from = match stream.cursor {
            Cursor::Closed(from) => from,
            Cursor::History(from) => from,
            Cursor::New | Cursor::Skip => stream.last,
            Cursor::Gone => return,
        };
        stream.cursor = Cursor::Closed(from);
        self.closed = true;
    }

    /// All that is pending of it is read again, once what is in flight has come home.
    pub fn reopen(&mut self, position: u32) {
        self.streams[position as usize].cursor = Cursor::Closed(FIRST);
        self.closed = true;
    }
}

/// Through which what comes goes to the source while a turn goes on.
pub(super) struct Outlet<'a> {
    /// By stream how many entries still have room.
    rooms: &'a mut [u32],
    replies: &'a Sender<Reply>,
    last: Instant,
}

impl<'a> Outlet<'a> {
    fn new(rooms: &'a mut [u32], replies: &'a Sender<Reply>) -> Self {
        Self { rooms, replies, last: Instant::now() }
    }

    /// Passes on what has come, now and then; where too much waits already, it comes with the end of the part.
    pub fn pass_on(&mut self, reply: &mut Reply) {
        let now = Instant::now();
        if now < self.last + HAND_OVER || reply.arrivals.is_empty() || self.replies.len() >= REPLIES_MAX - 2 * PARTS_MAX
        {
            return;
        }
        self.last = now;
        self.hand_over(std::mem::take(reply));
    }

    fn hand_over(&mut self, reply: Reply) -> bool {
        for (position, _) in &reply.arrivals {
            if let Some(room) = self.rooms.get_mut(*position as usize) {
                *room = room.saturating_sub(1);
            }
        }
        hand_over(reply, self.replies)
    }
}

fn hand_over(mut reply: Reply, replies: &Sender<Reply>) -> bool {
    reply.errors.truncate(ERRORS_MAX);
    replies.send(reply).is_ok()
}

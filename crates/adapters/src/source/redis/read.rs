//! The pipeline of a turn: acknowledgements, then one read for each shard, and what comes back.

use std::time::{Duration, Instant};

use omma_engine::cameras::Delivery;
use omma_frame::Arrival;

use super::RedisSourceOptions;
use super::budget::{self, power_below};
use super::entries::{Entry, EntryReader};
use super::latest::{self, Skipped};
use super::rhythm::{Pace, Rhythm};
use super::rota::Turn;
use super::stream::{Cursor, EntryId, Stream};
use super::worker::{Outlet, Reply, Worker};
use crate::redis::link::{Answer, Commands, Head, LinkError, Place, Posted, Replies, ReplyError, Retry};

/// What is settled waits so long for more of its stream, to be acknowledged together.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_millis(50);

/// What a command of the pipeline is for. Streams stand as a range of the list of those asked.
enum Job {
    Acknowledge(u32),
    /// Each for this many entries.
    Read(std::ops::Range<usize>, usize),
    /// By the script that skips.
    Skip(std::ops::Range<usize>),
}

enum Failure {
    Refused(String),
    Lost(LinkError),
}

/// Entries of a stream that were delivered before.
pub(super) struct Again {
    pub position: u32,
    pub first: EntryId,
    pub last: EntryId,
    pub count: usize,
}

/// What the answers came to.
#[derive(Default)]
struct Heard {
    /// Pending entries whose bodies are gone.
    gone: Vec<(u32, EntryId)>,
    again: Vec<Again>,
    skipping_failed: Vec<(u32, String)>,
    bytes: u64,
    entries: usize,
    wanted: usize,
    /// A stream gave as many as it was asked for.
    full: bool,
}

/// A read that is on its way, with the acknowledgements that went before it.
pub(super) struct Part {
    posted: Posted,
    jobs: Vec<Job>,
    asked: Vec<u32>,
    begun: Instant,
    /// Others that are ready had no room in it.
    pub cut: bool,
    /// Something of it was delivered before, and may have to be asked about once it is here.
    pub again: bool,
}

impl Worker {
    /// Asks what there is for streams with room (by place among the streams). `None`: there is nothing to say.
    pub(super) fn post(&mut self, rooms: &[u32], now: Instant) -> Option<Part> {
        self.commands.clear();
        let mut jobs = Vec::new();
        if self.owes(rooms, now) {
            self.put_acknowledgements(&mut jobs);
        }
        let (asked, cut) = self.put_reads(rooms, now, &mut jobs);
        if jobs.is_empty() {
            return None;
        }
        let mut again = false;
        for &position in &asked {
            let stream = &mut self.streams[position as usize];
            stream.asked = true;
            again |= matches!(stream.cursor, Cursor::History(_));
        }
        let posted = self.link.post(std::mem::take(&mut self.commands));
        Some(Part { posted, jobs, asked, begun: now, cut, again })
    }

    /// Hears what a part brought, and hands it over as it comes; what is left in `reply` at the end is still to be handed
    /// over. Returns how many entries there were.
    pub(super) fn hear(&mut self, part: Part, outlet: &mut Outlet<'_>, reply: &mut Reply) -> usize {
        let Part { posted, jobs, asked, begun: now, cut, again } = part;
        for &position in &asked {
            self.streams[position as usize].asked = false;
        }
        let mut heard = Heard::default();
        let mut failed: Vec<(usize, Failure)> = Vec::new();
        let keeps_pending = self.keeps_pending();
        self.rest = budget::rest(asked.len(), jobs.len()).clamp(self.options.poll_min, self.options.poll_max);
        let pace = Pace { now, step: self.rest, patience: budget::patience(self.streams.len()) };
        let (streams, rhythms, reader) = (&mut self.streams, &mut self.rhythms, &mut self.entries);
        self.commands = self.link.hear(posted, &mut |number, answer| {
            match (answer, &jobs[number]) {
                (Answer::Refused(text), _) => failed.push((number, Failure::Refused(text.to_owned()))),
                (Answer::Lost(error), _) => failed.push((number, Failure::Lost(error.clone()))),
                (Answer::Reply(replies), &Job::Acknowledge(position)) => {
                    replies.skip_piece()?;
                    streams[position as usize].acks.clear();
                }
                (Answer::Reply(replies), Job::Read(range, count)) => {
                    let before = replies.received();
                    heard.wanted += range.len() * count;
                    let asked = &asked[range.clone()];
                    let (reader, heard) = (&mut *reader, &mut heard);
                    let mut hear = Hearing { reader, streams, rhythms, heard, keeps_pending, pace };
                    let outcome = hear.read(replies, asked, *count, &mut reply.arrivals);
                    heard.bytes += replies.received() - before;
                    outcome?;
                    // What came before has to be whole until it is known how often.
                    if !again {
                        outlet.pass_on(reply);
                    }
                }
                (Answer::Reply(replies), Job::Skip(range)) => {
                    let failures = &mut heard.skipping_failed;
                    let arrivals = &mut reply.arrivals;
                    let asked = &asked[range.clone()];
                    latest::hear(replies, reader, streams, rhythms, asked, pace, &mut |position, what| match what {
                        Skipped::Frame(arrival) => arrivals.push((position, *arrival)),
                        Skipped::Failed(text) => failures.push((position, text)),
                    })?;
                }
            }
            Ok(())
        });
        if failed.is_empty() {
            self.is_up();
        }
        self.budget.learn(heard.bytes, heard.entries, heard.wanted);
        reply.more |= heard.full || cut;
        for (position, id) in heard.gone {
            self.streams[position as usize].settled(id);
            self.acknowledge(position, id);
        }
        for (position, text) in heard.skipping_failed {
            self.refused(&[position], &text, now, reply);
        }
        self.failures_of(failed, &jobs, &asked, now, reply);
        if !heard.again.is_empty() {
            self.find_poison(&heard.again, now, reply);
        }
        heard.entries
    }

    /// Whether it is time to acknowledge: each `XACK` costs the server as much as an entry, whether for one or for many.
    fn owes(&mut self, rooms: &[u32], now: Instant) -> bool {
        if self.owing.is_empty() {
            return false;
        }
        let since = *self.owing_since.get_or_insert(now);
        rooms.is_empty() || now >= since + ACKNOWLEDGED_AFTER
    }

    fn put_acknowledgements(&mut self, jobs: &mut Vec<Job>) {
        self.owing_since = None;
        for position in std::mem::take(&mut self.owing) {
            let stream = &self.streams[position as usize];
            if stream.acks.is_empty() {
                continue;
            }
            self.commands.begin(stream.place, 3 + stream.acks.len());
            self.commands.arg(b"XACK").arg(&stream.key).arg(self.options.group.as_bytes());
            for &id in &stream.acks {
                self.commands.entry_id(id);
            }
            jobs.push(Job::Acknowledge(position));
        }
    }

    /// Puts the reads; returns the streams that they ask, and whether others have to wait for another part.
    fn put_reads(&mut self, rooms: &[u32], now: Instant, jobs: &mut Vec<Job>) -> (Vec<u32>, bool) {
        if rooms.is_empty() {
            return (Vec::new(), false);
        }
        let held: Vec<bool> = (0..self.by_shard.len()).map(|shard| self.leases.holds(shard as u32, now)).collect();
        let streams = &self.streams;
        let rhythms = &self.rhythms;
        let is_ready = |position: u32| {
            // Most are not due, and that is found out without looking at the streams themselves.
            if rooms.get(position as usize).is_none_or(|&room| room == 0) || !rhythms[position as usize].is_due(now) {
                return false;
            }
            let stream = &streams[position as usize];
            !matches!(stream.cursor, Cursor::Closed(_) | Cursor::Gone) && !stream.asked && !stream.is_away(now)
        };
        let lists = self.by_shard.iter().zip(&held).filter(|(_, held)| **held).flat_map(|(list, _)| list);
        let ready = lists.filter(|&&position| is_ready(position)).count();
        if ready == 0 {
            return (Vec::new(), false);
        }
        let (limit, count_max) = self.budget.plan(ready, self.options.read_frames_max);
        let Turn { streams: mut asked, parts, cut } =
            self.rota.turn(&self.by_shard, limit, |shard| held[shard], is_ready);
        // The slot of a cluster, and for how many entries to ask; zero stands for the script.
        let is_cluster = self.link.is_cluster();
        let key = |position: &u32| {
            let stream = &streams[*position as usize];
            let room = (rooms[*position as usize] as usize).min(count_max);
            let count = if stream.cursor == Cursor::Skip { 0 } else { power_below(room) };
            (if is_cluster { slot(stream.place) } else { 0 }, count)
        };
        for part in parts {
            // Mostly all are of one kind already.
            if !asked[part.clone()].is_sorted_by_key(key) {
                asked[part.clone()].sort_by_key(key);
            }
            let mut start = part.start;
            for call in asked[part].chunk_by(|a, b| key(a) == key(b)) {
                let range = start..start + call.len();
                start = range.end;
                match key(&call[0]).1 {
                    0 => {
                        let skipped: Vec<&Stream> = call.iter().map(|&position| &streams[position as usize]).collect();
                        let (group, consumer) = (self.options.group.as_bytes(), self.options.consumer.as_bytes());
                        latest::ask(&mut self.commands, group, consumer, &skipped);
                        jobs.push(Job::Skip(range));
                    }
                    count => {
                        let keeps_pending = self.options.delivery == Delivery::Every;
                        put_read(&mut self.commands, &self.options, streams, call, count, keeps_pending);
                        jobs.push(Job::Read(range, count));
                    }
                }
            }
        }
        (asked, cut)
    }

    /// Commands that came to nothing.
    fn failures_of(
        &mut self,
        failed: Vec<(usize, Failure)>,
        jobs: &[Job],
        asked: &[u32],
        now: Instant,
        reply: &mut Reply,
    ) {
        let mut lost: Option<LinkError> = None;
        for (number, failure) in failed {
            match (&jobs[number], failure) {
                // They are sent again with the next pipeline.
                (&Job::Acknowledge(position), Failure::Lost(error)) => {
                    self.owing.push(position);
                    lost = Some(error);
                }
                (&Job::Acknowledge(position), Failure::Refused(text)) => {
                    let error = LinkError::of_refusal(&text);
                    if error.retry == Retry::Never {
                        // What cannot be acknowledged stays pending and is read again one day.
                        self.streams[position as usize].acks.clear();
                        let camera = self.streams[position as usize].camera;
                        self.say(Some(camera), &error.message, Duration::ZERO, reply);
                    } else {
                        self.owing.push(position);
                        lost = Some(error);
                    }
                }
                (Job::Read(range, _) | Job::Skip(range), Failure::Lost(error)) => {
                    let keeps_pending = self.keeps_pending();
                    for &position in &asked[range.clone()] {
                        self.streams[position as usize].interrupted(keeps_pending);
                        self.rhythms[position as usize].at_once(now);
                        if self.link.is_cluster() {
                            self.streams[position as usize].leave_alone(now);
                        }
                    }
                    lost = Some(error);
                }
                (Job::Read(range, _) | Job::Skip(range), Failure::Refused(text)) => {
                    self.refused(&asked[range.clone()], &text, now, reply);
                }
            }
        }
        if let Some(error) = lost {
            if self.link.is_cluster() {
                // The other nodes' cameras go on.
                self.say(None, &error.message, Duration::from_millis(250), reply);
            } else {
                self.fail(&error, now, reply);
            }
        }
    }

    /// A read that the server refused: one stream of a call is enough to have all of it refused.
    fn refused(&mut self, asked: &[u32], text: &str, now: Instant, reply: &mut Reply) {
        let error = LinkError::of_refusal(text);
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            // Looking at the groups finds out which.
            "NOGROUP" | "WRONGTYPE" | "NOPERM" | "UNBLOCKED" | "ERR" => {
                asked.iter().for_each(|&position| self.close(position));
                reply.more |= code == "NOGROUP";
                if matches!(code, "NOPERM" | "ERR") {
                    let pause = asked.iter().map(|&position| self.streams[position as usize].leave_alone(now)).max();
                    self.say(None, &error.message, pause.unwrap_or_default(), reply);
                }
            }
            // One master that loads or was demoted is not the others' trouble.
            _ if self.link.is_cluster() => {
                let pause = asked.iter().map(|&position| self.streams[position as usize].leave_alone(now)).max();
                self.say(None, &error.message, pause.unwrap_or_default(), reply);
            }
            _ => self.fail(&error, now, reply),
        }
    }
}

fn put_read(
    commands: &mut Commands,
    options: &RedisSourceOptions,
    streams: &[Stream],
    asked: &[u32],
    count: usize,
    keeps_pending: bool,
) {
    let Some(&first) = asked.first() else { return };
    let arguments = if keeps_pending { 7 } else { 8 } + 2 * asked.len();
    commands.begin(streams[first as usize].place, arguments);
    commands.arg(b"XREADGROUP").arg(b"GROUP").arg(options.group.as_bytes());
    commands.arg(options.consumer.as_bytes()).arg(b"COUNT").number(count as u64);
    if !keeps_pending {
        commands.arg(b"NOACK");
    }
    commands.arg(b"STREAMS");
    for &position in asked {
        commands.arg(&streams[position as usize].key);
    }
    for &position in asked {
        match streams[position as usize].cursor {
            Cursor::History(after) => commands.entry_id(after),
            _ => commands.arg(b">"),
        };
    }
}

fn slot(place: Place) -> u16 {
    match place {
        Place::Slot(slot) => slot,
        _ => 0,
    }
}

/// What hears the answer of one read.
struct Hearing<'a> {
    reader: &'a mut EntryReader,
    streams: &'a mut [Stream],
    rhythms: &'a mut [Rhythm],
    heard: &'a mut Heard,
    keeps_pending: bool,
    pace: Pace,
}

impl Hearing<'_> {
    fn read(
        &mut self,
        replies: &mut Replies,
        asked: &[u32],
        count: usize,
        arrivals: &mut Vec<(u32, Arrival)>,
    ) -> Result<(), ReplyError> {
        let found = match replies.head()? {
            Head::Nil => 0,
            Head::Array(found) => found,
            other => return Err(ReplyError::Protocol(format!("{other:?} in answer to XREADGROUP"))),
        };
        let mut rest = asked;
        for _ in 0..found {
            match replies.head()? {
                Head::Array(2) => {}
                other => return Err(ReplyError::Protocol(format!("{other:?} in the place of a stream"))),
            }
            let Head::Bulk(length) = replies.head()? else {
                return Err(ReplyError::Protocol("a stream without a name".to_owned()));
            };
            // Streams come in the order in which they were asked.
            let key = replies.short(length)?;
            let at = rest.iter().position(|&position| key == Some(&*self.streams[position as usize].key));
            let Some(at) = at else {
                return Err(ReplyError::Protocol("a stream that was not asked for".to_owned()));
            };
            let position = rest[at];
            self.missed(&rest[..at]);
            rest = &rest[at + 1..];
            self.stream(replies, position, count, arrivals)?;
        }
        self.missed(rest);
        Ok(())
    }

    fn missed(&mut self, streams: &[u32]) {
        for &position in streams {
            self.streams[position as usize].read_to_end = Some(self.pace.now);
            self.rhythms[position as usize].missed(self.pace);
        }
    }

    fn stream(
        &mut self,
        replies: &mut Replies,
        position: u32,
        count: usize,
        arrivals: &mut Vec<(u32, Arrival)>,
    ) -> Result<(), ReplyError> {
        let (stream, rhythm) = (&mut self.streams[position as usize], &mut self.rhythms[position as usize]);
        let (keeps_pending, gone) = (self.keeps_pending, &mut self.heard.gone);
        let history = matches!(stream.cursor, Cursor::History(_));
        let (mut first, mut last, mut frames) = (None, None, 0);
        let camera = stream.camera;
        let outcome = self.reader.entries(replies, camera, &mut |entry| match entry {
            Entry::Frame(id, arrival) => {
                first = first.or(Some(id));
                last = Some(id);
                frames += 1;
                rhythm.came(id.0);
                if keeps_pending {
                    stream.came(id);
                } else {
                    stream.last = stream.last.max(id);
                }
                arrivals.push((position, arrival));
            }
            Entry::Gone(id) => {
                last = Some(id);
                gone.push((position, id));
            }
        });
        if history {
            if let (Some(first), Some(last)) = (first, last) {
                self.heard.again.push(Again { position, first, last, count: frames });
            }
            if let Some(last) = last {
                stream.cursor = Cursor::History(last);
                self.heard.full = true;
            }
        }
        let entries = outcome?;
        if history && entries == 0 {
            stream.cursor = Cursor::New;
            self.heard.full = true;
        }
        rhythm.found(self.pace);
        if history {
            rhythm.at_once(self.pace.now);
        }
        if entries >= count {
            self.heard.full = true;
            rhythm.at_once(self.pace.now);
            if !keeps_pending {
                stream.cursor = Cursor::Skip;
            }
        } else if !history {
            stream.read_to_end = Some(self.pace.now);
        }
        stream.is_well();
        self.heard.entries += frames;
        Ok(())
    }
}

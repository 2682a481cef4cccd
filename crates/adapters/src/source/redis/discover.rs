//! Cameras that come while the engine runs: found by their streams' names, or added through an inbox.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use omma_engine::shard_hash::shard_of;
use omma_frame::CameraId;
use redis::Value;

use super::RedisSourceOptions;
use super::stream::Cursor;
use super::worker::{Reply, Worker};
use crate::redis::link::{Answer, Commands, Place};

/// Cameras that wait to be taken up by one reader.
const INBOX_MAX: usize = 1024;
/// Names that one SCAN looks at.
const SCANNED: u64 = 1000;

/// Through which another part of the process adds cameras to a running source. Clones lead to the same source.
#[derive(Debug, Clone)]
pub struct CameraInbox {
    shards: u32,
    /// By reader.
    readers: Vec<Sender<CameraId>>,
}

/// The receiving end of one reader.
#[derive(Debug, Clone)]
pub struct CameraInboxEnd(pub(super) Receiver<CameraId>);

/// Why a camera was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxError {
    /// Too many wait already: try again in a moment.
    Full,
    /// The source has ended.
    Gone,
}

impl CameraInbox {
    /// An inbox for a source of `readers` parts; each shard belongs to the reader of its number modulo theirs.
    #[must_use]
    pub fn new(shards: u32, readers: usize) -> (Self, Vec<CameraInboxEnd>) {
        let (readers, ends) = (0..readers.max(1)).map(|_| bounded(INBOX_MAX)).unzip::<_, _, Vec<_>, Vec<_>>();
        (Self { shards, readers }, ends.into_iter().map(CameraInboxEnd).collect())
    }

    /// Adds a camera; one that is there already stays as it is.
    ///
    /// # Errors
    /// See [`InboxError`].
    pub fn add(&self, camera: CameraId) -> Result<(), InboxError> {
        let reader = shard_of(&camera, self.shards) as usize % self.readers.len();
        self.readers[reader].try_send(camera).map_err(|error| match error {
            TrySendError::Full(_) => InboxError::Full,
            TrySendError::Disconnected(_) => InboxError::Gone,
        })
    }
}

/// Where the search for new streams stands.
pub(super) struct Discovery {
    /// `None`: streams are not searched for.
    every: Option<Duration>,
    next: Instant,
    /// While a search is on: the master that is asked, and its cursor.
    at: Option<(usize, u64)>,
    /// When it began.
    begun: Instant,
    /// When the last one that came to its end began.
    searched: Option<Instant>,
    /// Names that were looked at and are no new cameras.
    known: HashSet<Box<[u8]>>,
    /// Streams of cameras that were found and are gone, with their places: if they are seen again, they are read on.
    pub gone: HashMap<Box<[u8]>, u32>,
}

impl Discovery {
    pub fn new(every: Option<Duration>, now: Instant) -> Self {
        Self { every, next: now, at: None, begun: now, searched: None, known: HashSet::new(), gone: HashMap::new() }
    }
}

impl RedisSourceOptions {
    /// The camera whose frames are in a stream that was found.
    fn camera(&self, stream: &[u8]) -> Option<CameraId> {
        let ours = stream == self.dead_letter.as_bytes()
            || self.not_cameras.iter().any(|names| names.camera(stream).is_some());
        if ours { None } else { self.names.camera(stream) }
    }
}

impl Worker {
    /// When all streams were read to their ends, those that are not found yet included; `None`: they have not been.
    pub(super) fn read_to_end(&self, now: Instant) -> Option<Instant> {
        let known = self.streams.iter().filter(|stream| stream.cursor != Cursor::Gone);
        let searched = if self.discovery.every.is_some() { self.discovery.searched } else { Some(now) };
        known.map(|stream| stream.read_to_end).min().map_or(searched, |read| read.min(searched))
    }

    /// Takes up cameras from the inbox and from one step of the search.
    pub(super) fn find_cameras(&mut self, now: Instant, reply: &mut Reply) {
        let inbox = self.options.inbox.as_ref().map(|CameraInboxEnd(inbox)| inbox.try_iter().take(INBOX_MAX));
        let named: Vec<CameraId> = inbox.into_iter().flatten().collect();
        self.take_up(named, false, now, reply);
        let found = self.search(now, reply);
        self.take_up(found, true, now, reply);
    }

    fn take_up(&mut self, mut new: Vec<CameraId>, found: bool, now: Instant, reply: &mut Reply) {
        if new.is_empty() {
            return;
        }
        let cameras = &self.options.cameras;
        let is_own = |shard: u32| shard as usize % self.options.readers == self.options.reader;
        // A camera of another source, or one that is here already, is none of the new.
        new.retain(|id| is_own(shard_of(id, cameras.shards())) && cameras.find(id).is_none());
        new.sort();
        new.dedup();
        let room = self.options.cameras_max.saturating_sub(self.streams.len());
        if new.len() > room {
            let message =
                format!("{} cameras more than the {} that are allowed", new.len() - room, self.options.cameras_max);
            self.say(None, &message, Duration::ZERO, reply);
            new.truncate(room);
        }
        let plans = new.iter().map(|id| (self.options.plan_of)(id.clone()));
        let indexes = cameras.add(plans.collect::<Vec<_>>());
        for (id, index) in new.iter().zip(indexes) {
            let shard = shard_of(id, self.options.shards);
            let key = self.options.names.stream(id.as_str());
            self.add(index, &key, shard, found, now);
            reply.found.push((index, shard));
        }
    }

    /// One step of the search: the cameras of streams that were not seen before.
    fn search(&mut self, now: Instant, reply: &mut Reply) -> Vec<CameraId> {
        let mut new = Vec::new();
        let Some(every) = self.discovery.every else { return new };
        let (master, cursor) = match self.discovery.at {
            Some(at) => at,
            None if now >= self.discovery.next => {
                self.discovery.begun = now;
                (0, 0)
            }
            None => return new,
        };
        self.discovery.next = now + every;
        let mut commands = Commands::default();
        commands.begin(Place::Master(master), 8).arg(b"SCAN").number(cursor);
        commands.arg(b"MATCH").arg(self.options.names.glob().as_bytes()).arg(b"COUNT").number(SCANNED);
        commands.arg(b"TYPE").arg(b"stream");
        let (mut page, mut failed) = (None, None);
        self.link.exchange(&commands, &mut |_, answer| {
            match answer {
                Answer::Reply(replies) => page = read_page(&replies.value()?),
                Answer::Refused(text) => failed = Some(crate::redis::link::LinkError::of_refusal(text)),
                Answer::Lost(error) => failed = Some(error.clone()),
            }
            Ok(())
        });
        // A search that breaks off begins anew when its time comes.
        self.discovery.at = None;
        if let Some(error) = failed {
            self.say(None, &format!("the search for cameras: {}", error.message), every, reply);
            return new;
        }
        let Some((cursor, keys)) = page else { return new };
        for key in keys {
            if let Some(position) = self.discovery.gone.remove(&key[..]) {
                self.reopen(position);
            } else if self.discovery.known.len() < 4 * self.options.cameras_max
                && self.discovery.known.insert(key.clone().into())
            {
                new.extend(self.options.camera(&key));
            }
        }
        self.discovery.at = match (cursor, self.link.masters()) {
            (0, Ok(masters)) if master + 1 < masters => Some((master + 1, 0)),
            (0, _) => {
                self.discovery.searched = Some(self.discovery.begun);
                None
            }
            (cursor, _) => Some((master, cursor)),
        };
        new
    }
}

/// The answer of SCAN: where it goes on, and names.
fn read_page(value: &Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(cursor), Value::Array(keys)] = &parts[..] else { return None };
    let keys = keys.iter().filter_map(|key| match key {
        Value::BulkString(key) => Some(key.clone()),
        _ => None,
    });
    Some((std::str::from_utf8(cursor).ok()?.parse().ok()?, keys.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_brings_each_camera_to_the_reader_of_its_shard() {
        let (inbox, ends) = CameraInbox::new(32, 3);
        let ids: Vec<CameraId> = (0..50).filter_map(|n| CameraId::new(&format!("cam-{n:04}")).ok()).collect();
        ids.iter().for_each(|id| assert_eq!(inbox.add(id.clone()), Ok(())));
        for (reader, CameraInboxEnd(end)) in ends.iter().enumerate() {
            assert!(end.try_iter().all(|id| shard_of(&id, 32) as usize % 3 == reader));
        }
        let (inbox, ends) = CameraInbox::new(32, 1);
        (0..INBOX_MAX).for_each(|_| assert_eq!(inbox.add(ids[0].clone()), Ok(())));
        assert_eq!(inbox.add(ids[0].clone()), Err(InboxError::Full));
        drop(ends);
        assert_eq!(inbox.add(ids[0].clone()), Err(InboxError::Gone));
    }

    #[test]
    fn pages_of_a_search() {
        let text = |text: &str| Value::BulkString(text.into());
        let page = Value::Array(vec![text("17"), Value::Array(vec![text("a"), Value::Nil, text("b")])]);
        assert_eq!(read_page(&page), Some((17, vec![b"a".to_vec(), b"b".to_vec()])));
        assert_eq!(read_page(&Value::Array(vec![text("x"), Value::Array(vec![])])), None);
    }
}

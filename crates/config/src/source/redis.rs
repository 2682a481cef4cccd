//! Sources of type `redis`.

use std::collections::HashSet;
use std::time::Duration;

use omma_frame::CameraId;

use super::{Reader, SourceKind};
use crate::problem::quoted;
use crate::read::Table;
use crate::redis::{self, RedisConfig};
use crate::schema::Word;
use crate::sink::{SinkConfig, SinkKind};

/// How frames are read from Redis Streams, one stream for each camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStreams {
    pub redis: RedisConfig,
    /// With `{camera}` in it.
    pub stream: String,
    pub wire: FrameWire,
    pub group: String,
    /// A new group begins with the oldest entry, not behind the newest.
    pub from_oldest: bool,
    /// How often streams are searched for new cameras; `None`: never.
    pub discover: Option<Duration>,
    pub reply_bytes_max: usize,
    pub lease: Duration,
    pub claim_idle: Duration,
    pub deliveries_max: u32,
    pub dead_letter: String,
}

/// What the fields of an entry are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameWire {
    Own,
    /// Those of the Python pipeline which omma replaces.
    Compat,
}

impl FrameWire {
    /// The stream of each camera, where nothing else is said.
    #[must_use]
    pub fn usual_stream(self) -> &'static str {
        match self {
            Self::Own => "omma:frames:{camera}",
            Self::Compat => "{camera}_input_topic",
        }
    }
}

impl Word for FrameWire {
    const WORDS: &'static [(&'static str, Self)] = &[("own", Self::Own), ("compat", Self::Compat)];
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum StartWord {
    Oldest,
    New,
}

impl Word for StartWord {
    const WORDS: &'static [(&'static str, Self)] = &[("oldest", Self::Oldest), ("new", Self::New)];
}

const DISCOVER_MS: usize = 2000;

impl Reader<'_> {
    pub(super) fn redis(&mut self, table: &Table<'_>) -> (SourceKind, Vec<CameraId>) {
        let redis = redis::read(table);
        let wire = table.word_or("wire", FrameWire::Own);
        let stream = table.text_or("stream", wire.usual_stream().to_owned());
        let ids = table.texts("camera_ids").unwrap_or_default();
        let cameras: Vec<CameraId> = ids.iter().filter_map(|id| CameraId::new(id).ok()).collect();
        self.own(table, "camera_ids", &cameras);
        let discover = match (table.integer("discover_ms"), table.text("discover_ms")) {
            (Some(millis), _) => Some(millis),
            (None, Some(_)) => None,
            (None, None) if cameras.is_empty() => Some(table.count_or("discover_ms", DISCOVER_MS) as u64),
            (None, None) => {
                table.text_or("discover_ms", "off".to_owned());
                None
            }
        };
        if discover.is_none() && cameras.is_empty() {
            table.problem("discover_ms", "\"off\" without camera_ids", "a time, or the cameras' ids");
        }
        let dead_letter = table.text("dead_letter").unwrap_or_default();
        let frames = Frames { url: &redis.url, pattern: &stream, found: discover.is_some(), cameras: &cameras };
        frames.check(table, &dead_letter, self.sinks_read);
        let (lease, claim_idle) = (table.millis("lease_ms"), table.millis("claim_idle_ms"));
        let kind = SourceKind::Redis(Box::new(RedisStreams {
            redis,
            stream,
            wire,
            group: table.text("group").unwrap_or_default(),
            from_oldest: table.word_or("start", StartWord::Oldest) == StartWord::Oldest,
            discover: discover.map(Duration::from_millis),
            reply_bytes_max: table.count("reply_bytes_max"),
            lease,
            claim_idle,
            deliveries_max: table.small("deliveries_max"),
            dead_letter,
        }));
        (kind, cameras)
    }
}

/// The streams that a source reads.
struct Frames<'a> {
    url: &'a str,
    pattern: &'a str,
    /// Whatever fits the pattern is a camera; otherwise only `cameras` are.
    found: bool,
    cameras: &'a [CameraId],
}

impl Frames<'_> {
    /// Reports streams that omma writes to and would read as frames: each result would be one more of them.
    fn check(&self, table: &Table<'_>, dead_letter: &str, sinks: &[SinkConfig]) {
        let pattern = quoted(self.pattern);
        for (place, sink) in sinks.iter().enumerate() {
            let SinkKind::Redis { redis, stream, .. } = &sink.kind else { continue };
            if redis.url == self.url && self.takes(stream) {
                let found = format!("{pattern}, which the streams of sinks[{place}] fit too: {}", quoted(stream));
                let expected = "a name that no stream of results fits, such as \"omma:frames:{camera}\"";
                table.problem_with("stream", found, expected, self.hint());
            }
        }
        if self.takes(dead_letter) {
            let key = if table.has("dead_letter") { "dead_letter" } else { "stream" };
            let found = format!("{} as dead_letter, which fits stream = {pattern}", quoted(dead_letter));
            table.problem_with(key, found, "names that do not fit one another", self.hint());
        }
    }

    fn hint(&self) -> Option<String> {
        self.found.then(|| "camera_ids with discover_ms = \"off\" names the cameras instead of finding them".to_owned())
    }

    /// Whether a stream of results, by its pattern, or another stream is one of these, whatever the cameras are called.
    fn takes(&self, stream: &str) -> bool {
        let within = self
            .pattern
            .split_once("{camera}")
            .and_then(|(head, tail)| stream.strip_prefix(head)?.strip_suffix(tail).filter(|within| !within.is_empty()));
        let Some(within) = within else { return false };
        let hole = ["{camera}", "{shard}"].into_iter().find_map(|hole| Some((hole, stream.split_once(hole)?)));
        let Some((hole, _)) = hole else {
            return self.found || self.cameras.iter().any(|id| id.as_str() == within);
        };
        // What the patterns share may reach into the hole: then it depends on what cameras are called.
        let Some((head, tail)) = within.split_once(hole) else { return false };
        let ids: HashSet<&str> = self.cameras.iter().map(CameraId::as_str).collect();
        let written = |id: &CameraId| {
            let inner = id.as_str().strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
            inner.is_some_and(|inner| match hole {
                "{camera}" => ids.contains(inner),
                _ => inner.parse::<u32>().is_ok(),
            })
        };
        self.found || self.cameras.iter().any(written)
    }
}

/// One `{camera}` in a name of at most 512 bytes without control characters.
pub(crate) fn fits_stream(text: &str) -> bool {
    text.matches("{camera}").count() == 1 && text.len() <= 512 && !text.chars().any(char::is_control)
}

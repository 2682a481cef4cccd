//! Sources of type `redis`.

use std::time::Duration;

use omma_frame::CameraId;

use super::{Reader, SourceKind};
use crate::read::Table;
use crate::redis::{self, RedisConfig};
use crate::schema::Word;

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

impl Word for FrameWire {
    const WORDS: &'static [(&'static str, Self)] = &[("own", Self::Own), ("compat", Self::Compat)];
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
            dead_letter: table.text("dead_letter").unwrap_or_default(),
        }));
        (kind, cameras)
    }
}

/// One `{camera}` in a name of at most 512 bytes without control characters.
pub(crate) fn fits_stream(text: &str) -> bool {
    text.matches("{camera}").count() == 1 && text.len() <= 512 && !text.chars().any(char::is_control)
}

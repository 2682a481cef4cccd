//! The keys of models on servers that speak the Open Inference Protocol.

use super::texts::{MINUTES_10_MS, SERVER, SERVER_MODEL, key};
use crate::schema::Absent::{Is, Means, Required};
use crate::schema::Kind::{self, Integer, Texts, Word};
use crate::schema::{Key, words};
use crate::triton::{SendAs, SharedMemoryUse};

const TRITON: &[&str] = &["triton"];

pub(super) const SERVERS: Key = key(
    "servers",
    Texts(&SERVER),
    Required,
    "where the model is served; of several, each batch goes to the one that has the fewest under way, and to another if \
     that one fails",
)
.only(TRITON);
pub(super) const MODEL: Key =
    key("model", Kind::Text(&SERVER_MODEL), Means("`name`"), "what the servers call the model").only(TRITON);
pub(super) const SHARED_MEMORY: Key = key(
    "shared_memory",
    Word(words::<SharedMemoryUse>),
    Is("\"auto\""),
    "whether batches and large outputs lie in memory that the server sees too; `auto`: where all servers are on this \
     machine and take it; `on`: a server that does not take it is an error at start",
)
.only(TRITON);
pub(super) const SEND: Key = key(
    "send",
    Word(words::<SendAs>),
    Is("\"tensor\""),
    "`tensor`: decoded pictures; `picture`: JPEG and PNG as they came, for a model that decodes them itself; its \
     `input.width`, `input.height` and `input.resize` then say what it brings them to, and it is not warmed up",
)
.only(TRITON);
pub(super) const PICTURE_BYTES_MAX: Key = key(
    "picture_bytes_max",
    Integer { min: 1024, max: 64 << 20 },
    Is("1048576"),
    "the largest picture that is sent as it came; memory for a whole batch of them is held ready",
)
.only(TRITON);
pub(super) const REQUESTS_MAX: Key = key(
    "requests_max",
    Integer { min: 1, max: 1024 },
    Is("64"),
    "batches on their way at the same time, at most; how many there are follows from how soon they are answered",
)
.only(TRITON);
pub(super) const RETRIES_MAX: Key = key(
    "retries_max",
    Integer { min: 0, max: 100 },
    Is("3"),
    "how often a batch is sent again that a server was too busy for; one whose connection failed, or whose model is away, is \
     sent again until `deadline_ms`",
)
.only(TRITON);
pub(super) const CONNECT_TIMEOUT_MS: Key =
    key("connect_timeout_ms", Integer { min: 1, max: MINUTES_10_MS }, Is("2000"), "how long a connection may take")
        .only(TRITON);
pub(super) const START_TIMEOUT_MS: Key = key(
    "start_timeout_ms",
    Integer { min: 0, max: MINUTES_10_MS },
    Is("0"),
    "how long a start waits for a server that has the model ready",
)
.only(TRITON);

//! The table of all keys: the one place where a key, its values, its default and its meaning are written down. The
//! page docs/ref/configuration.md is made from it.

mod models;
mod redis;
mod sources;
mod texts;
mod triton;

use self::models::MODELS;
use self::sources::SOURCES;
use self::texts::{
    ADDRESS, MINUTES_10_MS, NAME, PATH, RESULT_STREAM, SECRET_PATH, VARIABLE, WORDS, key, list, section,
};
use crate::schema::Absent::{Is, Means, Required};
use crate::schema::Kind::{Flag, Integer, Number, Or, Table, Tables, Word};
use crate::schema::{Kind, Section, words};
use crate::sink::{Durability, FormatWord, SinkWord, WireWord};

pub(crate) static ROOT: Section = section(
    "",
    "The file as a whole.",
    &[
        key("engine", Table(&ENGINE), Means("all defaults"), "the process as a whole"),
        key("consumer_manager", Table(&CONSUMER_MANAGER), Means("all defaults"), "reading cameras"),
        key("inference_worker", Table(&INFERENCE_WORKER), Means("all defaults"), "defaults for all models"),
        key("direct", Table(&DIRECT), Means("all defaults"), "inference on request"),
        key("models", Tables(&MODELS), Required, "what looks at the frames"),
        key("sources", Tables(&SOURCES), Required, "where frames come from"),
        key("sinks", Tables(&SINKS), Required, "where results go"),
    ],
);

pub(crate) static ENGINE: Section = section(
    "engine",
    "The process as a whole.",
    &[
        key(
            "readers",
            Or("auto", &Integer { min: 1, max: 64 }),
            Is("\"auto\""),
            "threads that read cameras; `auto`: a quarter of the cores, 1 to 8",
        ),
        key(
            "poll_pause_ms_max",
            Integer { min: 1, max: 1000 },
            Is("20"),
            "the pause between two polls grows from `feeder_poll_timeout` up to this while no camera \
             delivers",
        ),
        key(
            "metrics_interval_ms",
            Integer { min: 10, max: 60_000 },
            Is("250"),
            "the longest that gathered figures wait before they show, so that a quiet camera shows \
             too",
        ),
        key(
            "drain_timeout_ms",
            Integer { min: 0, max: MINUTES_10_MS },
            Is("10000"),
            "how long a stop waits for frames on their way before they are settled as `shutdown`",
        ),
        key(
            "payload_bytes_max",
            Integer { min: 1, max: 1 << 30 },
            Is("33554432"),
            "a larger encoded picture is dropped as `payload_too_large` before it is looked at",
        ),
        key(
            "waiting_bytes_max",
            Integer { min: 1 << 20, max: 1 << 40 },
            Is("1073741824"),
            "bytes of pictures that may wait for a batch, in equal shares for the models; beyond it cameras are not read \
             until there is room, whatever the numbers of frames allow",
        ),
        key(
            "error_results",
            Flag,
            Is("false"),
            "publish a result that names the reason for each frame that is dropped after it reached \
             a batch",
        ),
        key(
            "http",
            Or("off", &Kind::Text(&ADDRESS)),
            Is("\"127.0.0.1:9090\""),
            "where `/metrics`, `/healthz`, `/readyz` and inference on request are served; `off`: nowhere",
        ),
        key(
            "grpc",
            Or("off", &Kind::Text(&ADDRESS)),
            Is("\"off\""),
            "where inference on request is served by gRPC, usually 127.0.0.1:8001; `off`: nowhere",
        ),
    ],
);

pub(crate) static DIRECT: Section = section(
    "direct",
    "Inference on request, over `engine.http` and `engine.grpc`: what it may cost.",
    &[
        key(
            "threads",
            Or("auto", &Integer { min: 1, max: 64 }),
            Is("\"auto\""),
            "threads that speak with clients, apart from those that serve cameras; `auto`: half of the cores, 2 to 8",
        ),
        key(
            "connections_max",
            Integer { min: 1, max: 100_000 },
            Is("1024"),
            "connections at once, by HTTP and by gRPC; beyond it the one that has been idle longest is closed, and if none is, only the pages are served",
        ),
        key(
            "timeout_ms",
            Integer { min: 1, max: MINUTES_10_MS },
            Is("30000"),
            "how long a request may take to arrive, and then to be answered; a request may ask for less",
        ),
        key(
            "request_bytes_max",
            Integer { min: 1024, max: 1 << 31 },
            Is("67108864"),
            "the largest request; a larger one is refused before it is read",
        ),
        key(
            "requests_bytes_max",
            Integer { min: 1024, max: 1 << 40 },
            Is("536870912"),
            "what all requests under way may hold together; further ones are refused as unavailable",
        ),
        key(
            "client_shared_memory",
            Flag,
            Is("false"),
            "clients on this host may name shared memory that tensors lie in; whoever reaches the port can then read \
             and write any shared memory that this process can",
        ),
    ],
);

pub(crate) static CONSUMER_MANAGER: Section = section(
    "consumer_manager",
    "Reading cameras: the specification's section 5.2.",
    &[
        key(
            "async_buffer_size",
            Integer { min: 1, max: 1_000_000 },
            Is("1000"),
            "frames that may wait for a batch, for each instance of a model; beyond it `latest` \
             cameras lose their oldest frame and `every` cameras are not read",
        )
        .spec("ASYNC_BUFFER_SIZE", "5.2"),
        key(
            "feeder_executor_threads",
            Integer { min: 1, max: 256 },
            Is("16"),
            "the most threads that decode batches ahead of a model in `async` mode; never more are \
             started than cores",
        )
        .spec("FEEDER_EXECUTOR_THREADS", "5.2"),
        key(
            "max_consumer_shards",
            Integer { min: 1, max: 4096 },
            Is("32"),
            "cameras are pinned to this many owners by a stable hash of their id",
        )
        .spec("MAX_CONSUMER_SHARDS", "5.2"),
        key(
            "batch_read_count",
            Integer { min: 1, max: 10_000 },
            Is("32"),
            "the most frames of one camera that one poll takes",
        )
        .spec("BATCH_READ_COUNT", "5.2"),
        key(
            "metrics_aggregation_count",
            Integer { min: 1, max: 1_000_000 },
            Is("100"),
            "frames that a thread gathers before it touches the shared metrics",
        )
        .spec("METRICS_AGGREGATION_COUNT", "5.2"),
    ],
);

pub(crate) static INFERENCE_WORKER: Section = section(
    "inference_worker",
    "Running models: the specification's section 5.1. Defaults for all models.",
    &[
        key(
            "async_buffer_size",
            Integer { min: 1, max: 1_000_000 },
            Is("2000"),
            "frames handed to the asynchronous side of a model in `async` mode and not yet back",
        )
        .spec("ASYNC_BUFFER_SIZE", "5.1"),
        key(
            "feeder_poll_timeout",
            Number { min: 0.0001, max: 1.0 },
            Is("0.001"),
            "in seconds: the shortest pause between two polls of the cameras; there is no polling \
             behind the readers, where threads wake one another",
        )
        .spec("FEEDER_POLL_TIMEOUT", "5.1"),
        key("batch_size", Integer { min: 1, max: 1024 }, Is("16"), "what a batch aims at").spec("BATCH_SIZE", "5.1"),
        key(
            "batch_timeout_ms",
            Number { min: 0.0, max: 10_000.0 },
            Is("5.0"),
            "the longest that an idle instance keeps a frame waiting for company; it waits only a \
             twentieth of a batch's own time after the last arrival",
        )
        .spec("BATCH_TIMEOUT_MS", "5.1"),
        key(
            "sync_mode_thread_pool_size",
            Integer { min: 1, max: 256 },
            Is("8"),
            "the most threads of a model in `sync` mode; never more are started than cores",
        )
        .spec("SYNC_MODE_THREAD_POOL_SIZE", "5.1"),
    ],
);

pub(crate) static SINKS: Section = list(
    "sinks",
    Some("type"),
    "Where results go.",
    &[
        key(
            "type",
            Word(words::<SinkWord>),
            Required,
            "`jsonl`: one JSON object on each line; `redis`: Redis Streams; `null`: nowhere, counted",
        ),
        key("name", Kind::Text(&NAME), Required, "what sources, messages and metrics call it"),
        key("path", Kind::Text(&PATH), Required, "the file that lines are appended to; `-`: standard output")
            .only(&["jsonl"]),
        key(
            "durability",
            Word(words::<Durability>),
            Is("\"flush\""),
            "when results count as published: `flush`: once the operating system has them; `fsync`: \
                 once the disk has them; `none`: the same as `flush`, as nothing is held back in this process",
        )
        .only(&["jsonl"]),
        redis::URL,
        key("username", Kind::Text(&WORDS), Means("none"), "of an ACL; the default user needs only a password")
            .only(&["redis"]),
        key("password_env", Kind::Text(&VARIABLE), Means("none"), "environment variable with the password")
            .only(&["redis"]),
        key("password_file", Kind::Text(&SECRET_PATH), Means("none"), "file with the password").only(&["redis"]),
        redis::TLS_CA_FILE,
        redis::TLS_CERT_FILE,
        redis::TLS_KEY_FILE,
        redis::CLUSTER,
        key("connect_timeout_ms", Integer { min: 1, max: MINUTES_10_MS }, Is("5000"), "how long a connection may take")
            .only(&["redis"]),
        redis::REPLY_TIMEOUT_MS,
        key(
            "stream",
            Kind::Text(&RESULT_STREAM),
            Is("\"omma:results:{camera}\""),
            "a stream for each camera, or with `{shard}` for each of `max_consumer_shards`",
        )
        .only(&["redis"]),
        key(
            "format",
            Word(words::<FormatWord>),
            Is("\"json\""),
            "of the field `data`: [the same fields](results.md) as JSON or as MessagePack",
        )
        .only(&["redis"]),
        key(
            "wire",
            Word(words::<WireWord>),
            Is("\"own\""),
            "`own`: omma's entries; `compat`: those of the Python pipeline that omma replaces",
        )
        .only(&["redis"]),
        key(
            "entries_max",
            Or("all", &Integer { min: 1, max: 1_000_000_000 }),
            Is("10000"),
            "about how many entries each stream keeps (`MAXLEN ~`); `all`: nothing is ever trimmed",
        )
        .only(&["redis"]),
        key(
            "result_bytes_max",
            Integer { min: 1024, max: 512 << 20 },
            Is("8388608"),
            "a larger result is dropped as `sink_failed`, the others go on",
        )
        .only(&["redis"]),
        key(
            "buffer_frames_max",
            Integer { min: 1, max: 10_000_000 },
            Is("10000"),
            "results that may wait for the writer; beyond it `latest` cameras lose the oldest and \
             `every` cameras are not read",
        ),
        key(
            "backoff_ms_min",
            Integer { min: 1, max: MINUTES_10_MS },
            Is("100"),
            "pause before the first attempt after a failure",
        ),
        key("backoff_ms_max", Integer { min: 1, max: MINUTES_10_MS }, Is("10000"), "pauses grow up to this"),
    ],
);

//! The keys of a source and its cameras.

use super::redis;
use super::texts::{
    CAMERA, FRAME_STREAM, MINUTES_10_MS, NAME, PATH, PATTERN, SECRET_PATH, URL, VARIABLE, WORDS, key, list,
};
use crate::schema::Absent::{Is, Means, Required};
use crate::schema::Kind::{Flag, Integer, Number, Or, Tables, Texts, Word};
use crate::schema::{Kind, Section, words};
use crate::source::{DeliveryWord, FrameWire, SourceWord, StartWord};

const FILES: &[&str] = &["images", "mjpeg_file"];
const REMOTE: &[&str] = &["mjpeg_http", "redis"];
const REDIS: &[&str] = &["redis"];

pub(super) static SOURCES: Section = list(
    "sources",
    Some("type"),
    "Where frames come from. A camera's id stands in one source only.",
    &[
        key(
            "type",
            Word(words::<SourceWord>),
            Required,
            "`synthetic`: drawn scenes; `images`: a folder of JPEG and PNG files; `mjpeg_file`: \
             files of joined JPEGs; `mjpeg_http`: streams as IP cameras serve them; `redis`: Redis Streams",
        ),
        key("name", Kind::Text(&NAME), Means("its type and place: `images-0`"), "what messages and metrics call it"),
        key(
            "fps",
            Or("max", &Number { min: 0.01, max: 100_000.0 }),
            Means("10 for `synthetic`, `max` for files"),
            "frames per second of each camera; `max`: as fast as they are taken",
        )
        .only(&["synthetic", "images", "mjpeg_file"]),
        key("cameras", Integer { min: 1, max: 100_000 }, Is("32"), "how many").only(&["synthetic"]),
        key("id", Kind::Text(&PATTERN), Is("\"cam-{:04}\""), "their ids; numbers count from 0").only(&["synthetic"]),
        key("frames", Integer { min: 1, max: 1_000_000_000_000 }, Means("no end"), "each camera ends after this many")
            .only(&["synthetic"]),
        key("seed", Integer { min: 0, max: i64::MAX as u64 }, Is("1"), "the same seed draws the same scenes")
            .only(&["synthetic"]),
        key("width", Integer { min: 64, max: 8192 }, Is("640"), "pixels across").only(&["synthetic"]),
        key("height", Integer { min: 64, max: 8192 }, Is("480"), "pixels down").only(&["synthetic"]),
        key("quality", Integer { min: 1, max: 100 }, Is("80"), "of the JPEG").only(&["synthetic"]),
        key(
            "path",
            Kind::Text(&PATH),
            Required,
            "of `images` a file, a folder, or a pattern such as `clips/*.jpg`, read in the natural \
             order of the names; of `mjpeg_file` one file",
        )
        .only(FILES),
        key("camera", Kind::Text(&CAMERA), Means("the source's name"), "the camera whose frames these are").only(FILES),
        key("loop", Flag, Is("false"), "begin again at the end").only(FILES),
        key("urls", Tables(&URLS), Required, "the cameras").only(&["mjpeg_http"]),
        redis::URL,
        key(
            "username",
            Kind::Text(&WORDS),
            Means("none"),
            "for cameras that give none of their own; of `redis` an ACL's, whose default user needs only a password",
        )
        .only(REMOTE),
        key("password_env", Kind::Text(&VARIABLE), Means("none"), "environment variable with the password")
            .only(REMOTE),
        key("password_file", Kind::Text(&SECRET_PATH), Means("none"), "file with the password").only(REMOTE),
        redis::TLS_CA_FILE,
        redis::TLS_CERT_FILE,
        redis::TLS_KEY_FILE,
        redis::CLUSTER,
        key("connect_timeout_ms", Integer { min: 1, max: MINUTES_10_MS }, Is("5000"), "how long a connection may take")
            .only(REMOTE),
        redis::REPLY_TIMEOUT_MS,
        key(
            "stream",
            Kind::Text(&FRAME_STREAM),
            Means("`omma:frames:{camera}`; `{camera}_input_topic` with `wire = \"compat\"`"),
            "the stream of each camera",
        )
        .only(REDIS),
        key(
            "wire",
            Word(words::<FrameWire>),
            Is("\"own\""),
            "the fields of an entry: omma's own, or `compat`: those of the Python pipeline that omma replaces",
        )
        .only(REDIS),
        key("camera_ids", Texts(&CAMERA), Means("none"), "cameras that are there from the start").only(REDIS),
        key(
            "discover_ms",
            Or("off", &Integer { min: 10, max: MINUTES_10_MS }),
            Means("2000 without `camera_ids`, else `off`"),
            "how often streams are searched for cameras that are new",
        )
        .only(REDIS),
        key(
            "group",
            Kind::Text(&WORDS),
            Is("\"omma\""),
            "the consumer group; processes of one group share the cameras",
        )
        .only(REDIS),
        key(
            "start",
            Word(words::<StartWord>),
            Is("\"oldest\""),
            "where a new group begins: at the `oldest` entry of a stream, or with what is `new` from then on",
        )
        .only(REDIS),
        key(
            "reply_bytes_max",
            Integer { min: 64 << 10, max: 256 << 20 },
            Is("4194304"),
            "what the entries of one read should come to at most",
        )
        .only(REDIS),
        key(
            "lease_ms",
            Integer { min: 500, max: MINUTES_10_MS },
            Is("5000"),
            "a process that is silent for longer loses its cameras to the others of its group",
        )
        .only(REDIS),
        key(
            "claim_idle_ms",
            Integer { min: 1000, max: 86_400_000 },
            Is("30000"),
            "frames that another consumer took and left alone for longer are taken over (`every` only)",
        )
        .only(REDIS),
        key(
            "deliveries_max",
            Integer { min: 1, max: 1_000_000 },
            Is("5"),
            "a frame that was delivered more often and never settled is dropped as `poisoned` (`every` only)",
        )
        .only(REDIS),
        key("dead_letter", Kind::Text(&WORDS), Is("\"omma:dead\""), "the stream to which poisoned frames are copied")
            .only(REDIS),
        key(
            "read_timeout_ms",
            Integer { min: 1, max: MINUTES_10_MS },
            Is("10000"),
            "a camera that is silent for longer is connected anew",
        )
        .only(&["mjpeg_http"]),
        key(
            "reconnect_ms_max",
            Integer { min: 1, max: MINUTES_10_MS },
            Is("30000"),
            "pauses between attempts to connect grow up to this",
        )
        .only(&["mjpeg_http"]),
        key(
            "delivery",
            Word(words::<DeliveryWord>),
            Means("`latest` for `synthetic` and `mjpeg_http`, `every` for files, `redis` and with `fps = \"max\"`"),
            "`latest`: the newest frame wins, overtaken and too old ones are dropped before they are \
             decoded; `every`: nothing is dropped, reading waits",
        ),
        key(
            "max_age_ms",
            Integer { min: 1, max: 86_400_000 },
            Is("2000"),
            "older frames are dropped as `stale` (`latest` only)",
        ),
        key(
            "max_waiting_frames",
            Integer { min: 1, max: 100_000 },
            Means("2 for `latest`, 64 for `every`"),
            "frames of one camera that may wait for a batch",
        ),
        key(
            "in_flight_frames_max",
            Integer { min: 1, max: 1_000_000 },
            Means("four times `max_waiting_frames`"),
            "frames of one camera that may be anywhere between source and sink",
        ),
        key("model", Kind::Text(&NAME), Means("the only model"), "name of the model that looks at the frames"),
        key("sinks", Texts(&NAME), Means("all sinks"), "names of the sinks that take the results"),
    ],
);

pub(super) static URLS: Section = list(
    "sources.urls",
    None,
    "One camera of a source of type `mjpeg_http`.",
    &[
        key("camera", Kind::Text(&CAMERA), Required, "its id"),
        key("url", Kind::Text(&URL), Required, "where its stream is served"),
        key("username", Kind::Text(&WORDS), Means("the source's"), "for this camera"),
        key(
            "password_env",
            Kind::Text(&VARIABLE),
            Means("the source's"),
            "environment variable with this camera's password",
        ),
        key("password_file", Kind::Text(&SECRET_PATH), Means("the source's"), "file with this camera's password"),
    ],
);

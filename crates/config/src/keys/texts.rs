//! What texts in the file must look like, and the short forms in which the table of keys is written.

use omma_frame::CameraId;

use crate::engine::fits_address;
use crate::files::fits_label;
use crate::redis::fits_url as fits_redis_url;
use crate::schema::{Absent, Key, Kind, Section, Text};
use crate::sink::fits_stream as fits_result_stream;
use crate::source::{fits_pattern, fits_stream as fits_frame_stream, fits_url};
use crate::triton::fits_server;

/// The longest time that anything may be told to take.
pub(super) const MINUTES_10_MS: u64 = 600_000;

pub(super) static NAME: Text = Text {
    what: "a name of 1 to 64 letters, digits, \"-\", \"_\" or \".\"",
    fits: |text| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    },
    delicate: false,
};
pub(super) static CAMERA: Text = Text {
    what: "a camera id of 1 to 256 bytes without control characters",
    fits: |text| CameraId::new(text).is_ok(),
    delicate: false,
};
pub(super) static PATTERN: Text = Text {
    what: "a camera id with one \"{}\" or, for leading zeros, \"{:04}\" in the place of the number",
    fits: fits_pattern,
    delicate: false,
};
pub(super) static ADDRESS: Text =
    Text { what: "an address and port such as \"127.0.0.1:9090\"", fits: fits_address, delicate: false };
pub(super) static PATH: Text =
    Text { what: "a path", fits: |text| !text.is_empty() && !text.contains('\0'), delicate: false };
pub(super) static URL: Text = Text {
    what: "a URL such as \"http://camera.example:8080/video\", without a password in it",
    fits: fits_url,
    delicate: false,
};
pub(super) static REDIS_URL: Text = Text {
    what: "a URL such as \"redis://host:6379/0\", \"rediss://host\" or \"unix:///run/redis.sock\", without a password in it",
    fits: fits_redis_url,
    delicate: true,
};
pub(super) static SERVER: Text = Text {
    what: "a URL such as \"grpc://127.0.0.1:8001\" or \"http://127.0.0.1:8000\"",
    fits: fits_server,
    delicate: false,
};
pub(super) static SERVER_MODEL: Text = Text {
    what: "a name of 1 to 256 letters, digits, \"-\", \"_\" or \".\"",
    fits: |text| {
        (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    },
    delicate: false,
};
pub(super) static RESULT_STREAM: Text = Text {
    what: "the name of a stream with one \"{camera}\" or one \"{shard}\" in it",
    fits: fits_result_stream,
    delicate: false,
};
pub(super) static FRAME_STREAM: Text =
    Text { what: "the name of a stream with one \"{camera}\" in it", fits: fits_frame_stream, delicate: false };
pub(super) static WORDS: Text =
    Text { what: "a text of 1 to 256 bytes without control characters", fits: fits_label, delicate: false };
pub(super) static VARIABLE: Text = Text {
    what: "the name of an environment variable",
    fits: |text| {
        !text.starts_with(|c: char| c.is_ascii_digit())
            && !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    },
    delicate: true,
};
pub(super) static ENTRY: Text = Text {
    what: "a module and its class or function, such as \"package.module:Class\"",
    fits: |text| {
        let name = |name: &str| {
            !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty()
                && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        text.split_once(':').is_some_and(|(module, object)| {
            text.len() <= 256 && module.split('.').all(name) && object.split('.').all(name)
        })
    },
    delicate: false,
};
pub(super) static SECRET_PATH: Text = Text { what: "a path", fits: PATH.fits, delicate: true };

pub(super) const fn section(path: &'static str, about: &'static str, keys: &'static [Key]) -> Section {
    Section { path, list: false, about, by: None, keys }
}

pub(super) const fn list(
    path: &'static str,
    by: Option<&'static str>,
    about: &'static str,
    keys: &'static [Key],
) -> Section {
    Section { path, list: true, about, by, keys }
}

pub(super) const fn key(name: &'static str, kind: Kind, absent: Absent, about: &'static str) -> Key {
    Key::new(name, kind, absent, about)
}

//! The keys by which sources and sinks reach Redis.

use super::texts::{MINUTES_10_MS, PATH, REDIS_URL, key};
use crate::schema::Absent::{Is, Means};
use crate::schema::Key;
use crate::schema::Kind::{self, Flag, Integer};

const REDIS: &[&str] = &["redis"];

pub(super) const URL: Key = key(
    "url",
    Kind::Text(&REDIS_URL),
    Is("\"redis://127.0.0.1:6379\""),
    "the server, or any node of the cluster; `rediss://` with TLS, `unix://` for a socket",
)
.only(REDIS);
pub(super) const TLS_CA_FILE: Key = key(
    "tls_ca_file",
    Kind::Text(&PATH),
    Means("the system's authorities"),
    "certificates (PEM) that the server's is held against",
)
.only(REDIS);
pub(super) const TLS_CERT_FILE: Key =
    key("tls_cert_file", Kind::Text(&PATH), Means("none"), "omma's own certificate (PEM), if the server asks for one")
        .only(REDIS);
pub(super) const TLS_KEY_FILE: Key =
    key("tls_key_file", Kind::Text(&PATH), Means("none"), "the key of `tls_cert_file` (PEM)").only(REDIS);
pub(super) const CLUSTER: Key =
    key("cluster", Flag, Is("false"), "`url` leads to a node of a Redis Cluster").only(REDIS);
pub(super) const REPLY_TIMEOUT_MS: Key = key(
    "reply_timeout_ms",
    Integer { min: 1, max: MINUTES_10_MS },
    Is("5000"),
    "a server that owes an answer for longer is connected anew",
)
.only(REDIS);

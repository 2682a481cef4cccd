//! How a source or a sink reaches its Redis server or cluster: the keys that both have.

use std::path::PathBuf;
use std::time::Duration;

use crate::files::{existing_file, password};
use crate::read::Table;
use crate::secret::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Without user and password.
    pub url: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Authorities that the server's certificate is held against; the system's if there are none.
    pub tls_ca_file: Option<PathBuf>,
    /// The client's own certificate and key.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    pub cluster: bool,
    pub connect_timeout: Duration,
    pub reply_timeout: Duration,
}

pub(crate) fn read(table: &Table<'_>) -> RedisConfig {
    let url = table.text("url").unwrap_or_default();
    let (username, password) = (table.text("username"), password(table));
    if username.is_some() && !["password_env", "password_file"].iter().any(|name| table.has(name)) {
        table.problem("username", "a username without a password", "password_env or password_file too");
    }
    let file = |name: &str, what: &str| existing_file(table, name, what);
    let tls_ca_file = file("tls_ca_file", "a file of certificates (PEM)");
    let certificate = file("tls_cert_file", "a file with a certificate (PEM)");
    let key = file("tls_key_file", "a file with a key (PEM)");
    if certificate.is_some() != key.is_some() {
        let (there, missing) =
            if key.is_some() { ("tls_key_file", "tls_cert_file") } else { ("tls_cert_file", "tls_key_file") };
        table.problem(there, format!("{there} alone"), format!("{missing} too"));
    }
    let encrypted = url.starts_with("rediss:") || url.starts_with("valkeys:");
    for name in ["tls_ca_file", "tls_cert_file"] {
        if table.has(name) && !encrypted {
            table.problem(
                name,
                format!("{name} with an url that is not encrypted"),
                "an url that begins with rediss://",
            );
        }
    }
    let cluster = table.flag("cluster");
    if cluster && url.starts_with("unix:") {
        table.problem("cluster", "true with an url of a Unix socket", "an url of one of the cluster's nodes");
    }
    RedisConfig {
        url,
        username,
        password,
        tls_ca_file,
        tls_client: certificate.zip(key),
        cluster,
        connect_timeout: table.millis("connect_timeout_ms"),
        reply_timeout: table.millis("reply_timeout_ms"),
    }
}

/// A URL of a server, without user and password in it.
pub(crate) fn fits_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) || rest.contains('@') {
        return false;
    }
    match scheme {
        "redis" | "rediss" | "valkey" | "valkeys" => !rest.is_empty() && !rest.starts_with(['/', ':']),
        "unix" => rest.starts_with('/'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let good =
            ["redis://h", "redis://10.0.0.1:7000/3", "rediss://[::1]:1", "unix:///run/r.sock?db=2", "valkey://h"];
        let bad =
            ["", "h:6379", "http://h", "redis://", "redis://:6379", "unix://r.sock", "redis://u:p@h", "redis://h x"];
        good.iter().for_each(|url| assert!(fits_url(url), "{url}"));
        bad.iter().for_each(|url| assert!(!fits_url(url), "{url}"));
    }
}

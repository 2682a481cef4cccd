//! Where Redis is and how to get in, as the configuration says it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One server, or any node of a cluster.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://host:6379/0`, `rediss://` (TLS), or `unix:///path/to/socket?db=0`; `valkey://` and `valkeys://` too.
    pub url: String,
    pub username: Option<String>,
    pub password: Option<Password>,
    pub tls: TlsFiles,
    /// The URL leads to a node of a Redis Cluster.
    pub cluster: bool,
    /// For each address, and again for the handshake.
    pub connect_timeout: Duration,
    /// The longest silence of a server that owes an answer.
    pub reply_timeout: Duration,
    /// A larger value in an answer is passed over, never held in memory.
    pub value_bytes_max: usize,
}

impl RedisOptions {
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            username: None,
            password: None,
            tls: TlsFiles::default(),
            cluster: false,
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(5),
            value_bytes_max: 32 << 20,
        }
    }
}

/// PEM files for `rediss://`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities that the server's certificate is held against; without it the system's.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key, if the server asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Prints as `***`, however it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a URL points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A URL in its parts; user and password stand in the options, so that no URL with a password is ever shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub address: Address,
    pub database: u32,
}

const SCHEMES: &str = "redis://, rediss://, valkey://, valkeys:// or unix://";

/// # Errors
/// What is wrong with the URL, without its password.
pub(super) fn parse_url(url: &str) -> Result<Target, String> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("expected a URL that begins with {SCHEMES}"))?;
    let tls = match scheme {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        "unix" | "redis+unix" | "valkey+unix" => {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let database = match query {
                "" => 0,
                query => database(query.strip_prefix("db=").unwrap_or(query))?,
            };
            if !path.starts_with('/') || path.contains('\0') {
                return Err("expected an absolute path, such as unix:///run/redis/redis.sock".to_owned());
            }
            return Ok(Target { address: Address::Unix(path.into()), database });
        }
        _ => return Err(format!("expected a URL that begins with {SCHEMES}")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err("user and password stand in settings of their own, expected redis://host:port/database".to_owned());
    }
    if authority.chars().any(|c| c.is_whitespace() || c.is_control()) || authority.contains(['?', '#', '\\']) {
        return Err("expected redis://host:port/database".to_owned());
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("expected a colon behind the bracket")?)),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("a URL without a host, expected redis://host:port/database".to_owned());
    }
    let port = match port {
        None => 6379,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|&number| number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| format!("port {port:?}, expected 1 to 65535"))?,
    };
    let database = if path.is_empty() { 0 } else { database(path)? };
    Ok(Target { address: Address::Tcp { host: host.to_owned(), port, tls }, database })
}

fn database(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("database {text:?}, expected a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Address {
        Address::Tcp { host: host.to_owned(), port, tls }
    }

    #[test]
    fn urls() {
        let table = [
            ("redis://h", Ok((tcp("h", 6379, false), 0))),
            ("redis://10.0.0.1:7000/3", Ok((tcp("10.0.0.1", 7000, false), 3))),
            ("valkey://h/", Ok((tcp("h", 6379, false), 0))),
            ("rediss://[::1]:1", Ok((tcp("::1", 1, true), 0))),
            ("valkeys://h", Ok((tcp("h", 6379, true), 0))),
            ("unix:///run/r.sock", Ok((Address::Unix("/run/r.sock".into()), 0))),
            ("unix:///run/r.sock?db=2", Ok((Address::Unix("/run/r.sock".into()), 2))),
            ("unix://r.sock", Err("expected an absolute path, such as unix:///run/redis/redis.sock")),
            ("http://h", Err("expected a URL that begins with redis://, rediss://, valkey://, valkeys:// or unix://")),
            ("h:6379", Err("expected a URL that begins with redis://, rediss://, valkey://, valkeys:// or unix://")),
            ("redis://", Err("a URL without a host, expected redis://host:port/database")),
            (
                "redis://u:secret@h",
                Err("user and password stand in settings of their own, expected redis://host:port/database"),
            ),
            ("redis://h:0", Err("port \"0\", expected 1 to 65535")),
            ("redis://h:+1", Err("port \"+1\", expected 1 to 65535")),
            ("redis://h/x", Err("database \"x\", expected a number")),
            ("redis://[::1]x", Err("expected a colon behind the bracket")),
        ];
        for (url, expected) in table {
            let found = parse_url(url).map(|target| (target.address, target.database));
            assert_eq!(found, expected.map_err(str::to_owned), "{url}");
        }
    }

    #[test]
    fn a_password_never_prints() {
        let options = RedisOptions { password: Some(Password::new("hunter2")), ..RedisOptions::new("redis://h") };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}

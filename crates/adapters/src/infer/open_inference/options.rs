//! What a client is told: where the servers are, which model, and how to speak with them.

use std::fmt;
use std::time::Duration;

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Grpc,
    /// HTTP/1.1 with binary tensors.
    Http,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    pub transport: Transport,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
}

impl ServerUrl {
    /// # Errors
    /// It is no such URL: what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "the server's URL is {text:?}, expected one such as \"grpc://127.0.0.1:8001\" or \"http://127.0.0.1:8000\""
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (transport, usual) = match scheme {
            "grpc" => (Transport::Grpc, 8001),
            "http" => (Transport::Http, 8000),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (rest, usual),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fits = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        if !fits || port == 0 {
            return Err(wrong());
        }
        Ok(Self { transport, host: host.to_owned(), port })
    }

    /// Whether the server is certainly on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Grpc => "grpc",
            Transport::Http => "http",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Whether tensors lie in memory that the server sees too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedMemoryUse {
    /// With servers on this machine that take it; where one takes none, its tensors travel in the requests.
    Auto,
    /// Always: a server that does not take it is an error at start, and later one that does not serve the model.
    On,
    Off,
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// The decoded pictures, as one tensor.
    Tensor,
    /// The pictures as they came (JPEG, PNG), for a model that decodes them itself.
    Picture,
}

/// One model on one or more servers.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenInferenceOptions {
    /// At least one. All are to have the same model: each is asked before it gets a batch.
    pub servers: Vec<ServerUrl>,
    /// What the servers call it.
    pub model: String,
    /// What messages to people call it.
    pub name: String,
    /// Empty: the server chooses.
    pub version: String,
    pub shared_memory: SharedMemoryUse,
    pub send: Send,
    /// Requests on their way at the same time, at most, over all servers together.
    pub requests_max: usize,
    pub connect_timeout: Duration,
    /// How long a start waits for a server that is ready; zero: not at all.
    pub start_timeout: Duration,
    /// When a batch is given up, whatever is tried for it.
    pub deadline: Duration,
    /// How often a request that a server is too busy for is sent again.
    pub retries_max: u32,
}

impl OpenInferenceOptions {
    /// The usual, for one server.
    #[must_use]
    pub fn new(server: ServerUrl, model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            servers: vec![server],
            name: model.clone(),
            model,
            version: String::new(),
            shared_memory: SharedMemoryUse::Auto,
            send: Send::Tensor,
            requests_max: 64,
            connect_timeout: Duration::from_secs(2),
            start_timeout: Duration::ZERO,
            deadline: Duration::from_secs(10),
            retries_max: 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_transport_host_and_port() {
        for (text, shown, local) in [
            ("grpc://127.0.0.1:9001", "grpc://127.0.0.1:9001", true),
            ("grpc://triton.example", "grpc://triton.example:8001", false),
            ("http://localhost/", "http://localhost:8000", true),
            ("http://[::1]:80", "http://[::1]:80", true),
            ("grpc://[::1]", "grpc://[::1]:8001", true),
            ("grpc://10.0.0.7:1", "grpc://10.0.0.7:1", false),
        ] {
            let url = ServerUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.is_local()), (shown, local));
        }
        for text in [
            "127.0.0.1:8001",
            "https://a:1",
            "grpc://",
            "grpc://:1",
            "grpc://a:0",
            "grpc://a:b",
            "grpc://a/b",
            "http://u:p@a:1",
            "grpc://[zz]:1",
        ] {
            assert!(ServerUrl::parse(text).expect_err(text).contains("expected one such as"), "{text}");
        }
    }
}

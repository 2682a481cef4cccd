//! Models with `runtime = "triton"`: on servers that speak the Open Inference Protocol.

use std::time::Duration;

use crate::read::Table;
use crate::schema::Word;

/// One model on one or more servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TritonConfig {
    /// `grpc://HOST:PORT` or `http://HOST:PORT`, at least one.
    pub servers: Vec<String>,
    /// What the servers call it.
    pub model: String,
    /// `None`: the server chooses.
    pub version: Option<u32>,
    pub shared_memory: SharedMemoryUse,
    pub send: SendAs,
    pub picture_bytes_max: usize,
    pub requests_max: usize,
    pub retries_max: u32,
    pub connect_timeout: Duration,
    pub start_timeout: Duration,
}

/// Whether batches lie in memory that the server sees too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedMemoryUse {
    /// With servers on this machine that take it.
    Auto,
    On,
    Off,
}

impl Word for SharedMemoryUse {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// What is sent of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendAs {
    /// Its values, decoded and brought to the model's size.
    Tensor,
    /// The encoded picture itself, for a model that decodes.
    Picture,
}

impl Word for SendAs {
    const WORDS: &'static [(&'static str, Self)] = &[("tensor", Self::Tensor), ("picture", Self::Picture)];
}

pub(crate) fn read(table: &Table<'_>, name: &str) -> TritonConfig {
    let send = table.word_or("send", SendAs::Tensor);
    let shared_memory = table.word_or("shared_memory", SharedMemoryUse::Auto);
    if send == SendAs::Picture && shared_memory == SharedMemoryUse::On {
        let found = "\"on\" with send = \"picture\"";
        table.problem("shared_memory", found, "\"auto\" or \"off\": encoded pictures travel in the requests");
    }
    let servers = table.texts("servers").unwrap_or_default();
    let twice = servers.iter().enumerate().find(|(at, server)| servers[..*at].contains(server));
    if let Some((at, server)) = twice {
        table.item_problem("servers", at, format!("{server:?} for the second time"), "each server once", None);
    }
    TritonConfig {
        servers,
        model: table.text_or("model", name.to_owned()),
        version: table.small_if("version"),
        shared_memory,
        send,
        picture_bytes_max: table.count("picture_bytes_max"),
        requests_max: table.count("requests_max"),
        retries_max: table.small("retries_max"),
        connect_timeout: table.millis("connect_timeout_ms"),
        start_timeout: table.millis("start_timeout_ms"),
    }
}

/// `grpc://` or `http://`, a host, and perhaps a port.
pub(crate) fn fits_server(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().is_ok_and(|port| port > 0)),
        _ => (rest, true),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    matches!(scheme, "grpc" | "http") && host && port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let good = ["grpc://127.0.0.1:8001", "http://triton", "grpc://[::1]:8001", "http://gpu-1.example:80"];
        let bad =
            ["", "127.0.0.1:8001", "https://a", "grpc://", "grpc://a:0", "grpc://a:b", "http://a/v2", "http://u:p@a"];
        good.iter().for_each(|url| assert!(fits_server(url), "{url}"));
        bad.iter().for_each(|url| assert!(!fits_server(url), "{url}"));
    }
}

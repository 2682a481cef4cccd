//! Ports for servers that tests start.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that Linux gives to whoever asks for any (`ip_local_port_range`): a port that was found free is not
/// somebody's by chance when the server takes it, moments later.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;
/// Processes of consecutive ids, as a test runner starts them, begin so far apart.
const APART: u32 = 16;

/// A port of the loopback at which nobody listens.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(APART);
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port on the loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_gets_a_port_once() {
        let (first, second) = (free_port(), free_port());
        assert_ne!(first, second);
        assert!([first, second].iter().all(|port| u32::from(*port) - FIRST < COUNT));
    }
}

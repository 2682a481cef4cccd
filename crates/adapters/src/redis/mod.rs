//! What everything that speaks to Redis shares: the link to a server or a cluster, and the forms of frame messages.
//!
//! The source (`source::redis`), the sink and the publisher build on it. Valkey speaks the same and needs no setting.

pub mod link;
pub mod names;
pub mod options;
pub mod wire;

pub use link::{Link, LinkError};
pub use names::StreamNames;
pub use options::{Password, RedisOptions, TlsFiles};

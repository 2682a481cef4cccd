//! Simulated cameras: a paced producer of frames into Redis, for `omma publish` and for the benches.
//!
//! A few worker threads, however many cameras: each owns some of them, its own connection and its own schedule.

mod counts;
mod ids;
mod outbox;
mod pictures;
mod publisher;
mod raw;
pub mod timing;
mod worker;

pub use counts::{Counts, Unsent};
pub use ids::IdPattern;
pub use pictures::{Form, Pictures};
pub use publisher::{Carry, Gate, Options, Pacing, Publisher, Report, WORKERS_MAX};

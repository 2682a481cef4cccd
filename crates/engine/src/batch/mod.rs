//! Which frames go together, and when. [`Batcher`] is pure: no clock, no thread, no lock, no I/O; time is an argument.
//! [`Desk`] is the one lock in front of it, taken once per read by those who bring and once per batch by those who take.

mod batcher;
mod desk;
mod oldest;

pub use batcher::{Batcher, Entry, Seat, Take, Taken};
pub use desk::{Desk, Handed};

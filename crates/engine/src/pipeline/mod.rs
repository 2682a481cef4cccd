//! The pipeline: the one place that knows more than one stage, and the threads that the stages run on.
//!
//! | thread | runs | waits on |
//! | --- | --- | --- |
//! | `omma-read-N` | source, shard, into the batcher ([`reader`]) | its pause between polls |
//! | `omma-MODEL-N` | an instance of a version ([`version`]) of a model ([`instance`]) | the desk, or the feeder's channel |
//! | `omma-feed-MODEL` | decodes ahead in `async` mode ([`feeder`]) | the desk, room for one more batch |
//! | `omma-sink-NAME` | a sink ([`writer`]) | its buffer, the sink |
//! | `omma-watch` | deadlines of batches ([`watch`]) | a timer |
//!
//! Putting results in order has no thread: whoever finishes a batch does it ([`order`]).
//!
//! Every hand-over moves many frames: a read's worth, a batch's worth, what has gathered.

mod assign;
mod engine;
mod feed;
mod feeder;
mod instance;
mod models;
mod order;
mod overlap;
mod pace;
mod reader;
mod shared;
mod version;
mod watch;
mod writer;

pub use assign::AssignError;
pub use engine::{DrainReport, Engine, ModelParts, Parts, SourcePart, StartError};
pub use models::{ChangeError, ModelState, ModelStatus, ModelStore, NewVersion, Serving};
pub use shared::Shared;

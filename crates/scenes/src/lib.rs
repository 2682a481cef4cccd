//! Synthetic camera scenes with known ground truth, and the score of detections against it.
//!
//! A [`Scene`] is one camera: a drawn place (street, avenue, plaza, park or hall) with people,
//! cars and bicycles moving through it. What it shows is a function of (seed, camera, frame
//! number) alone, so any frame can be had without those before it, on any machine, with the
//! same bytes. A [`Scorer`] compares what a detector said with the [`Truth`]s of those frames.
//!
//! The crate has no dependencies and uses no platform mathematics (see `math`): a scene drawn
//! today must stay the same scene after every upgrade, or figures measured on it mean nothing.
//!
//! Seeds are divided so that nobody measures on what was trained on: demos and tests use seeds
//! below [`TRAINING_SEEDS`], training those from there to [`VALIDATION_SEEDS`], and held-out
//! measurements those above.

mod backdrop;
mod bicycle;
mod camera;
mod car;
mod colour;
mod figure;
mod math;
mod person;
mod place;
mod plans;
mod props;
mod raster;
mod rng;
mod scene;
pub mod score;
mod sensor;
mod traffic;

pub use place::Kind;
pub use scene::{FRAMES_PER_SECOND, MIN_VISIBLE, Scene, Scratch, Size, Truth, WrongLength};
pub use score::{ClassScore, Score, ScoredBox, Scorer};

/// Names of the classes in the order of their ids; the demo's labels file says the same.
pub const CLASSES: [&str; 3] = ["person", "car", "bicycle"];

/// First seed of the scenes a detector is trained on.
pub const TRAINING_SEEDS: u64 = 1_000_000;

/// First seed of the scenes a detector is measured on after training.
pub const VALIDATION_SEEDS: u64 = 2_000_000;

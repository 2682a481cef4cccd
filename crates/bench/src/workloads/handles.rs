//! 1,000 cameras by frame handle: 40 KB JPEGs in a ring of shared memory, handles through a real redis-server, each
//! frame's result back into Redis. omma against the do-nothing reader, both as fast as they take frames.

use super::Options;
use super::redis::{against_the_reader, jpegs};
use crate::figures::Figures;
use crate::redis::offer::Rate;
use crate::redis::stand::{Run, Stand};

/// Eight frames of each camera.
const AHEAD: u64 = 8000;
/// Room for as many pictures as are under way, and as many again.
const RING_BYTES: u64 = 2 * AHEAD * 40_000;

pub fn run(options: &Options) -> Result<Figures, String> {
    let stand = Stand::start()?;
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        against_the_reader(&stand, &by_handle(Rate::Ahead(AHEAD), options.span()), &mut figures)?;
    }
    figures.limit("results_per_s", ">= 100,000");
    figures.limit("ratio_to_reader", ">= 0.85");
    figures.limit("lost", "0");
    Ok(figures)
}

/// The cameras of `redis`, their pictures by handle.
pub fn by_handle(rate: Rate, span: std::time::Duration) -> Run {
    Run { ring_bytes: Some(RING_BYTES), entries_max: 256, ..jpegs(rate, span) }
}

//! Who consumes.

use std::path::Path;

use super::role::Role;
use super::stand::Run;
use super::{omma, reader};

/// A consumer, and how it is set up.
#[derive(Clone)]
pub enum Consumer {
    Reader { threads: usize, count: usize, touch: bool, results: bool },
    Omma { decode: bool, latest: bool },
}

impl Consumer {
    /// The do-nothing reader that omma is held against: two threads for two cores, as many entries of a stream with one
    /// read as omma asks for at most.
    pub const YARDSTICK: Self = Self::Reader { threads: 2, count: 32, touch: false, results: true };
    pub const OMMA: Self = Self::Omma { decode: false, latest: false };
}

/// A consumer that runs.
pub struct Consuming {
    role: Role,
    is_omma: bool,
}

/// What it counted.
#[derive(Default)]
pub struct Consumed {
    /// Frames that are done with, whichever way.
    pub done: u64,
    /// Handles that could not be read, or frames that omma has dropped.
    pub unreadable: u64,
    /// By span of the run; omma's only.
    pub windows: Vec<omma::Window>,
}

impl Consumer {
    pub fn start(&self, socket: &Path, board: &Path, run: &Run) -> Result<Consuming, String> {
        let (socket, board) = (socket.to_owned(), board.to_owned());
        let role = match *self {
            Self::Reader { threads, count, touch, results } => Role::start(
                "reader",
                &reader::Told {
                    socket,
                    board,
                    cameras: run.cameras,
                    threads,
                    streams: 32,
                    count,
                    depth: 2,
                    pause_us: 1000,
                    touch,
                    results,
                },
            ),
            Self::Omma { decode, latest } => Role::start(
                "omma",
                &omma::Told {
                    socket,
                    board,
                    cameras: run.cameras,
                    decode,
                    latest,
                    warm_up_ms: run.warm_up.as_millis() as u64,
                    window_ms: run.window.as_millis() as u64,
                    results_max: run.results_max,
                },
            ),
        }?;
        Ok(Consuming { role, is_omma: matches!(self, Self::Omma { .. }) })
    }

    /// Whether each frame has an entry in its camera's result stream.
    pub fn writes_results(&self) -> bool {
        !matches!(self, Self::Reader { results: false, .. })
    }
}

impl Consuming {
    pub fn pid(&self) -> u32 {
        self.role.pid()
    }

    pub fn stop(self) -> Result<Consumed, String> {
        if self.is_omma {
            let said: omma::Said = self.role.stop()?;
            let done = said.published + said.dropped;
            if said.unfinished > 0 {
                return Err(format!("omma has left {} frames unfinished", said.unfinished));
            }
            return Ok(Consumed { done, unreadable: said.dropped, windows: said.windows });
        }
        let said: reader::Said = self.role.stop()?;
        Ok(Consumed { done: said.read, unreadable: said.unreadable, windows: Vec::new() })
    }
}

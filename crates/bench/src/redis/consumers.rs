//! Who consumes.

use std::path::Path;

use super::reader;
use super::role::Role;
use super::stand::Run;

/// A consumer, and how it is set up.
#[derive(Clone)]
pub enum Consumer {
    Reader { threads: usize, count: usize, touch: bool, results: bool },
}

/// A consumer that runs.
pub struct Consuming {
    role: Role,
}

/// What it counted.
pub struct Consumed {
    /// Frames that are done with, whichever way.
    pub done: u64,
    /// Handles that could not be read.
    pub unreadable: u64,
}

impl Consumer {
    pub fn start(&self, socket: &Path, board: &Path, run: &Run) -> Result<Consuming, String> {
        let role = match *self {
            Self::Reader { threads, count, touch, results } => Role::start(
                "reader",
                &reader::Told {
                    socket: socket.to_owned(),
                    board: board.to_owned(),
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
        }?;
        Ok(Consuming { role })
    }
}

impl Consuming {
    pub fn pid(&self) -> u32 {
        self.role.pid()
    }

    pub fn stop(self) -> Result<Consumed, String> {
        let said: reader::Said = self.role.stop()?;
        Ok(Consumed { done: said.read, unreadable: said.unreadable })
    }
}

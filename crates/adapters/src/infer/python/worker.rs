//! One running worker: its process, its socket, its output memory, and the conversation over them.
//!
//! A batch costs one packet each way and no copy: the pictures lie in a region that the worker has mapped, the outputs
//! in a memory that omma has mapped. Whatever goes wrong here is told as [`Trouble`]; what becomes of the batch then is
//! decided in `instance`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use omma_engine::tensor::DType;
use serde::{Deserialize, Serialize};

use super::memory::SharedMemory;
use super::process::Process;
use super::socket::{self, Came};
use super::wire::{self, Answer, Request};

/// How often the process is looked at while nothing comes: its end shows on the socket at once, unless a child of its
/// own holds the other end open.
const LOOK: Duration = Duration::from_millis(100);
/// How long a worker may take to clean up when it is no longer needed.
const GOODBYE_MAX: Duration = Duration::from_millis(300);
/// Until the status of a process is there whose socket has ended.
const END_MAX: Duration = Duration::from_millis(500);

/// Why a batch, or a load, has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Not in time. The worker has been killed.
    Late,
    /// The worker has ended; how, and its last words.
    Ended(String),
    /// It said what no worker says. It has been killed.
    Confused(String),
}

/// What a worker is told to load.
#[derive(Serialize)]
pub(super) struct Load<'a> {
    pub(super) protocol: u32,
    pub(super) name: String,
    pub(super) entry: &'a str,
    pub(super) parameters: serde_json::Map<String, serde_json::Value>,
    pub(super) batch_as: &'static str,
    pub(super) device: &'static str,
    pub(super) output_bytes: usize,
}

/// What a worker says of the model that it has loaded.
#[derive(Debug, Deserialize)]
pub(super) struct Loaded {
    ok: bool,
    #[serde(default)]
    problem: String,
    #[serde(default)]
    pub(super) versions: Versions,
    #[serde(default)]
    pub(super) input: Option<Declared>,
    #[serde(default)]
    pub(super) batch_max: Option<usize>,
    #[serde(default)]
    pub(super) executable: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Versions {
    pub(super) python: String,
    pub(super) numpy: Option<String>,
    pub(super) torch: Option<String>,
}

/// How a class says that it wants its pictures; the rest is for the configuration to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Declared {
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub dtype: Option<String>,
    pub layout: Option<String>,
    pub channels: Option<u32>,
}

pub(super) struct Worker {
    process: Process,
    /// Closed, it tells the worker to leave.
    control: Option<OwnedFd>,
    outputs: SharedMemory,
    packet: Vec<u8>,
    /// Regions that the worker has been shown.
    shown: Vec<(u64, Weak<SharedMemory>)>,
    number: u64,
    pub(super) batches: u64,
}

impl Worker {
    /// A process that has been started with the other end of `control`.
    ///
    /// # Errors
    /// There is no memory to be had.
    pub(super) fn new(process: Process, control: OwnedFd, output_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            process,
            control: Some(control),
            outputs: SharedMemory::create(output_bytes)?,
            packet: vec![0; wire::ANSWER_BYTES_MAX],
            shown: Vec::new(),
            number: 0,
            batches: 0,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where the outputs of the last batch lie.
    pub(super) fn outputs(&self) -> &SharedMemory {
        &self.outputs
    }

    /// Has the model loaded; what the worker says of it, or why it refuses.
    ///
    /// # Errors
    /// No answer came.
    pub(super) fn load(&mut self, load: &Load<'_>, until: Instant) -> Result<Result<Loaded, String>, Trouble> {
        let text = serde_json::to_vec(load).unwrap_or_default();
        if text.len() > wire::LOAD_BYTES_MAX {
            return Ok(Err(format!(
                "the parameters have {} bytes, expected at most {}",
                text.len(),
                wire::LOAD_BYTES_MAX
            )));
        }
        self.send(&text, None)?;
        let count = self.receive(until)?;
        let loaded: Loaded = match serde_json::from_slice(&self.packet[..count]) {
            Ok(loaded) => loaded,
            Err(error) => return Err(self.confused(format!("its word about the model is unreadable: {error}"))),
        };
        Ok(if loaded.ok { Ok(loaded) } else { Err(loaded.problem) })
    }

    /// Runs a batch of `shape[0]` pictures that lie at the front of `region`.
    ///
    /// # Errors
    /// No answer came. The worker is of no more use then.
    pub(super) fn run(
        &mut self,
        region: &Arc<SharedMemory>,
        dtype: DType,
        shape: [usize; 4],
        until: Instant,
    ) -> Result<Answer, Trouble> {
        self.number += 1;
        let shows_region = !self.shown.iter().any(|(number, _)| *number == region.number);
        // One at a time: memory goes no faster than it is made.
        let gone = self.shown.iter().position(|(_, memory)| memory.strong_count() == 0);
        let forget = gone.map_or(0, |at| self.shown.swap_remove(at).0);
        let [count, dims @ ..] = shape.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let request = Request {
            number: self.number,
            region: region.number,
            shows_region,
            region_bytes: region.len() as u64,
            forget,
            count,
            dtype,
            dims,
        };
        if shows_region {
            self.shown.push((region.number, Arc::downgrade(region)));
        }
        self.send(&request.encode(), shows_region.then_some(region))?;
        let bytes = self.receive(until)?;
        let answer = wire::decode(&self.packet[..bytes], self.number, shape[0], self.outputs.len());
        self.batches += 1;
        answer.map_err(|problem| self.confused(problem))
    }

    /// The output memory goes along with the load request, a region with the first request that needs it.
    fn send(&mut self, packet: &[u8], region: Option<&Arc<SharedMemory>>) -> Result<(), Trouble> {
        let along = match region {
            Some(region) => Some(region.file()),
            None if self.number == 0 => Some(self.outputs.file()),
            None => None,
        };
        let sent = match &self.control {
            Some(control) => socket::send(control, packet, along),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        sent.map_err(|_| self.ended())
    }

    fn receive(&mut self, until: Instant) -> Result<usize, Trouble> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(control) = &self.control else { return Err(self.ended()) };
            match socket::receive(control, &mut self.packet, left.min(LOOK)) {
                Ok(Came::Packet(count)) if count <= self.packet.len() => return Ok(count),
                Ok(Came::Packet(count)) => return Err(self.confused(format!("it answered with {count} bytes"))),
                Ok(Came::End) | Err(_) => return Err(self.ended()),
                Ok(Came::Nothing) if self.process.has_ended() => return Err(self.ended()),
                Ok(Came::Nothing) if left.is_zero() => {
                    self.process.kill();
                    return Err(Trouble::Late);
                }
                Ok(Came::Nothing) => {}
            }
        }
    }

    fn ended(&mut self) -> Trouble {
        self.control = None;
        if !self.process.ends_within(END_MAX) {
            self.process.kill();
        }
        Trouble::Ended(self.process.obituary())
    }

    fn confused(&mut self, problem: String) -> Trouble {
        self.process.kill();
        Trouble::Confused(problem)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.control.take().is_some() {
            self.process.ends_within(GOODBYE_MAX);
        }
    }
}

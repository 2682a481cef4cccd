//! A worker's connection and the pipeline that it fills: frames in, answers out, everything counted.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use omma_adapters::redis::Link;
use omma_adapters::redis::link::{Answer, Commands, Place, slot_of};
use omma_adapters::redis::wire::{self, Outgoing, Picture, Wire};
use omma_frame::{Payload, UnixNanos};
use omma_ring::{Format, Meta, Producer};
use parking_lot::{Mutex, MutexGuard};

use crate::Pictures;
use crate::counts::{Tally, Unsent};
use crate::publisher::{Shared, greet};

/// What one pipeline holds at most, beyond its first frame: enough that calls do not count, little enough that Redis
/// serves others in between.
const PIPELINE_FRAMES_MAX: usize = 512;
const PIPELINE_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Outbox {
    pub number: usize,
    pub shared: Arc<Shared>,
    pub link: Link,
    pub form: FrameForm,
    /// The ring that all workers share, and what messages call it.
    pub ring: Option<(String, Arc<Mutex<Producer>>)>,
    pub pictures: Arc<Pictures>,
    pub cameras: Vec<Camera>,
    pub commands: Commands,
    pub pipeline: Vec<Queued>,
}

/// What all messages have in common.
#[derive(Clone)]
pub(crate) struct FrameForm {
    pub wire: Wire,
    pub entries_max: Option<String>,
}

pub(crate) struct Camera {
    /// Among all cameras.
    pub number: usize,
    pub stream: String,
    pub place: Place,
    /// Frames that Redis has.
    pub sent: u64,
}

impl Camera {
    pub fn new(number: usize, stream: &str) -> Self {
        Self { number, stream: stream.to_owned(), place: Place::Slot(slot_of(stream.as_bytes())), sent: 0 }
    }
}

/// A frame in the pipeline.
pub(crate) struct Queued {
    place: usize,
    late: bool,
    bytes: usize,
}

/// A pipeline that is being filled. The ring is held for that long, so that it is locked once for many frames.
pub(crate) struct Filling<'o> {
    shared: &'o Shared,
    tally: &'o Tally,
    form: &'o FrameForm,
    ring: Option<(&'o str, MutexGuard<'o, Producer>)>,
    pictures: &'o Pictures,
    cameras: &'o [Camera],
    commands: &'o mut Commands,
    pipeline: &'o mut Vec<Queued>,
    bytes: usize,
    captured_at: UnixNanos,
}

impl Outbox {
    /// A new pipeline; its frames are taken now.
    pub fn begin(&mut self) -> Filling<'_> {
        self.commands.clear();
        self.pipeline.clear();
        Filling {
            shared: &self.shared,
            tally: &self.shared.tallies[self.number],
            form: &self.form,
            ring: self.ring.as_ref().map(|(name, ring)| (name.as_str(), ring.lock())),
            pictures: &self.pictures,
            cameras: &self.cameras,
            commands: &mut self.commands,
            pipeline: &mut self.pipeline,
            bytes: 0,
            captured_at: unix_now(),
        }
    }

    /// Sends the pipeline and counts what became of it. Whether the connection was lost.
    pub fn send(&mut self) -> bool {
        let Self { number, shared, link, cameras, commands, pipeline, .. } = self;
        let tally = &shared.tallies[*number];
        let (mut frames, mut late, mut bytes, mut lost) = (0, 0, 0, 0);
        link.exchange(commands, &mut |at, answer| {
            let frame = &pipeline[at];
            let (why, message) = match answer {
                Answer::Reply(replies) => {
                    drop(replies.value()?);
                    frames += 1;
                    late += u64::from(frame.late);
                    bytes += frame.bytes as u64;
                    cameras[frame.place].sent += 1;
                    return Ok(());
                }
                Answer::Refused(text) if text.starts_with("OOM") => (Unsent::OutOfMemory, text),
                Answer::Refused(text) => (Unsent::Refused, text),
                Answer::Lost(error) => {
                    lost += 1;
                    (Unsent::Unconfirmed, error.message.as_str())
                }
            };
            tally.unsent(why, 1);
            shared.say(why, message);
            Ok(())
        });
        tally.sent(frames, late, bytes);
        lost == pipeline.len()
    }

    /// Whether Redis is there again.
    pub fn greet(&mut self) -> bool {
        greet(&mut self.link).map_err(|error| self.shared.say(Unsent::Disconnected, &error.message)).is_ok()
    }

    pub fn sent_by_camera(&self) -> Vec<(usize, u64)> {
        self.cameras.iter().map(|camera| (camera.number, camera.sent)).collect()
    }
}

impl Filling<'_> {
    pub fn is_empty(&self) -> bool {
        self.pipeline.is_empty()
    }

    pub fn cameras(&self) -> usize {
        self.cameras.len()
    }

    pub fn has_room(&self) -> bool {
        self.pipeline.len() < PIPELINE_FRAMES_MAX && self.bytes < PIPELINE_BYTES_MAX
    }

    /// Frames that an empty pipeline has room for, if all are of the largest size.
    pub fn room(&self) -> usize {
        (PIPELINE_BYTES_MAX / self.pictures.bytes_max().max(1)).clamp(1, PIPELINE_FRAMES_MAX)
    }

    /// Frames that are not sent.
    pub fn skip(&self, why: Unsent, frames: u64) {
        if frames > 0 {
            self.tally.unsent(why, frames);
            if why == Unsent::Behind {
                self.shared.say(why, "frames come due faster than Redis or this machine takes them");
            }
        }
    }

    /// Adds a frame of the camera at this place.
    pub fn add(&mut self, place: usize, number: u64, late: bool) {
        match self.try_add(place, number) {
            Ok(bytes) => {
                self.bytes += bytes;
                self.pipeline.push(Queued { place, late, bytes });
            }
            Err(message) => {
                self.tally.unsent(Unsent::Ring, 1);
                self.shared.say(Unsent::Ring, &message);
            }
        }
    }

    fn try_add(&mut self, place: usize, sequence: u64) -> Result<usize, String> {
        let camera = &self.cameras[place];
        let payload = self.pictures.show(camera.number, sequence);
        let (bytes, picture) = match payload {
            Payload::Encoded(bytes) => (bytes, Picture::Encoded(bytes)),
            Payload::Raw(raw) => (&raw.bytes, Picture::Raw { bytes: &raw.bytes, size: raw.size, format: raw.format }),
            Payload::Handle(_) | Payload::Unreadable(_) => return Err(NO_PICTURE.to_owned()),
        };
        let picture = match &mut self.ring {
            None => picture,
            Some((segment, ring)) => {
                let meta = match picture {
                    Picture::Raw { size, format, .. } => Meta::raw(format, size, sequence, self.captured_at),
                    _ => Meta::encoded(encoding(bytes), sequence, self.captured_at),
                };
                let generation = ring.write(&meta, bytes).map_err(|error| error.to_string())?;
                Picture::Handle { segment, generation, byte_len: bytes.len() as u64 }
            }
        };
        let frame = Outgoing { sequence, captured_at: Some(self.captured_at), picture };
        let mut fields = 0;
        wire::write(self.form.wire, &frame, &mut |_, _| fields += 2)?;
        let trimmed = if self.form.entries_max.is_some() { 3 } else { 0 };
        let command = self.commands.begin(camera.place, 3 + trimmed + fields);
        command.arg(b"XADD").arg(camera.stream.as_bytes());
        if let Some(entries_max) = &self.form.entries_max {
            command.arg(b"MAXLEN").arg(b"~").arg(entries_max.as_bytes());
        }
        command.arg(b"*");
        wire::write(self.form.wire, &frame, &mut |name, value| {
            command.arg(name).arg(value);
        })?;
        Ok(bytes.len())
    }
}

const NO_PICTURE: &str = "a handle to a picture in place of a picture, expected its bytes";

/// Whether messages of this wire can hold such a payload.
///
/// # Errors
/// It has no form for it.
pub(crate) fn has_form(wire: Wire, payload: &Payload, handles: bool) -> Result<(), String> {
    let picture = match payload {
        Payload::Encoded(_) | Payload::Raw(_) if handles => Picture::Handle { segment: "", generation: 0, byte_len: 0 },
        Payload::Encoded(bytes) => Picture::Encoded(bytes),
        Payload::Raw(raw) => Picture::Raw { bytes: &raw.bytes, size: raw.size, format: raw.format },
        Payload::Handle(_) | Payload::Unreadable(_) => return Err(NO_PICTURE.to_owned()),
    };
    let frame = Outgoing { sequence: 0, captured_at: None, picture };
    wire::write(wire, &frame, &mut |_, _| {}).map_err(str::to_owned)
}

fn encoding(bytes: &[u8]) -> Format {
    if bytes.starts_with(b"\x89PNG") { Format::Png } else { Format::Jpeg }
}

fn unix_now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

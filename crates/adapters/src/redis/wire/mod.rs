//! Frame messages in Redis: the fields of an entry, read into what a frame carries, and written.
//!
//! Two wires: our own (`own.rs`) and that of the Python pipeline which omma replaces (`compat.rs`). Reading is told the
//! fields one by one, as they come off the connection: short ones are looked at where they lie, the payload is taken
//! over as it is, and nothing is allocated for names. Whatever is wrong with a message becomes a payload that says so,
//! so that the frame keeps its place in its camera's order and is settled by name.

mod compat;
mod own;

use std::sync::Arc;

use bytes::Bytes;
use omma_frame::{DropReason, FrameName, Handle, Payload, PixelFormat, RawPicture, Size, UnixNanos, Unreadable};

/// Which fields a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// `seq`, `ts`, then `data` with `fmt`, or `seg`, `gen`, `len`.
    #[default]
    Own,
    /// Those of the Python pipeline.
    Compat,
}

/// What is to be done with a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Hand it to [`Draft::short`].
    Short(Key),
    /// Hand it to [`Draft::payload`], or say that it is too large.
    Payload,
    /// Nobody needs it.
    Nothing,
}

/// A field whose value is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Sequence,
    CapturedAt,
    Format,
    Width,
    Height,
    Segment,
    /// In a ring of the Python pipeline, the frame's index.
    Generation,
    Length,
    FrameId,
    SharedMemory,
}

impl Key {
    /// What the field is called.
    fn name(self, wire: Wire) -> &'static str {
        let (own, compat) = match self {
            Self::Sequence | Self::FrameId => ("seq", "frame_id"),
            Self::CapturedAt => ("ts", "ts_ns"),
            Self::Format => ("fmt", "format"),
            Self::Width => ("w", "width"),
            Self::Height => ("h", "height"),
            Self::Segment => ("seg", "shm_name"),
            Self::Generation => ("gen", "frame_idx"),
            Self::Length => ("len", "len"),
            Self::SharedMemory => ("shm_mode", "shm_mode"),
        };
        if wire == Wire::Own { own } else { compat }
    }
}

/// The longest name of a segment that is looked at.
const SEGMENT_BYTES_MAX: usize = 128;

/// Where in shared memory a message says that its picture lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// In a ring of ours.
    Own { segment: &'a str, generation: u64, byte_len: u64 },
    /// In one of the Python pipeline's; with the picture's size, if the message has it.
    Compat { segment: &'a str, frame_index: u64, size: Option<Size> },
}

/// Turns the handle of a message into one that can be read.
pub type OpenHandle<'a> = dyn FnMut(Reference<'_>) -> Result<Handle, Unreadable> + 'a;

/// A message while its fields come in. One is used again for every message.
#[derive(Debug, Default)]
pub struct Draft {
    wire: Wire,
    sequence: Option<u64>,
    name: Option<FrameName>,
    captured_at: Option<u64>,
    payload: Option<Bytes>,
    format: Option<Form>,
    width: Option<u32>,
    height: Option<u32>,
    generation: Option<u64>,
    length: Option<u64>,
    segment: Vec<u8>,
    shared_memory: bool,
    /// The first thing that was wrong.
    problem: Option<(DropReason, String)>,
}

/// What `fmt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Encoded,
    Raw(PixelFormat),
}

/// A message that has been read, whatever it was worth.
#[derive(Debug)]
pub struct Message {
    pub sequence: Option<u64>,
    /// What the producer calls the frame, where that is not the sequence number.
    pub name: Option<FrameName>,
    pub captured_at: Option<UnixNanos>,
    pub payload: Payload,
}

impl Draft {
    /// Forgets the message before.
    pub fn begin(&mut self, wire: Wire) {
        let mut segment = std::mem::take(&mut self.segment);
        segment.clear();
        *self = Self { wire, segment, ..Self::default() };
    }

    /// What the value of this field is needed for.
    #[must_use]
    pub fn want(&self, name: &[u8]) -> Want {
        match self.wire {
            Wire::Own => own::want(name),
            Wire::Compat => compat::want(name),
        }
    }

    pub fn short(&mut self, key: Key, value: &[u8]) {
        match key {
            Key::Sequence => self.sequence = self.number(key, value),
            Key::CapturedAt => self.captured_at = self.number(key, value),
            Key::Width => self.width = self.pixels(key, value),
            Key::Height => self.height = self.pixels(key, value),
            // The other pipeline fills it in where there is no handle too.
            Key::Generation if self.wire == Wire::Compat => self.generation = decimal(value),
            Key::Generation => self.generation = self.number(key, value),
            Key::Length => self.length = self.number(key, value),
            Key::FrameId => self.frame_id(value),
            Key::SharedMemory => self.shared_memory = matches!(value, b"1" | b"true" | b"True" | b"TRUE"),
            Key::Format => match own::form(value) {
                Some(form) => self.format = Some(form),
                None => {
                    self.wrong(format!("fmt is \"{}\", expected jpeg, png, rgb, bgr, gray, nv12 or i420", shown(value)))
                }
            },
            Key::Segment => {
                self.segment.clear();
                if (1..=SEGMENT_BYTES_MAX).contains(&value.len()) {
                    self.segment.extend_from_slice(value);
                } else if self.wire == Wire::Own {
                    self.wrong(format!("seg has {} bytes, expected 1 to {SEGMENT_BYTES_MAX}", value.len()));
                }
            }
        }
    }

    /// A field that should have been short.
    pub fn overlong(&mut self, key: Key, bytes: usize) {
        let (name, most) = (key.name(self.wire), super::link::Replies::SHORT_BYTES_MAX);
        self.wrong(format!("{name} has {bytes} bytes, expected at most {most}"));
    }

    pub fn payload(&mut self, bytes: Bytes) {
        self.payload = Some(bytes);
    }

    pub fn payload_too_large(&mut self, bytes: usize, bytes_max: usize) {
        let message = format!("{bytes} bytes, expected at most {bytes_max}");
        self.problem.get_or_insert((DropReason::PayloadTooLarge, message));
    }

    /// The entry is of no form that has fields.
    pub fn wrong(&mut self, message: String) {
        self.problem.get_or_insert((DropReason::EntryUnreadable, message));
    }

    fn number(&mut self, key: Key, value: &[u8]) -> Option<u64> {
        let number = decimal(value);
        if number.is_none() {
            let name = key.name(self.wire);
            self.wrong(format!("{name} is \"{}\", expected a decimal number", shown(value)));
        }
        number
    }

    /// Raw pixels of our own wire need them; the other's pictures and rings say their size themselves.
    fn pixels(&mut self, key: Key, value: &[u8]) -> Option<u32> {
        let number = decimal(value).and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0);
        if number.is_none() && self.wire == Wire::Own {
            let name = key.name(self.wire);
            self.wrong(format!("{name} is \"{}\", expected a number of pixels", shown(value)));
        }
        number
    }

    /// An id of digits alone is the camera's own count. Others are names, which results are told by, and the shard counts.
    fn frame_id(&mut self, value: &[u8]) {
        self.sequence = decimal(value);
        let written_otherwise = value.len() > 1 && value.starts_with(b"0");
        if value.is_empty() || (self.sequence.is_some() && !written_otherwise) {
            return;
        }
        match std::str::from_utf8(value) {
            Ok(name) => self.name = Some(FrameName::new(name)),
            Err(_) => self.wrong(format!("frame_id is \"{}\", expected UTF-8", shown(value))),
        }
    }

    /// What the message was. `open` makes handles readable; without it there is no shared memory here.
    pub fn finish(&mut self, open: Option<&mut OpenHandle<'_>>) -> Message {
        let payload = match self.read(open) {
            Ok(payload) => payload,
            Err((reason, message)) => Payload::Unreadable(Arc::new(Unreadable { reason, message })),
        };
        let captured_at = self.captured_at.map(UnixNanos);
        Message { sequence: self.sequence, name: self.name.take(), captured_at, payload }
    }

    fn read(&mut self, open: Option<&mut OpenHandle<'_>>) -> Result<Payload, (DropReason, String)> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let unreadable = |message: String| Err((DropReason::EntryUnreadable, message));
        // Beside a handle the other pipeline's content is empty.
        if self.shared_memory {
            let segment = std::str::from_utf8(&self.segment).ok().filter(|name| !name.is_empty());
            let (Some(segment), Some(frame_index)) = (segment, self.generation) else {
                return unreadable("shm_mode without a shm_name and a decimal frame_idx, expected both".to_owned());
            };
            let size = self.width.zip(self.height).map(|(width, height)| Size { width, height });
            return opened(open, Reference::Compat { segment, frame_index, size });
        }
        if let Some(bytes) = self.payload.take() {
            return match (self.format.unwrap_or(Form::Encoded), self.width, self.height) {
                (Form::Encoded, ..) => Ok(Payload::Encoded(bytes)),
                (Form::Raw(format), Some(width), Some(height)) => {
                    Ok(Payload::Raw(Box::new(RawPicture { bytes, size: Size { width, height }, format })))
                }
                (Form::Raw(_), ..) => unreadable("raw pixels without w and h, expected both".to_owned()),
            };
        }
        if self.wire == Wire::Compat {
            let expected = "content or input_stream__content, or shm_mode with shm_name and frame_idx";
            return unreadable(format!("no picture, expected {expected}"));
        }
        if self.segment.is_empty() {
            return unreadable("no picture, expected data, or seg with gen and len".to_owned());
        }
        let (Some(generation), Some(length)) = (self.generation, self.length) else {
            return unreadable("seg without gen and len, expected all three".to_owned());
        };
        let Ok(segment) = std::str::from_utf8(&self.segment) else {
            return unreadable(format!("seg is \"{}\", expected UTF-8", shown(&self.segment)));
        };
        opened(open, Reference::Own { segment, generation, byte_len: length })
    }
}

fn opened(open: Option<&mut OpenHandle<'_>>, reference: Reference<'_>) -> Result<Payload, (DropReason, String)> {
    let Some(open) = open else {
        return Err((DropReason::HandleInvalid, "this source reads no shared memory".to_owned()));
    };
    open(reference).map(Payload::Handle).map_err(|Unreadable { reason, message }| (reason, message))
}

/// Reads a message whose fields lie there whole: for tools and tests.
pub fn read<'f>(
    wire: Wire,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    bytes_max: usize,
    open: Option<&mut OpenHandle<'_>>,
) -> Message {
    let mut draft = Draft::default();
    draft.begin(wire);
    for (name, value) in fields {
        match draft.want(name) {
            Want::Nothing => {}
            Want::Payload if value.len() > bytes_max => draft.payload_too_large(value.len(), bytes_max),
            Want::Payload => draft.payload(Bytes::copy_from_slice(value)),
            Want::Short(key) if value.len() > super::link::Replies::SHORT_BYTES_MAX => draft.overlong(key, value.len()),
            Want::Short(key) => draft.short(key, value),
        }
    }
    draft.finish(open)
}

/// A frame to be written.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub sequence: u64,
    pub captured_at: Option<UnixNanos>,
    pub picture: Picture<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum Picture<'a> {
    /// JPEG or PNG.
    Encoded(&'a [u8]),
    Raw {
        bytes: &'a [u8],
        size: Size,
        format: PixelFormat,
    },
    /// A payload of `byte_len` bytes in a segment of shared memory.
    Handle {
        segment: &'a str,
        generation: u64,
        byte_len: u64,
    },
}

/// Gives the fields of a frame in order: name, value.
///
/// # Errors
/// The wire has no form for such a picture.
pub fn write(wire: Wire, frame: &Outgoing<'_>, put: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), &'static str> {
    match wire {
        Wire::Own => own::write(frame, put),
        Wire::Compat => compat::write(frame, put),
    }
}

/// Digits alone, within 64 bits.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    value.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The beginning of a value, as messages show it.
fn shown(value: &[u8]) -> String {
    const SHOWN: usize = 40;
    let more = if value.len() > SHOWN { "..." } else { "" };
    format!("{}{more}", value[..value.len().min(SHOWN)].escape_ascii())
}

#[cfg(test)]
mod tests;

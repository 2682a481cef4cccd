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
use omma_frame::{DropReason, Handle, Payload, PixelFormat, RawPicture, Size, UnixNanos, Unreadable};

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
    Generation,
    Length,
    FrameId,
    SharedMemory,
}

/// The longest name of a segment that is looked at.
const SEGMENT_BYTES_MAX: usize = 128;

/// Turns the handle of a message into one that can be read.
pub type OpenHandle<'a> = dyn FnMut(&str, u64, u64) -> Result<Handle, Unreadable> + 'a;

/// A message while its fields come in. One is used again for every message.
#[derive(Debug, Default)]
pub struct Draft {
    wire: Wire,
    sequence: Option<u64>,
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
            Key::Sequence => self.sequence = self.number("seq", value),
            Key::CapturedAt => self.captured_at = self.number(self.captured_name(), value),
            Key::Width => self.width = self.small(self.size_names().0, value),
            Key::Height => self.height = self.small(self.size_names().1, value),
            Key::Generation => self.generation = self.number("gen", value),
            Key::Length => self.length = self.number("len", value),
            // An id of digits alone is the camera's own count; others are names, and the shard counts.
            Key::FrameId => self.sequence = decimal(value),
            Key::SharedMemory => self.shared_memory = matches!(value, b"1" | b"true" | b"True" | b"TRUE"),
            Key::Format => match own::form(value) {
                Some(form) => self.format = Some(form),
                None => {
                    self.wrong(format!("fmt is \"{}\", expected jpeg, png, rgb, bgr, gray, nv12 or i420", shown(value)))
                }
            },
            Key::Segment => {
                if value.is_empty() || value.len() > SEGMENT_BYTES_MAX {
                    self.wrong(format!("seg has {} bytes, expected 1 to {SEGMENT_BYTES_MAX}", value.len()));
                }
                self.segment.clear();
                self.segment.extend_from_slice(&value[..value.len().min(SEGMENT_BYTES_MAX)]);
            }
        }
    }

    /// A field that should have been short.
    pub fn overlong(&mut self, key: Key, bytes: usize) {
        self.wrong(format!("{key:?} has {bytes} bytes, expected a short text"));
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

    fn number(&mut self, name: &str, value: &[u8]) -> Option<u64> {
        let number = decimal(value);
        if number.is_none() {
            self.wrong(format!("{name} is \"{}\", expected a decimal number", shown(value)));
        }
        number
    }

    fn small(&mut self, name: &str, value: &[u8]) -> Option<u32> {
        let number = decimal(value).and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0);
        if number.is_none() {
            self.wrong(format!("{name} is \"{}\", expected a number of pixels", shown(value)));
        }
        number
    }

    fn captured_name(&self) -> &'static str {
        if self.wire == Wire::Own { "ts" } else { "ts_ns" }
    }

    fn size_names(&self) -> (&'static str, &'static str) {
        if self.wire == Wire::Own { ("w", "h") } else { ("width", "height") }
    }

    /// What the message was. `open` makes handles readable; without it there is no shared memory here.
    pub fn finish(&mut self, open: Option<&mut OpenHandle<'_>>) -> Message {
        let payload = match self.read(open) {
            Ok(payload) => payload,
            Err((reason, message)) => Payload::Unreadable(Arc::new(Unreadable { reason, message })),
        };
        Message { sequence: self.sequence, captured_at: self.captured_at.map(UnixNanos), payload }
    }

    fn read(&mut self, open: Option<&mut OpenHandle<'_>>) -> Result<Payload, (DropReason, String)> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let unreadable = |message: String| Err((DropReason::EntryUnreadable, message));
        if let Some(bytes) = self.payload.take() {
            return match (self.format.unwrap_or(Form::Encoded), self.width, self.height) {
                (Form::Encoded, ..) => Ok(Payload::Encoded(bytes)),
                (Form::Raw(format), Some(width), Some(height)) => {
                    Ok(Payload::Raw(RawPicture { bytes, size: Size { width, height }, format }))
                }
                (Form::Raw(_), ..) => unreadable("raw pixels without w and h, expected both".to_owned()),
            };
        }
        if self.shared_memory {
            let message = "a handle into the Python pipeline's own shared memory, expected bytes in content".to_owned();
            return Err((DropReason::HandleInvalid, message));
        }
        if self.wire == Wire::Compat {
            return unreadable("no picture, expected content or input_stream__content".to_owned());
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
        match open {
            None => Err((DropReason::HandleInvalid, "this source reads no shared memory".to_owned())),
            Some(open) => match open(segment, generation, length) {
                Ok(handle) => Ok(Payload::Handle(handle)),
                Err(Unreadable { reason, message }) => Err((reason, message)),
            },
        }
    }
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

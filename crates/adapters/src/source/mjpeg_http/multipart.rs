//! What an IP camera answers: an HTTP response whose body is `multipart/x-mixed-replace`. A pure state machine over
//! bytes as they come; knows no socket and no time.
//!
//! Cameras take the standards lightly, so this is strict only where laxness would cost memory or show wrong pictures:
//! - the boundary in the header may be quoted, and may or may not already begin with the dashes of a delimiter;
//! - it may be missing: then the first delimiter tells it;
//! - lines may end in LF alone; there may be no line end between a picture and the next delimiter;
//! - a part may have no `Content-Length`: then it ends at the next delimiter. A wrong one costs the bytes up to there;
//! - the body may be chunked.
//!
//! Memory: the part that is coming in (at most [`Limits::part_bytes`] and a little) and one header block.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::head::{self, Head};

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of the response's header, and of each part's.
    pub header_bytes: usize,
    pub part_bytes: usize,
}

/// What is wrong with a response, and how many bytes into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParseError {
    pub at: u64,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another status than 200.
    Status { code: u16, reason: String, location: Option<String>, authenticate: Vec<String> },
    /// Everything else, for people.
    Malformed(String),
    /// The camera says that the stream is over.
    Over,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, reason, location, .. } => {
                write!(f, "HTTP status {code} {reason}")?;
                match (code, location) {
                    (300..=399, Some(to)) => {
                        write!(f, ": redirects are not followed, configure the URL it points to: {to}")
                    }
                    (401, _) => f.write_str(": expected a user and a password that the camera accepts"),
                    (403, _) => f.write_str(": this user may not see the stream"),
                    (404, _) => f.write_str(": the camera has no such path"),
                    _ => f.write_str(", expected 200"),
                }
            }
            Self::Malformed(message) => f.write_str(message),
            Self::Over => f.write_str("the camera has ended the stream"),
        }
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {} of the response)", self.fault, self.at)
    }
}

/// Parses one response.
#[derive(Debug)]
pub(super) struct Parser {
    limits: Limits,
    /// Bytes of the response, or of its body once unchunked, that are not used up.
    buffer: BytesMut,
    /// Bytes used up, as they came over the wire.
    taken: u64,
    state: State,
    chunks: Option<Chunks>,
    /// The delimiter's text without leading dashes; empty until it is known.
    token: Vec<u8>,
    skipped_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Looking for a delimiter line. `skipped` bytes have gone by, perhaps only a part of a line.
    Delimiter {
        skipped: usize,
        mid_line: bool,
    },
    PartHead,
    /// A part of known length.
    Counted {
        bytes: usize,
        picture: bool,
    },
    /// A part that ends at the next delimiter; no delimiter begins before `searched`.
    Open {
        searched: usize,
        picture: bool,
    },
}

/// The state of a chunked body.
#[derive(Debug, Clone)]
enum Chunks {
    /// In a line of the framing: a chunk's size, or the empty line after its data.
    Line {
        line: Vec<u8>,
        after_data: bool,
    },
    Data {
        left: u64,
    },
}

/// A chunk's size with extensions; more is an attack.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// A delimiter's dashes and the space behind it; a longer line is a part's content.
const DELIMITER_BYTES_MAX: usize = 256;

/// What a part's announced length alone makes us set aside.
const RESERVE_BYTES_MAX: usize = 512 << 10;

enum Step {
    /// Made progress.
    On,
    Part(Bytes),
    More,
}

impl Parser {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            taken: 0,
            state: State::Head,
            chunks: None,
            token: Vec::new(),
            skipped_bytes: 0,
        }
    }

    /// Takes the next bytes of the response and hands over the pictures that they complete.
    ///
    /// # Errors
    /// The response is no stream of pictures, or no longer one. Nothing can be parsed after it.
    pub fn feed(&mut self, bytes: &[u8], mut part: impl FnMut(Bytes)) -> Result<(), ParseError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.state == State::Head {
                // The header's end decides how what follows is framed: byte by byte up to there.
                let end = self.head_end(rest);
                self.buffer.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
                self.head()?;
                continue;
            }
            rest = self.unframe(rest)?;
            loop {
                match self.step()? {
                    Step::Part(bytes) => part(bytes),
                    Step::On => {}
                    Step::More => break,
                }
            }
        }
        Ok(())
    }

    /// Bytes of the body that belonged to no part, so far.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Bytes used up, as they came over the wire.
    pub fn offset(&self) -> u64 {
        self.taken
    }

    /// Bytes of the response that are in memory now.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn malformed(&self, message: impl Into<String>) -> ParseError {
        self.fault(Fault::Malformed(message.into()))
    }

    fn fault(&self, fault: Fault) -> ParseError {
        // Where that begins which could not be used. (In a chunked body the framing in between is not taken off.)
        let unused = if self.state == State::Head { 0 } else { self.buffer.len() as u64 };
        ParseError { at: self.taken.saturating_sub(unused), fault }
    }

    /// How much of `rest` belongs to the header: up to the end of its empty line if that is in it.
    fn head_end(&self, rest: &[u8]) -> usize {
        // The empty line may lie across what is buffered and what comes: at most three bytes back.
        let back = self.buffer.len().min(3);
        let seam: Vec<u8> = [&self.buffer[self.buffer.len() - back..], &rest[..rest.len().min(3)]].concat();
        let in_seam = empty_line_end(&seam).filter(|&end| end > back).map(|end| end - back);
        in_seam.or_else(|| empty_line_end(rest)).unwrap_or(rest.len())
    }

    fn head(&mut self) -> Result<(), ParseError> {
        if self.buffer.len() > self.limits.header_bytes {
            return Err(self.malformed(format!("a header of more than {} bytes", self.limits.header_bytes)));
        }
        if !starts_like_http(&self.buffer) {
            let start = String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(16)]).into_owned();
            return Err(self.malformed(format!("expected an HTTP/1 response, found {start:?}")));
        }
        let Some(end) = empty_line_end(&self.buffer) else { return Ok(()) };
        let head = head::parse(&self.buffer[..end]).map_err(|message| self.malformed(message))?;
        self.buffer.clear();
        self.taken += end as u64;
        match head.status {
            // Interim: the real response follows.
            100..=199 => return Ok(()),
            200 => {}
            code => {
                let Head { reason, location, authenticate, .. } = head;
                return Err(self.fault(Fault::Status { code, reason, location, authenticate }));
            }
        }
        let kind = head.content_type.as_deref().unwrap_or_default();
        if !head::is_multipart(kind) {
            let found = if kind.is_empty() { "no content type".to_owned() } else { format!("{kind:?}") };
            let hint = if kind.starts_with("image/") { ": this URL gives single pictures" } else { "" };
            return Err(self.malformed(format!("expected multipart/x-mixed-replace, found {found}{hint}")));
        }
        self.token = head::boundary(kind).map(|boundary| undashed(boundary.as_bytes()).to_vec()).unwrap_or_default();
        if head.chunked {
            self.chunks = Some(Chunks::Line { line: Vec::new(), after_data: false });
        }
        self.state = State::Delimiter { skipped: 0, mid_line: false };
        Ok(())
    }

    /// Moves bytes of the body into the buffer, without the framing of a chunked one. Returns what was not looked at:
    /// one chunk is moved at a time.
    fn unframe<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ParseError> {
        let Some(chunks) = &mut self.chunks else {
            self.buffer.extend_from_slice(bytes);
            self.taken += bytes.len() as u64;
            return Ok(&[]);
        };
        match chunks {
            Chunks::Data { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                self.buffer.extend_from_slice(&bytes[..count]);
                self.taken += count as u64;
                *left -= count as u64;
                if *left == 0 {
                    *chunks = Chunks::Line { line: Vec::new(), after_data: true };
                }
                Ok(&bytes[count..])
            }
            Chunks::Line { line, after_data } => {
                let count = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1);
                line.extend_from_slice(&bytes[..count.min(CHUNK_LINE_BYTES_MAX + 1)]);
                self.taken += count as u64;
                if line.len() > CHUNK_LINE_BYTES_MAX {
                    return Err(self.malformed("a chunk's size takes too many bytes"));
                }
                if line.last() == Some(&b'\n') {
                    let text = line.trim_ascii();
                    *chunks = if *after_data {
                        if !text.is_empty() {
                            return Err(self.malformed("a chunk is longer than its size says"));
                        }
                        Chunks::Line { line: Vec::new(), after_data: false }
                    } else {
                        match chunk_size(text) {
                            None => {
                                let found = String::from_utf8_lossy(text).into_owned();
                                return Err(self.malformed(format!("expected a chunk's size, found {found:?}")));
                            }
                            Some(0) => return Err(self.fault(Fault::Over)),
                            Some(left) => Chunks::Data { left },
                        }
                    };
                }
                Ok(&bytes[count..])
            }
        }
    }

    fn step(&mut self) -> Result<Step, ParseError> {
        match self.state {
            State::Head => Ok(Step::More),
            State::Delimiter { skipped, mid_line } => self.delimiter(skipped, mid_line),
            State::PartHead => self.part_head(),
            State::Counted { bytes, picture } => {
                if self.buffer.len() < bytes {
                    return Ok(Step::More);
                }
                let part = self.buffer.split_to(bytes).freeze();
                self.state = State::Delimiter { skipped: 0, mid_line: false };
                Ok(if picture { Step::Part(part) } else { Step::On })
            }
            State::Open { searched, picture } => self.open_part(searched, picture),
        }
    }

    /// Looks at one line: is it the delimiter? Anything else is skipped.
    fn delimiter(&mut self, skipped: usize, mid_line: bool) -> Result<Step, ParseError> {
        if skipped > self.limits.part_bytes {
            let boundary = String::from_utf8_lossy(&self.token).into_owned();
            return Err(self.malformed(format!("no boundary {boundary:?} in {skipped} bytes after the last part")));
        }
        let newline = memchr::memchr(b'\n', &self.buffer);
        let Some(newline) = newline else {
            // Too long to be a delimiter: garbage of any length, none of it kept.
            if self.buffer.len() > self.limits.header_bytes {
                return Ok(self.skip(self.buffer.len(), skipped, true));
            }
            return Ok(Step::More);
        };
        // What is too long to be a delimiter is none however much of it has come at once.
        if mid_line || newline > self.limits.header_bytes {
            return Ok(self.skip(newline + 1, skipped, false));
        }
        let line = self.buffer[..newline].trim_ascii_end();
        if line.is_empty() {
            // Counts against the bound, so that it cannot go on for ever, but is as it should be.
            self.buffer.advance(newline + 1);
            self.state = State::Delimiter { skipped: skipped + newline + 1, mid_line: false };
            return Ok(Step::On);
        }
        if self.token.is_empty() && line.starts_with(b"--") && line.len() > 2 {
            self.token = undashed(line).to_vec();
        }
        match self.is_delimiter(line) {
            Some(Line::Delimiter) => {
                self.buffer.advance(newline + 1);
                self.state = State::PartHead;
                Ok(Step::On)
            }
            Some(Line::Last) => Err(self.fault(Fault::Over)),
            None => Ok(self.skip(newline + 1, skipped, false)),
        }
    }

    fn skip(&mut self, bytes: usize, skipped: usize, mid_line: bool) -> Step {
        self.buffer.advance(bytes);
        self.skipped_bytes += bytes as u64;
        self.state = State::Delimiter { skipped: skipped + bytes, mid_line };
        Step::On
    }

    /// A delimiter is any number of dashes and the token; two dashes behind it mean the end.
    fn is_delimiter(&self, line: &[u8]) -> Option<Line> {
        let rest = undashed(line).strip_prefix(&self.token[..]).filter(|_| !self.token.is_empty())?;
        match rest.trim_ascii() {
            b"" => Some(Line::Delimiter),
            b"--" => Some(Line::Last),
            _ => None,
        }
    }

    fn part_head(&mut self) -> Result<Step, ParseError> {
        // A part without any header begins with the empty line.
        let end = match &self.buffer[..] {
            [b'\n', ..] => Some(1),
            [b'\r', b'\n', ..] => Some(2),
            bytes => empty_line_end(bytes),
        };
        if end.unwrap_or(self.buffer.len()) > self.limits.header_bytes {
            return Err(self.malformed(format!("a part's header of more than {} bytes", self.limits.header_bytes)));
        }
        let Some(end) = end else { return Ok(Step::More) };
        let part = head::parse_part(&self.buffer[..end]).map_err(|message| self.malformed(message))?;
        self.buffer.advance(end);
        let picture = part.picture;
        self.state = match part.length {
            Some(bytes) if bytes > self.limits.part_bytes as u64 => {
                let limit = self.limits.part_bytes;
                return Err(self.malformed(format!("a part of {bytes} bytes, expected at most {limit}")));
            }
            Some(bytes) => {
                let bytes = bytes as usize;
                // In one piece from the start, as far as a mere promise of bytes is worth it.
                self.buffer.reserve(bytes.min(RESERVE_BYTES_MAX).saturating_sub(self.buffer.len()));
                State::Counted { bytes, picture }
            }
            None => State::Open { searched: 0, picture },
        };
        Ok(Step::On)
    }

    /// Searches a part's end: the delimiter, alone on its line.
    fn open_part(&mut self, searched: usize, picture: bool) -> Result<Step, ParseError> {
        let mut from = searched;
        let found = loop {
            let Some(hit) = memmem::find(&self.buffer[from..], &self.token).map(|hit| from + hit) else {
                // The token may lie across this and what comes.
                from = from.max(self.buffer.len().saturating_sub(self.token.len() - 1));
                break None;
            };
            let dashes = self.buffer[..hit].iter().rev().take_while(|&&byte| byte == b'-').count();
            let line = hit - dashes;
            let begins = line == 0 || self.buffer[line - 1] == b'\n';
            // Two dashes are what tells a delimiter from the same text in a picture.
            if !begins || dashes < 2 {
                from = hit + 1;
                continue;
            }
            let newline = memchr::memchr(b'\n', &self.buffer[hit..]).map(|newline| hit + newline);
            // Too long to be a delimiter, whether its end has come or not.
            if newline.unwrap_or(self.buffer.len()) - line > self.token.len() + DELIMITER_BYTES_MAX {
                from = hit + 1;
                continue;
            }
            let Some(newline) = newline else {
                from = hit;
                break None;
            };
            if self.is_delimiter(&self.buffer[line..newline]).is_none() {
                from = hit + 1;
                continue;
            }
            break Some(line);
        };
        let Some(line) = found else {
            // The largest part, its line end, and the longest delimiter.
            if self.buffer.len() > self.limits.part_bytes + 2 + self.token.len() + DELIMITER_BYTES_MAX {
                let limit = self.limits.part_bytes;
                return Err(self.malformed(format!("a part without an end in {limit} bytes")));
            }
            self.state = State::Open { searched: from, picture };
            return Ok(Step::More);
        };
        // The line end before the delimiter belongs to it.
        let mut end = line;
        for eol in [b'\n', b'\r'] {
            if end > 0 && self.buffer[end - 1] == eol {
                end -= 1;
            }
        }
        if end > self.limits.part_bytes {
            let limit = self.limits.part_bytes;
            return Err(self.malformed(format!("a part of {end} bytes, expected at most {limit}")));
        }
        let part = self.buffer.split_to(end).freeze();
        self.state = State::Delimiter { skipped: 0, mid_line: false };
        Ok(if picture { Step::Part(part) } else { Step::On })
    }
}

enum Line {
    Delimiter,
    Last,
}

fn undashed(text: &[u8]) -> &[u8] {
    let dashes = text.iter().take_while(|&&byte| byte == b'-').count();
    &text[dashes..]
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The end of the first empty line (of the line ends `\n\n`, `\r\n\r\n` and mixtures).
fn empty_line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|newline| match &bytes[newline + 1..] {
        [b'\n', ..] => Some(newline + 2),
        [b'\r', b'\n', ..] => Some(newline + 3),
        _ => None,
    })
}

fn starts_like_http(bytes: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

#[cfg(test)]
mod tests;

//! Reads RESP2, the form of Redis' answers, off a connection, piece by piece as the caller asks for it.
//!
//! Small pieces (ids, field names, numbers) are shown where they lie in the buffer; a payload goes from the socket into
//! an allocation of its own size; what is too large is passed over. So an answer of any size costs no more memory than
//! the caller keeps, which is why the parser of the crate `redis`, which builds the whole answer as a tree and copies
//! each value, is not used here.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use redis::Value;

const BUFFER_BYTES: usize = 128 << 10;
/// A line: an error's text, a number. Servers keep both far shorter.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Arrays in arrays; the deepest answer that is asked for has five.
const DEPTH_MAX: usize = 16;
/// A server that sends may not send slower than this for longer than its reply timeout.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// Why an answer cannot be read on. The connection is of no use afterwards.
#[derive(Debug)]
pub enum ReplyError {
    Io(io::Error),
    /// What was found and what would be right.
    Protocol(String),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                f.write_str("no answer within the timeout")
            }
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the server closed the connection")
            }
            Self::Io(error) => write!(f, "{error}"),
            Self::Protocol(message) => f.write_str(message),
        }
    }
}

impl From<io::Error> for ReplyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The head of one piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A text that ends with its line; read with [`Replies::text`].
    Simple,
    /// A refusal; read with [`Replies::text`].
    Error,
    Int(i64),
    /// This many bytes follow: take them with one of the methods for it.
    Bulk(usize),
    /// This many pieces follow.
    Array(usize),
    Nil,
}

/// The answers that come on one connection.
pub struct Replies<S> {
    stream: S,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Since the clock was set.
    received: u64,
    since: Instant,
    patience: Duration,
    value_bytes_max: usize,
}

impl<S: Read> Replies<S> {
    pub fn new(stream: S, patience: Duration, value_bytes_max: usize) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            received: 0,
            since: Instant::now(),
            patience,
            value_bytes_max,
        }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// From now on an answer is owed.
    pub fn expect(&mut self) {
        self.received = 0;
        self.since = Instant::now();
    }

    /// Bytes received since [`Replies::expect`].
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads more into the buffer, behind what is there.
    fn read(&mut self) -> Result<(), ReplyError> {
        let count =
            Self::receive(&mut self.stream, &mut self.buffer[self.end..], self.since, self.received, self.patience)?;
        self.received += count as u64;
        self.end += count;
        Ok(())
    }

    fn receive(
        stream: &mut S,
        into: &mut [u8],
        since: Instant,
        received: u64,
        patience: Duration,
    ) -> Result<usize, ReplyError> {
        if since.elapsed() > patience + Duration::from_secs(received / BYTES_PER_SECOND_MIN) {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        loop {
            match stream.read(into) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes sure that this many bytes lie in the buffer in one piece.
    fn fill(&mut self, count: usize) -> Result<(), ReplyError> {
        if self.end - self.start >= count {
            return Ok(());
        }
        if self.start + count > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count {
            self.read()?;
        }
        Ok(())
    }

    /// The next line, without its end: its place in the buffer.
    fn line(&mut self) -> Result<(usize, usize), ReplyError> {
        let mut seen = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &unread[seen..]) {
                let end = seen + at;
                if end == 0 || unread[end - 1] != b'\r' {
                    return Err(ReplyError::Protocol("a line without \\r\\n in an answer".to_owned()));
                }
                let place = (self.start, self.start + end - 1);
                self.start += end + 1;
                return Ok(place);
            }
            seen = unread.len();
            if seen > LINE_BYTES_MAX {
                return Err(ReplyError::Protocol(format!("a line of more than {LINE_BYTES_MAX} bytes in an answer")));
            }
            self.fill(seen + 1)?;
        }
    }

    /// Whether a refusal comes next.
    pub fn next_is_error(&mut self) -> Result<bool, ReplyError> {
        self.fill(1)?;
        Ok(self.buffer[self.start] == b'-')
    }

    /// What comes next.
    pub fn head(&mut self) -> Result<Head, ReplyError> {
        self.fill(1)?;
        let kind = self.buffer[self.start];
        if matches!(kind, b'+' | b'-') {
            self.start += 1;
            return Ok(if kind == b'+' { Head::Simple } else { Head::Error });
        }
        let (start, end) = self.line()?;
        let digits = &self.buffer[start..end];
        let number = digits.get(1..).and_then(integer);
        let length = |number: i64| usize::try_from(number).ok();
        match (kind, number) {
            (b':', Some(number)) => Ok(Head::Int(number)),
            (b'$' | b'*', Some(-1)) => Ok(Head::Nil),
            (b'$', Some(number)) if length(number).is_some() => Ok(Head::Bulk(number as usize)),
            (b'*', Some(number)) if length(number).is_some() => Ok(Head::Array(number as usize)),
            _ => {
                let shown = &digits[..digits.len().min(40)];
                Err(ReplyError::Protocol(format!("\"{}\" in an answer, expected RESP2", shown.escape_ascii())))
            }
        }
    }

    /// The text behind [`Head::Simple`] and [`Head::Error`], without control characters.
    pub fn text(&mut self) -> Result<String, ReplyError> {
        let (start, end) = self.line()?;
        let text = String::from_utf8_lossy(&self.buffer[start..end]);
        Ok(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }

    fn line_end(&mut self) -> Result<(), ReplyError> {
        self.fill(2)?;
        let found = &self.buffer[self.start..self.start + 2];
        if found != b"\r\n" {
            return Err(ReplyError::Protocol("a value longer than its length in an answer".to_owned()));
        }
        self.start += 2;
        Ok(())
    }

    /// A short value, shown where it lies; at most [`Replies::SHORT_BYTES_MAX`], else `None` and the value is passed over.
    pub fn short(&mut self, length: usize) -> Result<Option<&[u8]>, ReplyError> {
        if length > Self::SHORT_BYTES_MAX {
            self.skip(length)?;
            return Ok(None);
        }
        self.fill(length + 2)?;
        let start = self.start;
        if &self.buffer[start + length..start + length + 2] != b"\r\n" {
            return Err(ReplyError::Protocol("a value longer than its length in an answer".to_owned()));
        }
        self.start += length + 2;
        Ok(Some(&self.buffer[start..start + length]))
    }

    pub const SHORT_BYTES_MAX: usize = 4 << 10;

    /// A value of any size up to the largest that is wanted; `None`: it is larger and has been passed over.
    pub fn long(&mut self, length: usize) -> Result<Option<Vec<u8>>, ReplyError> {
        if length > self.value_bytes_max {
            self.skip(length)?;
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(length);
        let buffered = length.min(self.end - self.start);
        bytes.extend_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        // The rest straight from the socket to its place; what is shorter than the buffer comes with what follows it.
        while bytes.len() < length {
            let missing = length - bytes.len();
            if missing < self.buffer.len() {
                self.start = 0;
                self.end = 0;
                self.read()?;
                let count = missing.min(self.end);
                bytes.extend_from_slice(&self.buffer[..count]);
                self.start = count;
            } else {
                let mut filled = bytes.len();
                bytes.resize(length - missing % BUFFER_BYTES, 0);
                while filled < bytes.len() {
                    let into = &mut bytes[filled..];
                    let count = Self::receive(&mut self.stream, into, self.since, self.received, self.patience)?;
                    self.received += count as u64;
                    filled += count;
                }
            }
        }
        self.line_end()?;
        Ok(Some(bytes))
    }

    /// Passes over a value.
    pub fn skip(&mut self, length: usize) -> Result<(), ReplyError> {
        let mut left = length;
        loop {
            let count = left.min(self.end - self.start);
            self.start += count;
            left -= count;
            if left == 0 {
                return self.line_end();
            }
            self.start = 0;
            self.end = 0;
            self.read()?;
        }
    }

    /// Passes over a whole piece, whatever it is.
    pub fn skip_piece(&mut self) -> Result<(), ReplyError> {
        self.skip_below(DEPTH_MAX)
    }

    fn skip_below(&mut self, depth: usize) -> Result<(), ReplyError> {
        match self.head()? {
            Head::Simple | Head::Error => self.line().map(drop),
            Head::Int(_) | Head::Nil => Ok(()),
            Head::Bulk(length) => self.skip(length),
            Head::Array(_) if depth == 0 => Err(too_deep()),
            Head::Array(count) => (0..count).try_for_each(|_| self.skip_below(depth - 1)),
        }
    }

    /// A whole answer as a tree, for those that are small.
    pub fn value(&mut self) -> Result<Value, ReplyError> {
        self.value_below(DEPTH_MAX)
    }

    fn value_below(&mut self, depth: usize) -> Result<Value, ReplyError> {
        Ok(match self.head()? {
            Head::Simple => match self.text()? {
                text if text == "OK" => Value::Okay,
                text => Value::SimpleString(text),
            },
            Head::Error => refusal(&self.text()?)?,
            Head::Int(number) => Value::Int(number),
            Head::Nil => Value::Nil,
            Head::Bulk(length) => Value::BulkString(self.long(length)?.ok_or_else(|| {
                let most = self.value_bytes_max;
                ReplyError::Protocol(format!("a value of {length} bytes in an answer, expected at most {most}"))
            })?),
            Head::Array(_) if depth == 0 => return Err(too_deep()),
            Head::Array(count) => {
                let mut items = Vec::with_capacity(count.min(1024));
                for _ in 0..count {
                    items.push(self.value_below(depth - 1)?);
                }
                Value::Array(items)
            }
        })
    }
}

/// A refusal as the crate `redis` has it.
pub(super) fn refusal(text: &str) -> Result<Value, ReplyError> {
    redis::parse_redis_value(format!("-{text}\r\n").as_bytes())
        .map_err(|error| ReplyError::Protocol(format!("a refusal that cannot be read: {error}")))
}

fn too_deep() -> ReplyError {
    ReplyError::Protocol(format!("an answer nested deeper than {DEPTH_MAX}"))
}

fn integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn replies(bytes: &[u8], piece: usize) -> Replies<Pieces<'_>> {
        Replies::new(Pieces(bytes, piece), Duration::from_secs(5), 1 << 20)
    }

    #[test]
    fn answers_are_read_however_they_come_in_pieces() {
        let long = vec![b'x'; 300_000];
        let mut bytes = b"*7\r\n:-12\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n+OK\r\n-NOGROUP no such\r\n".to_vec();
        bytes.extend_from_slice(format!("${}\r\n", long.len()).as_bytes());
        bytes.extend_from_slice(&long);
        bytes.extend_from_slice(b"\r\n+next\r\n");
        for piece in [1, 2, 3, 7, 4096, 70_000, usize::MAX] {
            let mut replies = replies(&bytes, piece);
            let Value::Array(items) = replies.value().expect("an answer") else { panic!("an array") };
            assert_eq!(
                items[..5],
                [Value::Int(-12), Value::BulkString(b"a\r\n".to_vec()), Value::Nil, Value::Nil, Value::Okay]
            );
            assert!(matches!(&items[5], Value::ServerError(error) if error.code() == "NOGROUP"), "{:?}", items[5]);
            assert_eq!(items[6], Value::BulkString(long.clone()), "in pieces of {piece}");
            assert_eq!(replies.value().expect("the next"), Value::SimpleString("next".into()));
        }
    }

    #[test]
    fn what_is_too_large_is_passed_over_and_the_next_is_whole() {
        let mut bytes = format!("${}\r\n", 3 << 20).into_bytes();
        bytes.resize(bytes.len() + (3 << 20), b'y');
        bytes.extend_from_slice(b"\r\n:7\r\n");
        for piece in [1000, usize::MAX] {
            let mut replies = replies(&bytes, piece);
            let Ok(Head::Bulk(length)) = replies.head() else { panic!("a value") };
            assert_eq!((length, replies.long(length).expect("it is skipped")), (3 << 20, None));
            assert_eq!(replies.head().expect("the next"), Head::Int(7));
        }
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let table: [(&[u8], &str); 9] = [
            (b"", "the server closed the connection"),
            (b"HTTP/1.1 400 Bad Request\r\n", "\"HTTP/1.1 400 Bad Request\" in an answer, expected RESP2"),
            (b":1\n", "a line without \\r\\n in an answer"),
            (b":+1\r\n", "\":+1\" in an answer, expected RESP2"),
            (b"$-2\r\n", "\"$-2\" in an answer, expected RESP2"),
            (b"$1\r\nab\r\n", "a value longer than its length in an answer"),
            (b"$99999999999999999999\r\n", "\"$99999999999999999999\" in an answer, expected RESP2"),
            (b"*2\r\n:1\r\n", "the server closed the connection"),
            (b"$3000000\r\nx", "the server closed the connection"),
        ];
        for (bytes, expected) in table {
            let error = replies(bytes, 5).value().expect_err("no answer");
            assert_eq!(error.to_string(), expected, "{}", bytes.escape_ascii());
        }
        let deep = b"*1\r\n".repeat(100);
        assert_eq!(replies(&deep, 5).value().expect_err("deep").to_string(), "an answer nested deeper than 16");
        assert_eq!(replies(&deep, 5).skip_piece().expect_err("deep").to_string(), "an answer nested deeper than 16");
        let endless = vec![b'+'; 40_000];
        assert_eq!(
            replies(&endless, 5000).value().expect_err("endless").to_string(),
            "a line of more than 16384 bytes in an answer"
        );
    }
}

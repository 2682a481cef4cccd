//! Redis' protocol as thin as it can be: for the do-nothing reader, which is to be as fast as a client can be made.
//!
//! Answers are looked at where they lie in the receive buffer; nothing is copied.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

const READ_BYTES: usize = 1 << 20;

/// Commands, in the form in which they are sent.
#[derive(Default, Clone)]
pub struct Commands {
    bytes: Vec<u8>,
    count: usize,
}

impl Commands {
    pub fn push(&mut self, arguments: &[&[u8]]) {
        self.begin(arguments.len());
        arguments.iter().for_each(|argument| self.argument(argument));
    }

    /// Begins a command; exactly so many arguments follow.
    pub fn begin(&mut self, arguments: usize) {
        self.head(b'*', arguments);
        self.count += 1;
    }

    pub fn argument(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, number: usize) {
        self.bytes.push(kind);
        let (mut digits, mut at, mut left) = ([0; 20], 20, number);
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// A connection.
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// What lies in the buffer.
    start: usize,
    end: usize,
}

/// A piece of an answer, where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'b> {
    Text(&'b [u8]),
    Error(&'b [u8]),
    Int(i64),
    Bulk(&'b [u8]),
    Nil,
    /// So many pieces follow.
    Array(usize),
}

/// Walks over a whole answer, piece by piece. Where the answer has another form than the caller thinks, there is nothing.
pub struct Answer<'b> {
    bytes: &'b [u8],
}

impl Connection {
    pub fn open(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket)?, buffer: vec![0; READ_BYTES], start: 0, end: 0 })
    }

    pub fn send(&mut self, commands: &Commands) -> io::Result<()> {
        self.stream.write_all(&commands.bytes)
    }

    /// The next answer, once it is there whole.
    pub fn answer(&mut self) -> io::Result<Answer<'_>> {
        let mut scan = Scan { at: self.start, left: 1 };
        while !scan.on(&self.buffer[..self.end])? {
            if self.start > 0 && self.end == self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                scan.at -= self.start;
                self.end -= self.start;
                self.start = 0;
            }
            if self.end + READ_BYTES / 4 > self.buffer.len() && self.start == 0 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let count = self.stream.read(&mut self.buffer[self.end..])?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            self.end += count;
        }
        let from = self.start;
        self.start = scan.at;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(Answer { bytes: &self.buffer[from..scan.at] })
    }

    /// Takes so many answers and fails if one is an error.
    pub fn skip(&mut self, answers: usize) -> io::Result<()> {
        for _ in 0..answers {
            if let Some(Piece::Error(text)) = self.answer()?.next() {
                return Err(io::Error::other(String::from_utf8_lossy(text).into_owned()));
            }
        }
        Ok(())
    }

    /// Sends a command and gives its answer.
    pub fn call(&mut self, arguments: &[&[u8]]) -> io::Result<Answer<'_>> {
        let mut commands = Commands::default();
        commands.push(arguments);
        self.send(&commands)?;
        self.answer()
    }
}

/// Finds the end of an answer, going on where it was when bytes ran out.
struct Scan {
    at: usize,
    left: usize,
}

impl Scan {
    fn on(&mut self, bytes: &[u8]) -> io::Result<bool> {
        while self.left > 0 {
            let Some((kind, line, mut next)) = line(bytes, self.at) else { return Ok(false) };
            let mut more = 0;
            if matches!(kind, b'$' | b'*') {
                match (kind, number(line)?) {
                    (_, ..0) => {}
                    (b'$', length) => next += length as usize + 2,
                    (_, count) => more = count as usize,
                }
            }
            if next > bytes.len() {
                return Ok(false);
            }
            self.at = next;
            self.left = self.left - 1 + more;
        }
        Ok(true)
    }
}

/// The kind and the text of a line, and where the next begins.
fn line(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    (rest.len() > end + 1).then(|| (rest[0], &rest[1..end], at + end + 2))
}

fn number(line: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    text.parse().map_err(|_| io::Error::other(format!("{text:?} in the place of a number")))
}

impl<'b> Answer<'b> {
    pub fn next(&mut self) -> Option<Piece<'b>> {
        let (kind, text, next) = line(self.bytes, 0)?;
        self.bytes = &self.bytes[next..];
        Some(match kind {
            b'+' => Piece::Text(text),
            b'-' => Piece::Error(text),
            b':' => Piece::Int(number(text).ok()?),
            kind => match (kind, usize::try_from(number(text).ok()?)) {
                (_, Err(_)) => Piece::Nil,
                (b'*', Ok(count)) => Piece::Array(count),
                (_, Ok(length)) => {
                    let bytes = self.bytes.get(..length)?;
                    self.bytes = self.bytes.get(length + 2..)?;
                    Piece::Bulk(bytes)
                }
            },
        })
    }

    /// How many pieces an array has that comes next.
    pub fn array(&mut self) -> usize {
        match self.next() {
            Some(Piece::Array(count)) => count,
            _ => 0,
        }
    }

    /// The bytes that come next.
    pub fn bytes(&mut self) -> &'b [u8] {
        match self.next() {
            Some(Piece::Text(bytes) | Piece::Error(bytes) | Piece::Bulk(bytes)) => bytes,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_form_of_the_protocol() {
        let mut commands = Commands::default();
        commands.push(&[b"XADD", b"a", b"1234567890"]);
        commands.push(&[b""]);
        assert_eq!(commands.bytes, b"*3\r\n$4\r\nXADD\r\n$1\r\na\r\n$10\r\n1234567890\r\n*1\r\n$0\r\n\r\n");
        assert_eq!(commands.len(), 2);
    }

    #[test]
    fn answers_are_read_whole_wherever_the_bytes_were_cut() {
        let bytes = b"*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nd\r\n$4\r\n\r\n\r\n\r\n*-1\r\n:7\r\n-ERR no\r\n$-1\r\n";
        for cut in 1..bytes.len() {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            let mut connection = Connection { stream: theirs, buffer: vec![0; 8], start: 0, end: 0 };
            ours.write_all(&bytes[..cut]).expect("written");
            let late = std::thread::spawn(move || ours.write_all(&bytes[cut..]).map(|()| ours));
            let mut answer = connection.answer().expect("an answer");
            assert_eq!((answer.array(), answer.bytes(), answer.array()), (2, &b"s"[..], 2), "cut at {cut}");
            assert_eq!((answer.array(), answer.bytes(), answer.array()), (2, &b"1-0"[..], 2));
            assert_eq!((answer.bytes(), answer.bytes()), (&b"d"[..], &b"\r\n\r\n"[..]));
            assert_eq!((answer.next(), answer.next()), (Some(Piece::Nil), None));
            for expected in [Piece::Int(7), Piece::Error(b"ERR no"), Piece::Nil] {
                assert_eq!(connection.answer().expect("an answer").next(), Some(expected));
            }
            late.join().expect("no panic").expect("written");
        }
    }
}

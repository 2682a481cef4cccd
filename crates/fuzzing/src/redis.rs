//! What a Redis server answers, and the fields of the entries that others have written.

use omma_adapters::fuzzing::{redis_answers, redis_passed_over};
use omma_adapters::redis::wire::{Outgoing, Picture, Reference, Wire, read, write};
use omma_frame::{DropReason, Payload, Unreadable};

use crate::input::Input;

const VALUE_BYTES_MAX: usize = 1024;
/// Below the longest line, whose end is looked for in what has come.
const ANSWER_BYTES_MAX: usize = 8 << 10;
const PAYLOAD_BYTES_MAX: usize = 40;

const NAMES: [&str; 19] = [
    "seq",
    "ts",
    "data",
    "fmt",
    "w",
    "h",
    "seg",
    "gen",
    "len",
    "frame_id",
    "content",
    "input_stream__content",
    "width",
    "height",
    "ts_ns",
    "shm_mode",
    "shm_name",
    "frame_idx",
    "",
];

/// The answers on a connection.
pub fn redis_answer(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let piece = 1 + input.below(64);
    let rest = input.rest();
    let rest = &rest[..rest.len().min(ANSWER_BYTES_MAX)];
    let whole = redis_answers(rest, usize::MAX, VALUE_BYTES_MAX);
    assert_eq!(redis_answers(rest, piece, VALUE_BYTES_MAX), whole, "in pieces of {piece}");
    let passed_over = redis_passed_over(rest, piece);
    assert_eq!(passed_over, redis_passed_over(rest, usize::MAX), "in pieces of {piece}");
    assert!(passed_over + 1 >= whole.len(), "{passed_over} passed over, of {whole:?}");
}

/// The fields of an entry.
pub fn redis_message(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let wire = if input.flag() { Wire::Compat } else { Wire::Own };
    let fields: Vec<(&str, Vec<u8>)> = (0..=input.below(8))
        .map(|_| {
            let name = input.pick(&NAMES);
            let length = input.below(64);
            (name, (0..length).map(|_| input.byte()).collect())
        })
        .collect();
    let read = |wire, fields: &[(&str, Vec<u8>)]| {
        let mut asked =
            |_: Reference<'_>| Err(Unreadable { reason: DropReason::HandleInvalid, message: "asked".to_owned() });
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        read(wire, fields, PAYLOAD_BYTES_MAX, Some(&mut asked))
    };
    let message = read(wire, &fields);
    let (sequence, captured_at) = (message.sequence.unwrap_or_default(), message.captured_at);
    let picture = match &message.payload {
        Payload::Unreadable(why) => {
            assert!(why.message.len() < 512 && !why.message.chars().any(char::is_control), "{:?}", why.message);
            return;
        }
        Payload::Encoded(bytes) => Picture::Encoded(bytes),
        Payload::Raw(raw) => Picture::Raw { bytes: &raw.bytes, size: raw.size, format: raw.format },
        Payload::Handle(_) => panic!("a handle that nobody has opened"),
    };
    let mut written: Vec<(String, Vec<u8>)> = Vec::new();
    let outgoing = Outgoing { sequence, captured_at, picture };
    write(wire, &outgoing, &mut |name, value| {
        written.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    })
    .expect("what was read has a form");
    let written: Vec<(&str, Vec<u8>)> = written.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let again = read(wire, &written);
    assert_eq!((again.sequence, again.captured_at), (Some(sequence), captured_at));
    match (&again.payload, &message.payload) {
        (Payload::Encoded(again), Payload::Encoded(first)) => {
            assert!(again == first && first.len() <= PAYLOAD_BYTES_MAX)
        }
        (Payload::Raw(again), Payload::Raw(first)) => {
            assert!(again.bytes == first.bytes && first.bytes.len() <= PAYLOAD_BYTES_MAX);
            assert_eq!((again.size, again.format), (first.size, first.format));
        }
        (again, first) => panic!("{first:?} reads back as {again:?}"),
    }
}

pub(crate) fn redis_answer_seeds() -> Vec<Vec<u8>> {
    let entry = "*2\r\n$15\r\n1700000000000-0\r\n*4\r\n$3\r\nseq\r\n$1\r\n7\r\n$4\r\ndata\r\n$2\r\n\u{1}x\r\n";
    [
        format!("\u{2}*1\r\n*2\r\n$5\r\nomma:\r\n*2\r\n{entry}*2\r\n$3\r\n1-1\r\n*-1\r\n+OK\r\n"),
        "\u{1}-NOGROUP No such key\r\n:12\r\n$-1\r\n*-1\r\n*0\r\n".to_owned(),
        "\u{5}$0\r\n\r\n-ERR\r\n-\r\n+\r\n".to_owned(),
        format!("\u{3}{}:1\r\n", "*1\r\n".repeat(17)),
        format!("\u{7}$1025\r\n{}\r\n:7\r\n", "y".repeat(1025)),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub(crate) fn redis_message_seeds() -> Vec<Vec<u8>> {
    let message = |wire: u8, fields: &[(&str, &str)]| {
        let mut bytes = vec![wire, fields.len() as u8 - 1];
        for (name, value) in fields {
            bytes.push(NAMES.iter().position(|known| known == name).unwrap_or_default() as u8);
            bytes.push(value.len() as u8);
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes
    };
    vec![
        message(0, &[("seq", "7"), ("ts", "1764090000000000000"), ("data", "jpeg")]),
        message(0, &[("seq", "7"), ("data", "abc"), ("fmt", "rgb"), ("w", "1"), ("h", "1")]),
        message(0, &[("seq", "7"), ("seg", "ring"), ("gen", "18446744073709551615"), ("len", "9")]),
        message(0, &[("seq", "-7"), ("data", "x")]),
        message(1, &[("frame_id", "42"), ("input_stream__content", "jpeg"), ("ts_ns", "1"), ("width", "2")]),
        message(1, &[("frame_id", "c-1"), ("shm_mode", "1"), ("shm_name", "psm"), ("frame_idx", "3")]),
    ]
}

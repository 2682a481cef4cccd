//! Looks into streams after the fact: whether a result whose id was refused is there, and whether one whose answer was
//! lost had been written. Both are rare, so that clear comes before fast.

use omma_frame::Token;
use redis::{Pipeline, Value};

use super::names::Stream;
use super::scripts;
use crate::redis::{Link, LinkError};
use crate::sink::encode::EntryId;

/// The field that a result has which came behind later ones: its own id.
const LATE_FIELD: &[u8] = b"entry";

/// Where a result is whose id is not above its stream's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// In its place.
    There,
    /// Its place is before the oldest entry that the stream has kept, or among what readers have deleted: it has been
    /// there, or would have gone by now.
    Past,
    /// It is not there and has not been: later results of its camera were written first.
    Missing,
}

/// Looks for entries by id.
pub(super) fn find(link: &mut Link, sought: &[(&Stream, Token)]) -> Result<Vec<Result<Found, String>>, LinkError> {
    let mut ask = Pipeline::with_capacity(sought.len() * 2);
    for (stream, id) in sought {
        let id = EntryId::of(*id);
        ask.cmd("XRANGE").arg(&stream.key).arg(id.as_str()).arg(id.as_str());
        ask.cmd("XINFO").arg("STREAM").arg(&stream.key);
    }
    let answers = link.run(&ask)?;
    Ok(answers.chunks(2).zip(sought).map(|(pair, (_, id))| found(pair, *id)).collect())
}

/// What the two answers say of an id.
///
/// # Errors
/// They are of no form that says it, or refusals.
fn found(answers: &[Value], id: Token) -> Result<Found, String> {
    let [Value::Array(range), info] = answers else { return Err(refusal(answers)) };
    if let Some(entry) = range.first() {
        let (_, fields) = entry_of(entry).ok_or_else(|| refusal(answers))?;
        let own = |(name, value): (&[u8], &[u8])| name != LATE_FIELD || value == EntryId::of(id).as_str().as_bytes();
        if fields.iter().all(|field| own(*field)) {
            return Ok(Found::There);
        }
    }
    let info = match info {
        Value::Array(info) => info,
        // The stream has gone in between, and with it whatever its last id was.
        Value::ServerError(error) if error.details() == Some("no such key") => return Ok(Found::Missing),
        _ => return Err(refusal(answers)),
    };
    let field = |name: &[u8]| info.chunks(2).find_map(|pair| (bytes(pair.first()?)? == name).then(|| pair.get(1))?);
    let deleted = field(b"max-deleted-entry-id").and_then(|id| token(bytes(id)?));
    let oldest = field(b"first-entry").and_then(entry_of).and_then(|(id, _)| token(id));
    let kept = oldest.is_some_and(|oldest| oldest < id) && deleted.is_none_or(|deleted| deleted < id);
    // Where nothing was ever trimmed or deleted, the stream has only begun with later results.
    let whole = field(b"entries-added").is_some_and(|added| Some(added) == field(b"length"));
    Ok(if kept || whole { Found::Missing } else { Found::Past })
}

/// Whether each of these values stands among the last entries of a stream.
pub(super) fn among_last(
    link: &mut Link,
    stream: &Stream,
    sought: &[Vec<u8>],
) -> Result<Result<Vec<bool>, String>, LinkError> {
    // Others may have written to the stream in between.
    let count = (sought.len() * 4).max(64);
    let mut ask = Pipeline::new();
    ask.cmd("XREVRANGE").arg(&stream.key).arg("+").arg("-").arg("COUNT").arg(count);
    Ok(among(&link.run(&ask)?, sought))
}

/// What the answer says of each value.
///
/// # Errors
/// It is a refusal, or of no form that says it: nothing is known then, least of all that the values are not there.
fn among(answers: &[Value], sought: &[Vec<u8>]) -> Result<Vec<bool>, String> {
    let [Value::Array(entries)] = answers else { return Err(refusal(answers)) };
    let there = |value: &Vec<u8>| {
        entries.iter().filter_map(entry_of).any(|(_, fields)| fields.last().is_some_and(|(_, last)| last == value))
    };
    Ok(sought.iter().map(there).collect())
}

/// Writes a result behind later ones of its camera, once.
pub(super) fn append_late(
    link: &mut Link,
    stream: &Stream,
    id: Token,
    keep: Option<u64>,
    fields: &[(&str, &[u8])],
) -> Result<Result<(), String>, LinkError> {
    let mut write = Pipeline::new();
    write.cmd("EVAL").arg(scripts::APPEND_LATE).arg(2).arg(&stream.key).arg(&stream.guard);
    write.arg(EntryId::of(id).as_str()).arg(id.0).arg(keep.unwrap_or_default());
    for (name, value) in fields {
        write.arg(name).arg(*value);
    }
    let answers = link.run(&write)?;
    Ok(if matches!(answers[..], [Value::Int(_)]) { Ok(()) } else { Err(refusal(&answers)) })
}

/// The server's words, as far as there are any.
fn refusal(answers: &[Value]) -> String {
    let said = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(format!("{} {}", error.code(), error.details().unwrap_or_default())),
        _ => None,
    });
    said.unwrap_or_else(|| "an answer that cannot be read".to_owned())
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fn entry_of(value: &Value) -> Option<(&[u8], Fields<'_>)> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(fields)] = &parts[..] else { return None };
    let fields =
        fields.chunks_exact(2).map(|pair| Some((bytes(&pair[0])?, bytes(&pair[1])?))).collect::<Option<_>>()?;
    Some((bytes(id)?, fields))
}

fn token(id: &[u8]) -> Option<Token> {
    let (ms, seq) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Token(ms.parse().ok()?, seq.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![text(id), Value::Array(fields.iter().map(|field| text(field)).collect())])
    }

    fn info(oldest: Option<&str>, deleted: Option<&str>) -> Value {
        let mut parts = vec![text("length"), Value::Int(2)];
        parts.extend(deleted.into_iter().flat_map(|id| [text("max-deleted-entry-id"), text(id)]));
        parts.extend([text("first-entry"), oldest.map_or(Value::Nil, |id| entry(id, &["data", "x"]))]);
        Value::Array(parts)
    }

    #[test]
    fn where_a_result_is() {
        let nothing = || Value::Array(vec![]);
        let added = |count: i64| {
            let Value::Array(mut parts) = info(Some("8-0"), Some("0-0")) else { return Value::Nil };
            parts.extend([text("entries-added"), Value::Int(count)]);
            Value::Array(parts)
        };
        let one = |fields: &[&str]| Value::Array(vec![entry("7-1", fields)]);
        let error = |line: &[u8]| redis::parse_redis_value(line).expect("an error");
        let (gone, loading) = (error(b"-ERR no such key\r\n"), error(b"-LOADING Redis is loading\r\n"));
        let table = [
            ("in its place", one(&["data", "x"]), info(Some("1-0"), None), Ok(Found::There)),
            ("came late into a place of its own", one(&["data", "x", "entry", "7-1"]), Value::Nil, Ok(Found::There)),
            (
                "another's that came late has its place",
                one(&["data", "x", "entry", "6-0"]),
                info(Some("1-0"), None),
                Ok(Found::Missing),
            ),
            ("trimmed", nothing(), info(Some("8-0"), Some("0-0")), Ok(Found::Past)),
            ("all trimmed", nothing(), info(None, Some("0-0")), Ok(Found::Past)),
            ("read and deleted", nothing(), info(Some("1-0"), Some("7-1")), Ok(Found::Past)),
            ("trimmed, a server that counts", nothing(), added(3), Ok(Found::Past)),
            ("the stream began with later ones", nothing(), added(2), Ok(Found::Missing)),
            ("never written", nothing(), info(Some("7-0"), Some("6-9")), Ok(Found::Missing)),
            ("never written, an old server", nothing(), info(Some("7-0"), None), Ok(Found::Missing)),
            ("the stream has gone", nothing(), gone.clone(), Ok(Found::Missing)),
            ("refused", gone, Value::Nil, Err("ERR no such key".to_owned())),
            ("half refused", nothing(), loading, Err("LOADING Redis is loading".to_owned())),
            ("nonsense", nothing(), Value::Int(1), Err("an answer that cannot be read".to_owned())),
        ];
        for (what, range, info, expected) in table {
            assert_eq!(found(&[range, info], Token(7, 1)), expected, "{what}");
        }
    }

    #[test]
    fn whether_results_whose_answers_were_lost_are_there() {
        let sought = [b"x".to_vec(), b"y".to_vec()];
        let entries = Value::Array(vec![entry("2-0", &["data", "z"]), entry("1-0", &["data", "x"])]);
        let loading = redis::parse_redis_value(b"-LOADING Redis is loading\r\n").expect("an error");
        assert_eq!(among(&[entries], &sought), Ok(vec![true, false]));
        assert_eq!(among(&[Value::Array(vec![])], &sought), Ok(vec![false, false]), "no such stream");
        assert_eq!(among(&[loading], &sought), Err("LOADING Redis is loading".to_owned()));
        assert_eq!(among(&[Value::Nil], &sought), Err("an answer that cannot be read".to_owned()));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            prop_oneof![Just("first-entry"), Just("7-1"), Just("max-deleted-entry-id"), Just("entry"), Just("\u{e9}-")]
                .prop_map(text),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn whatever_a_server_answers_is_read_or_refused(answers in prop::collection::vec(value(), 0..4)) {
            let _ = found(&answers, Token(7, 1));
        }
    }
}

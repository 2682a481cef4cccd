//! Names of many cameras from one pattern: `cam-{n:04}` gives `cam-0000`, `cam-0001`, ...
//!
//! `{n}` is the camera's number and `{tag}` its group, the number modulo a group count; `:04` pads with zeros.
//! `{{` and `}}` stand for braces, so that a Redis Cluster's hash tag can be written: `{{s{tag:02}}}:cam-{n:04}` gives
//! `{s07}:cam-0007`, and the cameras of one group share a slot.

use std::fmt::Write as _;

use omma_frame::CameraId;

/// Groups that `{tag}` tells apart: as many as an engine has shards, so that each shard's reads stay within few slots.
const TAGS: usize = 32;
/// The widest padding that makes sense for numbers up to 10,000.
const WIDTH_MAX: usize = 20;

/// A pattern that names each camera differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number { width: usize },
    Tag { width: usize },
}

impl IdPattern {
    /// # Errors
    /// What is wrong with the pattern, for people.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = pattern;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(format!(
                    "`}}` at byte {} closes nothing, expected `}}}}`",
                    pattern.len() - rest.len() + at
                ));
            }
            let (field, after) = after
                .split_once('}')
                .ok_or_else(|| format!("`{{` in {pattern:?} is not closed, expected {{n}}, {{n:04}} or {{tag:02}}"))?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::read(field)?);
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        let found = Self { pieces };
        if !found.pieces.iter().any(|piece| matches!(piece, Piece::Number { .. })) {
            return Err(format!("{pattern:?} names every camera the same, expected {{n}} in it, as in cam-{{n:04}}"));
        }
        // A camera's id has rules of its own; the number is the same length or a few digits longer for the others.
        CameraId::new(&found.id(0)).map_err(|error| error.to_string())?;
        Ok(found)
    }

    /// The id of camera `number`.
    #[must_use]
    pub fn id(&self, number: usize) -> String {
        let mut id = String::new();
        for piece in &self.pieces {
            // Writing to a string cannot fail.
            let _ = match piece {
                Piece::Text(text) => id.write_str(text),
                Piece::Number { width } => write!(id, "{number:0width$}"),
                Piece::Tag { width } => write!(id, "{:0width$}", number % TAGS),
            };
        }
        id
    }
}

impl Piece {
    fn read(field: &str) -> Result<Self, String> {
        let (name, width) = field.split_once(':').unwrap_or((field, "0"));
        let width = width.parse().ok().filter(|width| *width <= WIDTH_MAX).ok_or_else(|| {
            format!("{{{field}}} has the width {width:?}, expected a number up to {WIDTH_MAX}, as in {{n:04}}")
        })?;
        match name {
            "n" => Ok(Self::Number { width }),
            "tag" => Ok(Self::Tag { width }),
            _ => {
                Err(format!("{{{field}}} is no field of a pattern, expected {{n}} or {{tag}}; a brace is written {{{{"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_cameras() {
        for (pattern, number, expected) in [
            ("cam-{n}", 7, "cam-7"),
            ("cam-{n:04}", 7, "cam-0007"),
            ("cam-{n:04}", 123_456, "cam-123456"),
            ("{n}", 0, "0"),
            ("{{s{tag:02}}}:cam-{n:04}", 39, "{s07}:cam-0039"),
            ("eingang-süd/{n}", 1, "eingang-süd/1"),
        ] {
            assert_eq!(IdPattern::new(pattern).expect(pattern).id(number), expected, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_name_nothing_are_refused() {
        for (pattern, expected) in [
            ("cam", "names every camera the same"),
            ("cam-{tag}", "names every camera the same"),
            ("cam-{n", "is not closed"),
            ("cam-n}", "closes nothing"),
            ("cam-{m}", "is no field"),
            ("cam-{n:x}", "has the width \"x\""),
            ("cam-{n:99}", "has the width \"99\""),
            ("cam\n{n}", "control character"),
        ] {
            let error = IdPattern::new(pattern).expect_err(pattern);
            assert!(error.contains(expected), "{pattern:?}: {error}");
        }
    }
}

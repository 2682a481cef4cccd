//! Which stream is which camera's: a pattern with `{camera}` in it, read in both directions.
//!
//! In a cluster a stream's place follows from the part of its name in braces. The pattern's own braces are replaced by
//! the camera's id, so that an id such as `{s07}:cam-0001` brings its tag along.

use omma_frame::CameraId;

const HOLE: &str = "{camera}";

/// `omma:frames:{camera}`, in its two halves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamNames {
    head: String,
    tail: String,
}

impl StreamNames {
    /// Where frames are unless the configuration says otherwise: `omma:frames:{camera}`.
    #[must_use]
    pub fn frames() -> Self {
        Self { head: "omma:frames:".to_owned(), tail: String::new() }
    }

    /// `None`: the pattern has no `{camera}`, or more than one.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        let (head, tail) = pattern.split_once(HOLE)?;
        let printable = !pattern.chars().any(char::is_control) && pattern.len() <= 512;
        (printable && !tail.contains(HOLE)).then(|| Self { head: head.to_owned(), tail: tail.to_owned() })
    }

    /// The stream of a camera.
    #[must_use]
    pub fn stream(&self, camera: &str) -> String {
        [&self.head, camera, &self.tail].concat()
    }

    /// The camera of a stream; `None` if the stream is no camera's.
    #[must_use]
    pub fn camera(&self, stream: &[u8]) -> Option<CameraId> {
        let inner = stream.strip_prefix(self.head.as_bytes())?.strip_suffix(self.tail.as_bytes())?;
        CameraId::new(std::str::from_utf8(inner).ok()?).ok()
    }

    /// Whether each stream of these is one of the others too, but not the other way around.
    #[must_use]
    pub fn within(&self, others: &Self) -> bool {
        self != others && self.head.starts_with(&others.head) && self.tail.ends_with(&others.tail)
    }

    /// The glob that the server finds the streams of all cameras with.
    #[must_use]
    pub fn glob(&self) -> String {
        let plain = |text: &str| {
            text.chars().fold(String::new(), |mut out, c| {
                if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
                    out.push('\\');
                }
                out.push(c);
                out
            })
        };
        format!("{}*{}", plain(&self.head), plain(&self.tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_in_both_directions() {
        let table = [
            ("omma:frames:{camera}", "cam-1", "omma:frames:cam-1", "omma:frames:*"),
            ("{camera}", "{s07}:cam-0001", "{s07}:cam-0001", "*"),
            ("a*[b]?:{camera}:in", "x", "a*[b]?:x:in", "a\\*\\[b\\]\\?:*:in"),
        ];
        for (pattern, camera, stream, glob) in table {
            let names = StreamNames::parse(pattern).expect(pattern);
            assert_eq!((names.stream(camera).as_str(), names.glob().as_str()), (stream, glob));
            let found = names.camera(stream.as_bytes());
            assert_eq!(found.as_ref().map(CameraId::as_str), Some(camera));
        }
    }

    #[test]
    fn patterns_within_others() {
        let table = [
            ("omma:results:{camera}", "{camera}", true),
            ("omma:results:{camera}", "omma:{camera}", true),
            ("a:{camera}:out:in", "a:{camera}:in", true),
            ("omma:results:{camera}", "{camera}_input_topic", false),
            ("{camera}", "omma:{camera}", false),
            ("{camera}", "{camera}", false),
        ];
        for (inner, outer, expected) in table {
            let [inner, outer] = [inner, outer].map(|pattern| StreamNames::parse(pattern).expect(pattern));
            assert_eq!(inner.within(&outer), expected, "{inner:?} {outer:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_and_no_camera() {
        for pattern in ["", "omma:frames", "{camera}{camera}", "a\n{camera}"] {
            assert_eq!(StreamNames::parse(pattern), None, "{pattern:?}");
        }
        let names = StreamNames::parse("f:{camera}:in").expect("a pattern");
        let strangers = [&b"f:"[..], b"f::in", b"g:x:in", b"f:x:out", b"f:\xFF:in", b"f:a\nb:in", b"f:in"];
        strangers.iter().for_each(|stream| assert_eq!(names.camera(stream), None, "{}", stream.escape_ascii()));
    }
}

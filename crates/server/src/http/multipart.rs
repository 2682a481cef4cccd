//! A form with a file in it (RFC 7578), as browsers and `curl -F` send it: the first file is found, the rest is skipped.
//!
//! Pure, over a body that is in memory; a part is a part of it, never a copy.

use bytes::Bytes;
use memchr::memmem;

use crate::api::error::ApiError;

/// Longer than any that the standard allows.
const BOUNDARY_BYTES_MAX: usize = 70;
/// Parts looked at before giving up.
const PARTS_MAX: usize = 32;
/// Bytes of a part's head.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The boundary that a content type names.
#[must_use]
pub fn boundary(content_type: &str) -> Option<String> {
    let parameter = |part: &str| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    };
    let boundary = content_type.split(';').skip(1).find_map(parameter)?;
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()).then_some(boundary)
}

/// The content of the first part that is a file, or of the only part.
///
/// # Errors
/// The body is no such form, or there is no file in it.
pub fn first_file(boundary: &str, body: &Bytes) -> Result<Bytes, ApiError> {
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let Some(start) = finder.find(body).filter(|start| *start == 0 || body[..*start].ends_with(b"\r\n")) else {
        return Err(ApiError::invalid("the form does not begin with its boundary"));
    };
    let mut at = start + delimiter.len();
    let mut first = None;
    for number in 0..PARTS_MAX {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            break;
        }
        let Some(skipped) = line_end(rest) else {
            return Err(ApiError::invalid(format!("part {number} of the form has no head")));
        };
        at += skipped;
        let head_end = memmem::find(&body[at..body.len().min(at + HEAD_BYTES_MAX)], b"\r\n\r\n");
        let Some(head_end) = head_end else {
            return Err(ApiError::invalid(format!("the head of part {number} of the form does not end")));
        };
        let is_file = names_file(&body[at..at + head_end]);
        let content_at = at + head_end + 4;
        let Some(end) = content_end(&finder, body, content_at) else {
            return Err(ApiError::invalid(format!("part {number} of the form does not end with the boundary")));
        };
        let content = body.slice(content_at..end);
        if is_file {
            return Ok(content);
        }
        first.get_or_insert(content);
        at = end + 2 + delimiter.len();
    }
    first.ok_or_else(|| ApiError::invalid("no file in the form"))
}

/// Bytes up to and with the end of the boundary's line.
fn line_end(rest: &[u8]) -> Option<usize> {
    let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    rest[spaces..].starts_with(b"\r\n").then_some(spaces + 2)
}

/// Where the content that begins at `from` ends: before the line that is the next boundary.
fn content_end(finder: &memmem::Finder<'_>, body: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = at + finder.find(&body[at..])?;
        if found >= from + 2 && body[..found].ends_with(b"\r\n") {
            return Some(found - 2);
        }
        at = found + 1;
    }
}

/// Whether the head says that the part is a file.
fn names_file(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).split("\r\n").any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("content-disposition:") && line.contains("filename")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\x00--b\r\n--\r\nx\r\n--b--\r\n";

    #[test]
    fn boundaries_are_read_as_clients_write_them() {
        for (content, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            (
                "multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789x",
                None,
            ),
        ] {
            assert_eq!(boundary(content).as_deref(), expected, "{content}");
        }
    }

    #[test]
    fn the_first_file_is_found() {
        for (form, expected) in [
            (FORM, Ok("\x00--b\r\n--\r\nx")),
            ("--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nonly\r\n--b--", Ok("only")),
            ("preamble\r\n--b\r\nA: b\r\n\r\n\r\n--b--", Ok("")),
            ("", Err("does not begin with its boundary")),
            ("x--b\r\nA: b\r\n\r\n\r\n--b--", Err("does not begin with its boundary")),
            ("--b--", Err("no file in the form")),
            ("--b", Err("part 0 of the form has no head")),
            ("--bx\r\n", Err("part 0 of the form has no head")),
            ("--b\r\nA: b\r\n", Err("the head of part 0 of the form does not end")),
            ("--b\r\nA: b\r\n\r\nhello", Err("part 0 of the form does not end with the boundary")),
            ("--b\r\nA: b\r\n\r\n--b--", Err("part 0 of the form does not end with the boundary")),
        ] {
            let found = first_file("b", &Bytes::copy_from_slice(form.as_bytes()));
            match expected {
                Ok(content) => assert_eq!(found.expect(form), content.as_bytes()),
                Err(message) => {
                    let error = found.expect_err(form);
                    assert!(error.message.contains(message), "{form:?}: {error}");
                }
            }
        }
    }
}

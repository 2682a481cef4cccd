//! Header blocks of HTTP responses and of multipart parts: pure parsing of what a camera sends.

/// What matters of a response's header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub status: u16,
    pub reason: String,
    pub content_type: Option<String>,
    pub chunked: bool,
    pub location: Option<String>,
    /// Each `WWW-Authenticate` as it stands.
    pub authenticate: Vec<String>,
}

/// What matters of a part's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartHead {
    pub length: Option<u64>,
    /// Its content type is a picture, or none is given.
    pub picture: bool,
}

/// The most of a camera's own text that goes into a message.
const QUOTED_CHARS_MAX: usize = 200;

/// Of a challenge, which is answered: realm, nonce and opaque text may be long, and half of one is none.
const CHALLENGE_CHARS_MAX: usize = 2000;

/// Parses a response's header block.
pub(super) fn parse(block: &[u8]) -> Result<Head, String> {
    let mut lines = block.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let status_line = quoted(lines.next().unwrap_or_default());
    let mut words = status_line.splitn(3, ' ');
    let status = words.nth(1).filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let Some(status @ 100..=999) = status else {
        return Err(format!("expected an HTTP status line, found {status_line:?}"));
    };
    let mut head = Head { status, reason: words.next().unwrap_or_default().trim().to_owned(), ..Head::default() };
    for (name, value) in lines.filter_map(field) {
        if name.eq_ignore_ascii_case("content-type") {
            head.content_type = Some(quoted(value));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            let coding = quoted(value);
            if coding.eq_ignore_ascii_case("chunked") {
                head.chunked = true;
            } else if !coding.eq_ignore_ascii_case("identity") {
                return Err(format!("expected transfer encoding chunked or none, found {coding:?}"));
            }
        } else if name.eq_ignore_ascii_case("location") {
            head.location = Some(without_credentials(&quoted(value)));
        } else if name.eq_ignore_ascii_case("www-authenticate") {
            head.authenticate.push(shortened(value, CHALLENGE_CHARS_MAX));
        }
    }
    Ok(head)
}

/// Parses a part's header block, which may be empty.
pub(super) fn parse_part(block: &[u8]) -> Result<PartHead, String> {
    let mut part = PartHead { length: None, picture: true };
    for (name, value) in block.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter_map(field) {
        if name.eq_ignore_ascii_case("content-length") {
            let text = quoted(value);
            let length = text.parse().map_err(|_| format!("expected a part's length in bytes, found {text:?}"))?;
            part.length = Some(length);
        } else if name.eq_ignore_ascii_case("content-type") {
            // Sound and metadata travel in parts of their own.
            part.picture = value.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case(b"image/"));
        }
    }
    Ok(part)
}

/// Whether a content type is a stream of pictures. Cameras are known to say `multipart/mixed` for it.
pub(super) fn is_multipart(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("multipart/x-mixed-replace") || kind.eq_ignore_ascii_case("multipart/mixed")
}

/// The parameter `boundary`, without quotes.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let at = content_type.to_ascii_lowercase().find("boundary")?;
    let value = content_type[at + "boundary".len()..].trim_start().strip_prefix('=')?.trim_start();
    let value = match value.strip_prefix('"') {
        Some(inside) => inside.split('"').next(),
        None => value.split(';').next(),
    };
    value.map(str::trim).filter(|value| !value.is_empty())
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((std::str::from_utf8(&line[..colon]).ok()?.trim(), line[colon + 1..].trim_ascii()))
}

/// A camera's text as it may stand in a message: of bounded length, without control characters.
fn quoted(text: &[u8]) -> String {
    shortened(text, QUOTED_CHARS_MAX)
}

fn shortened(text: &[u8], chars_max: usize) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

/// A redirect's target may carry a password.
fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[host..])
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        for (content_type, expected) in [
            ("multipart/x-mixed-replace;boundary=--myboundary", Some("--myboundary")),
            ("multipart/x-mixed-replace; boundary=\"a b;c\"", Some("a b;c")),
            ("multipart/x-mixed-replace; charset=x; Boundary = frame ", Some("frame")),
            ("multipart/x-mixed-replace; boundary=", None),
            ("multipart/x-mixed-replace; boundary=\"\"", None),
            ("multipart/x-mixed-replace", None),
        ] {
            assert_eq!(boundary(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn status_lines() {
        for (block, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok((200, "OK"))),
            ("HTTP/1.0 401\n\n", Ok((401, ""))),
            ("HTTP/1.1 404 Not Found Here\r\n\r\n", Ok((404, "Not Found Here"))),
            ("HTTP/1.1\r\n\r\n", Err("expected an HTTP status line, found \"HTTP/1.1\"")),
            ("HTTP/1.1 20 OK\r\n\r\n", Err("expected an HTTP status line, found \"HTTP/1.1 20 OK\"")),
            ("HTTP/1.1 2x0 OK\r\n\r\n", Err("expected an HTTP status line, found \"HTTP/1.1 2x0 OK\"")),
        ] {
            let head = parse(block.as_bytes());
            let found = head.as_ref().map(|head| (head.status, head.reason.as_str())).map_err(String::as_str);
            assert_eq!(found, expected, "{block}");
        }
    }

    #[test]
    fn part_headers() {
        for (block, expected) in [
            ("Content-Type: image/jpeg\r\nContent-Length: 12\r\n\r\n", Ok((Some(12), true))),
            ("content-length:7\n\n", Ok((Some(7), true))),
            ("\r\n", Ok((None, true))),
            ("Content-Type: IMAGE/JPEG\r\n\r\n", Ok((None, true))),
            ("Content-Type: audio/basic\r\nContent-Length: 3\r\n\r\n", Ok((Some(3), false))),
            ("no colon\r\nContent-Length: 3\r\n\r\n", Ok((Some(3), true))),
            ("Content-Length: many\r\n\r\n", Err("expected a part's length in bytes, found \"many\"")),
            ("Content-Length: -1\r\n\r\n", Err("expected a part's length in bytes, found \"-1\"")),
        ] {
            let part = parse_part(block.as_bytes());
            let found = part.as_ref().map(|part| (part.length, part.picture)).map_err(String::as_str);
            assert_eq!(found, expected, "{block}");
        }
    }

    #[test]
    fn a_long_challenge_stays_whole() {
        let challenge = format!("Digest realm=\"{}\", nonce=\"{}\"", "r".repeat(200), "n".repeat(400));
        let head = parse(format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\n\r\n").as_bytes());
        assert_eq!(head.expect("parses").authenticate, [challenge]);
    }

    #[test]
    fn a_redirect_shows_no_password() {
        for (location, shown) in [
            ("http://u:secret@cam/x", "http://cam/x"),
            ("https://cam/a@b", "https://cam/a@b"),
            ("http://u:p@ss@cam", "http://cam"),
            ("/login?a=b", "/login?a=b"),
        ] {
            let head = parse(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n").as_bytes()).expect("parses");
            assert_eq!(head.location.as_deref(), Some(shown));
        }
    }
}

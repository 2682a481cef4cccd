//! Texts that cameras send and people write: header blocks, URLs, challenges and their answers.

use omma_adapters::fuzzing;

/// A text of the camera's that goes into messages.
const TEXT_CHARS_MAX: usize = 200;
const CHALLENGE_CHARS_MAX: usize = 2000;

fn is_bounded(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

/// The header of a response, and of a part.
pub fn http_head(bytes: &[u8]) {
    if let Ok(head) = fuzzing::head(bytes) {
        assert!((100..=999).contains(&head.status));
        assert!(head.texts.iter().all(|text| is_bounded(text, TEXT_CHARS_MAX)), "{head:?}");
        assert!(head.challenges.iter().all(|text| is_bounded(text, CHALLENGE_CHARS_MAX)), "{head:?}");
        if let Some((_, rest)) = head.location.as_deref().and_then(|location| location.split_once("://")) {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            assert!(!authority.contains('@'), "a redirect shows its password: {rest:?}");
        }
        assert!(head.boundary.is_none_or(|boundary| !boundary.is_empty() && boundary.trim() == boundary));
    }
    if let Err(why) = fuzzing::part_head(bytes) {
        assert!(is_bounded(&why, 2 * TEXT_CHARS_MAX + 100), "{why:?}");
    }
}

/// The URL of a camera.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(address) = fuzzing::url(text) else { return };
    assert!(address.target.starts_with('/') && address.port > 0 && !address.host.is_empty());
    for part in [&address.target, &address.authority] {
        assert!(!part.chars().any(|c| c.is_whitespace() || c.is_control()), "{part:?} would end its line");
    }
    assert!(!address.authority.contains('@'), "{:?} shows a password", address.authority);
    // What is shown says everything but the credentials.
    let again = fuzzing::url(&address.shown).unwrap_or_else(|why| panic!("{:?}: {why}", address.shown));
    assert_eq!(again.user_password, None, "{:?}", address.shown);
    assert_eq!((&again.host, again.port, &again.target), (&address.host, address.port, &address.target));
}

/// A response that asks for a password, behind the URL that has one: separated by the first line end.
pub fn challenge(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (url, rest) = (String::from_utf8_lossy(&bytes[..end]), bytes.get(end + 1..).unwrap_or_default());
    let block = [b"HTTP/1.1 401 No\r\n", rest].concat();
    let Ok([first, second]) = fuzzing::answers(&block, &url) else { return };
    assert!(!first.chars().any(char::is_control), "{first:?} would end its line");
    if let Some(digest) = first.strip_prefix("Digest ") {
        assert!(quotes_close(digest), "{first:?}");
        assert!(digest.starts_with("username=\"") && digest.contains(", response=\""));
        let counts = (first.contains(", nc=00000001"), second.contains(", nc=00000002"));
        assert!(!digest.contains(", qop=auth, nc=") || counts == (true, true), "{first:?} {second:?}");
    } else {
        let text = first.strip_prefix("Basic ").unwrap_or_else(|| panic!("{first:?}"));
        assert!(text.len() % 4 == 0 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
        assert_eq!(first, second);
    }
}

/// Whether each quote that a backslash does not keep has a counterpart.
fn quotes_close(text: &str) -> bool {
    let (mut inside, mut kept) = (false, false);
    for byte in text.bytes() {
        inside ^= byte == b'"' && !kept;
        kept = inside && byte == b'\\' && !kept;
    }
    !inside
}

fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn http_head_seeds() -> Vec<Vec<u8>> {
    lines(&[
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=\"a b\"\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 302 Found\nLocation: http://u:p@ss@cam/x@y?z\n\n",
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\nWWW-Authenticate: Basic\r\n\r\n",
        "Content-Type: image/jpeg\r\nContent-Length: 1234\r\n\r\n",
        "content-length:99999999999999999999\n\n",
    ])
}

pub(crate) fn url_seeds() -> Vec<Vec<u8>> {
    lines(&[
        "http://cam",
        "HTTP://root:p@ss:w%2F@cam:8080/video.mjpg?fps=5#x",
        "http://user%40home:pass@[fe80::1]:81/x",
        "http://10.0.0.7?a=b",
        "https://cam/",
        "http://a:%0d%0a@cam/%22",
    ])
}

pub(crate) fn challenge_seeds() -> Vec<Vec<u8>> {
    lines(&[
        "http://u:p@cam/x?y=z\nWWW-Authenticate: Digest realm=\"a\", nonce=\"n\", qop=\"auth,auth-int\", opaque=\"o\", algorithm=MD5\r\n\r\n",
        "http://u%22:p@cam/x\nWWW-Authenticate: Digest realm=a\\b, nonce=n, algorithm=SHA-256\r\nWWW-Authenticate: Digest nonce=n, realm=\"a\\\"b\\\\\"\r\n\r\n",
        "http://u%5C:p@cam\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n",
    ])
}

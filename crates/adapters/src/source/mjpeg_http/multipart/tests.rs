//! The dialects of cameras, and that neither chunking nor arbitrary bytes change anything but the result.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { header_bytes: 1024, part_bytes: 4096 };

/// The parts, and how it ended: nothing if it could go on.
fn parse(response: &[u8], chunk: usize, limits: Limits) -> (Vec<Vec<u8>>, Option<ParseError>) {
    let mut parser = Parser::new(limits);
    let mut parts = Vec::new();
    for piece in response.chunks(chunk.max(1)) {
        let outcome = parser.feed(piece, |part| parts.push(part.to_vec()));
        let bound =
            limits.header_bytes + limits.part_bytes + 2 + parser.token.len() + DELIMITER_BYTES_MAX + piece.len();
        assert!(parser.held_bytes() <= bound, "{} bytes held, bound {bound}", parser.held_bytes());
        if let Err(error) = outcome {
            return (parts, Some(error));
        }
    }
    (parts, None)
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed: Vec<u8> = body
        .chunks(size)
        .flat_map(|chunk| [format!("{:X};x=y\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect();
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

/// A response with two pictures, "AAAA" and "BB\r\nB", in the dialects seen on cameras. `=` stands for a line end.
fn dialects() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.replace('=', "\r\n").replace('~', "=").into_bytes();
    let head = "HTTP/1.1 200 OK=Content-Type: multipart/x-mixed-replace; boundary~";
    let counted = "Content-Type: image/jpeg=Content-Length: ";
    let chunked_body = chunked(&text(&format!("--f={counted}4==AAAA=--f={counted}5==BB=B=--f=")), 7);
    vec![
        ("by the book", text(&format!("{head}f==--f={counted}4==AAAA=--f={counted}5==BB=B=--f="))),
        (
            "dashes already in the header",
            text(&format!("{head}--my=Server: x==--my={counted}4==AAAA=--my={counted}5==BB=B=")),
        ),
        (
            "dashes in the header, four in the body",
            text(&format!("{head}--my==----my={counted}4==AAAA=----my={counted}5==BB=B=")),
        ),
        ("quoted boundary", text(&format!("{head}\"a b\"==--a b={counted}4==AAAA=--a b={counted}5==BB=B="))),
        ("boundary without dashes in the body", text(&format!("{head}f==f={counted}4==AAAA=f={counted}5==BB=B="))),
        ("no boundary in the header", {
            text(&format!(
                "HTTP/1.0 200 OK=Content-Type: multipart/x-mixed-replace==--x={counted}4==AAAA=--x={counted}5==BB=B="
            ))
        }),
        (
            "no length",
            text(&format!("{head}f==--f=Content-Type: image/jpeg==AAAA=--f=Content-Type: image/jpeg==BB=B=--f=")),
        ),
        ("no header in a part", text(&format!("{head}f==--f==AAAA=--f==BB=B=--f="))),
        (
            "LF alone",
            text(&format!("{head}f==--f={counted}4==AAAA=--f={counted}4==BB=B=--f="))
                .iter()
                .copied()
                .filter(|&b| b != b'\r')
                .collect(),
        ),
        ("no line end after the picture", text(&format!("{head}f==--f={counted}4==AAAA--f={counted}5==BB=B--f="))),
        ("empty lines around", text(&format!("{head}f=====--f={counted}4==AAAA====--f={counted}5==BB=B===--f="))),
        ("names in other cases", {
            text("http/1.1 200 OK=CONTENT-TYPE: Multipart/X-Mixed-Replace;BOUNDARY~f==--f=content-length:4==AAAA=--f=CONTENT-LENGTH: 5==BB=B=")
                .into_iter().enumerate().map(|(i, b)| if i < 4 { b.to_ascii_uppercase() } else { b }).collect()
        }),
        (
            "an interim response first",
            text(&format!("HTTP/1.1 100 Continue=={head}f==--f={counted}4==AAAA=--f={counted}5==BB=B=")),
        ),
        ("a prologue", text(&format!("{head}f==hello=world=--f={counted}4==AAAA=--f={counted}5==BB=B="))),
        (
            "sound in between",
            text(&format!(
                "{head}f==--f={counted}4==AAAA=--f=Content-Type: audio/basic=Content-Length: 3==xyz=--f={counted}5==BB=B="
            )),
        ),
        ("spaces after the delimiter", text(&format!("{head}f==--f  ={counted}4==AAAA=--f\t={counted}5==BB=B="))),
        ("chunked", [text(&format!("{head}f=Transfer-Encoding: chunked==")), chunked_body].concat()),
    ]
}

#[test]
fn every_dialect_gives_the_same_pictures() {
    for (name, response) in dialects() {
        let (parts, _) = parse(&response, usize::MAX, LIMITS);
        let second: &[u8] = if name == "LF alone" { b"BB\nB" } else { b"BB\r\nB" };
        assert_eq!(parts, [b"AAAA", second], "{name}");
    }
}

#[test]
fn any_chunking_of_a_dialect_gives_the_same() {
    for (name, response) in dialects() {
        let whole = parse(&response, usize::MAX, LIMITS);
        for chunk in 1..response.len() {
            assert_eq!(parse(&response, chunk, LIMITS).0, whole.0, "{name} in pieces of {chunk}");
        }
    }
}

#[test]
fn what_ends_a_stream() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=f\r\n";
    for (response, message) in [
        ("SSH-2.0-x\r\n".into(), "expected an HTTP/1 response, found \"SSH-2.0-x\\r\\n\" (byte 0 of the response)"),
        (
            "HTTP/2 200\r\n\r\n".into(),
            "expected an HTTP/1 response, found \"HTTP/2 200\\r\\n\\r\\n\" (byte 0 of the response)",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n".into(),
            "HTTP status 302 Found: redirects are not followed, configure the URL it points to: /login (byte 40 of the response)",
        ),
        (
            "HTTP/1.1 404 Not Found\r\n\r\n".into(),
            "HTTP status 404 Not Found: the camera has no such path (byte 26 of the response)",
        ),
        ("HTTP/1.1 503 Busy\r\n\r\n".into(), "HTTP status 503 Busy, expected 200 (byte 21 of the response)"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n".into(),
            "expected multipart/x-mixed-replace, found \"image/jpeg\": this URL gives single pictures (byte 45 of the response)",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\n".into(),
            "expected multipart/x-mixed-replace, found no content type (byte 19 of the response)",
        ),
        (
            format!("{ok}Transfer-Encoding: gzip\r\n\r\n"),
            "expected transfer encoding chunked or none, found \"gzip\" (byte 0 of the response)",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(2000)),
            "a header of more than 1024 bytes (byte 0 of the response)",
        ),
        (
            format!("{ok}\r\n--f\r\nX: {}", "y".repeat(2000)),
            "a part's header of more than 1024 bytes (byte 76 of the response)",
        ),
        (
            format!("{ok}\r\n--f\r\nContent-Length: 5000\r\n\r\n"),
            "a part of 5000 bytes, expected at most 4096 (byte 100 of the response)",
        ),
        (
            format!("{ok}\r\n--f\r\nContent-Length: x\r\n\r\n"),
            "expected a part's length in bytes, found \"x\" (byte 76 of the response)",
        ),
        (
            format!("{ok}\r\n--f\r\n\r\n{}", "y".repeat(5000)),
            "a part without an end in 4096 bytes (byte 78 of the response)",
        ),
        (
            format!("{ok}\r\n{}", "y".repeat(5000)),
            "no boundary \"f\" in 5000 bytes after the last part (byte 5071 of the response)",
        ),
        (format!("{ok}\r\n--f--\r\n"), "the camera has ended the stream (byte 71 of the response)"),
        (
            format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "expected a chunk's size, found \"zz\" (byte 103 of the response)",
        ),
        (
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"),
            "a chunk is longer than its size says (byte 106 of the response)",
        ),
        (
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n{}", "0".repeat(300)),
            "a chunk's size takes too many bytes (byte 399 of the response)",
        ),
        (
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n0\r\n"),
            "the camera has ended the stream (byte 102 of the response)",
        ),
    ] {
        let (parts, error) = parse(response.as_bytes(), usize::MAX, LIMITS);
        assert_eq!(
            (parts.len(), error.map(|error| error.to_string()).as_deref()),
            (0, Some(message)),
            "{response:.90}"
        );
    }
}

#[test]
fn a_wrong_length_costs_the_bytes_up_to_the_next_delimiter() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=f\r\n\r\n";
    for (length, first) in [(2, &b"AA"[..]), (9, b"AAAA\r\n--f")] {
        let body = format!(
            "--f\r\nContent-Length: {length}\r\n\r\nAAAA\r\n--f\r\n\r\nB\r\n--f\r\nContent-Length: 1\r\n\r\nC\r\n--f\r\n"
        );
        let (parts, error) = parse(&[&head[..], body.as_bytes()].concat(), usize::MAX, LIMITS);
        assert_eq!(
            (&parts[0][..], parts.last().map(Vec::as_slice), error),
            (first, Some(&b"C"[..]), None),
            "length {length}"
        );
    }
}

#[test]
fn a_picture_may_hold_what_looks_like_a_delimiter() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n";
    let picture = b"\r\n--frames\r\n\n-frame\r\n--frame x\r\nframe\r\n--fra";
    for length in [format!("Content-Length: {}\r\n", picture.len()), String::new()] {
        let response = [&head[..], b"--frame\r\n", length.as_bytes(), b"\r\n", picture, b"\r\n--frame\r\n"].concat();
        for chunk in 1..response.len() {
            assert_eq!(
                parse(&response, chunk, LIMITS),
                (vec![picture.to_vec()], None),
                "{length:?} in pieces of {chunk}"
            );
        }
    }
}

/// Streams of pieces that mean something to the parser, in any order.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "--f\r\n",
        "--f--\r\n",
        "f\r\n",
        "-",
        "--f",
        "Content-Length: 3\r\n",
        "Content-Type: image/jpeg\r\n",
        "\r\n",
        "\n",
        "abc",
        "5\r\n",
        "0",
        "\u{ff}",
    ]);
    let head = prop::sample::select(vec![
        "",
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=f\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Type: multipart/x-mixed-replace\n\n",
        "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed;boundary=f\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]);
    (head, prop::collection::vec(piece, 0..40))
        .prop_map(|(head, pieces)| [head, &pieces.concat()].concat().into_bytes())
}

proptest! {
    #[test]
    fn any_chunking_of_anything_gives_the_same_parts(response in stream(), chunk in 1usize..40) {
        prop_assert_eq!(parse(&response, chunk, LIMITS).0, parse(&response, usize::MAX, LIMITS).0);
    }

    #[test]
    fn whole_pictures_come_through_whatever_is_in_them(
        pictures in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        chunk in 1usize..100, counted in any::<bool>(), frames in prop::option::of(1usize..50),
    ) {
        let mut body = Vec::new();
        for picture in &pictures {
            let length = if counted { format!("Content-Length: {}\r\n", picture.len()) } else { String::new() };
            body.extend_from_slice(&[b"--boundary7\r\n", length.as_bytes(), b"\r\n", picture, b"\r\n"].concat());
        }
        body.extend_from_slice(b"--boundary7\r\n");
        let framing = if frames.is_some() { "Transfer-Encoding: chunked\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=boundary7\r\n{framing}\r\n");
        let body = frames.map_or(body.clone(), |size| chunked(&body, size));
        let (parts, _) = parse(&[head.as_bytes(), &body].concat(), chunk, LIMITS);
        prop_assert_eq!(parts, pictures);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_never_hoarded(
        head in any::<bool>(), noise in prop::collection::vec(any::<u8>(), 0..3000), chunk in 1usize..200,
    ) {
        let head = if head { "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n--\n" } else { "" };
        parse(&[head.as_bytes(), &noise].concat(), chunk, Limits { header_bytes: 64, part_bytes: 256 });
    }
}

//! What crates/fuzzing may see of the parsers here: their answers as plain values.

use bytes::Bytes;

use super::auth::Scheme;
use super::head as blocks;
use super::multipart::{Limits, Parser};
use super::url::Url;

/// What came of a response.
#[derive(Debug)]
pub struct Response {
    pub parts: Vec<Bytes>,
    /// Why it could not go on.
    pub fault: Option<String>,
    /// Bytes used up and bytes skipped, as the parser says.
    pub offset: u64,
    pub skipped_bytes: u64,
    /// The most that the parser kept between two pieces.
    pub held_bytes_max: usize,
}

/// Feeds a response to the parser, piece by piece.
pub fn response<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    header_bytes_max: usize,
    part_bytes_max: usize,
) -> Response {
    let mut parser = Parser::new(Limits { header_bytes: header_bytes_max, part_bytes: part_bytes_max });
    let (mut parts, mut fault, mut held_bytes_max) = (Vec::new(), None, 0);
    for piece in pieces {
        let outcome = parser.feed(piece, |part| parts.push(part));
        held_bytes_max = held_bytes_max.max(parser.held_bytes());
        if let Err(error) = outcome {
            fault = Some(error.to_string());
            break;
        }
    }
    Response { parts, fault, offset: parser.offset(), skipped_bytes: parser.skipped_bytes(), held_bytes_max }
}

/// What a header block says.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// All texts of the camera's that go on into messages.
    pub texts: Vec<String>,
    pub challenges: Vec<String>,
    pub location: Option<String>,
    pub boundary: Option<String>,
}

/// # Errors
/// It is no header block.
pub fn head(block: &[u8]) -> Result<Head, String> {
    let head = blocks::parse(block)?;
    let boundary = head.content_type.as_deref().and_then(blocks::boundary).map(str::to_owned);
    let texts = [Some(head.reason), head.content_type, head.location.clone()].into_iter().flatten().collect();
    Ok(Head { status: head.status, texts, challenges: head.authenticate, location: head.location, boundary })
}

/// The length that a part's header block announces, and whether it is a picture's.
///
/// # Errors
/// It announces none that can be.
pub fn part_head(block: &[u8]) -> Result<(Option<u64>, bool), String> {
    blocks::parse_part(block).map(|part| (part.length, part.picture))
}

/// A camera's URL.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    /// What goes into the request: its line and the header `Host`.
    pub target: String,
    pub authority: String,
    pub user_password: Option<(String, String)>,
    /// As it stands in messages.
    pub shown: String,
}

/// # Errors
/// It is no URL of a camera.
pub fn url(text: &str) -> Result<Address, String> {
    let url = Url::parse(text)?;
    Ok(Address {
        authority: url.authority(),
        shown: url.to_string(),
        host: url.host,
        port: url.port,
        target: url.target,
        user_password: url.credentials.map(|credentials| (credentials.user, credentials.password)),
    })
}

/// The header `Authorization` with which the camera at `url` is answered whose response begins with `block`: the
/// first and the second time.
///
/// # Errors
/// The URL has no credentials, or the response no challenge that can be answered.
pub fn answers(block: &[u8], url: &str) -> Result<[String; 2], String> {
    let url = Url::parse(url)?;
    let credentials = url.credentials.as_ref().ok_or("no credentials")?;
    let mut scheme = Scheme::choose(&blocks::parse(block)?.authenticate)?;
    Ok([1, 2].map(|fresh| scheme.answer(credentials, &url.target, fresh)))
}

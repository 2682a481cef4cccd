//! Answers to a camera's demand for a password: Digest (RFC 7616, MD5) where it is offered, else Basic.
//!
//! Nothing is sent before the camera asks: one that speaks Digest never gets to see the password itself.

use std::fmt::Write;

use md5::{Digest as _, Md5};

use super::url::Credentials;

/// How to answer, learned from a response of status 401.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    Basic,
    Digest(Challenge),
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// The camera takes `qop=auth`; otherwise the older form without a count is meant.
    qop: bool,
    /// It said the algorithm, so it hears it again.
    algorithm: bool,
    /// Requests made with this nonce.
    uses: u32,
}

impl Scheme {
    /// Picks the strongest scheme that is offered and spoken here.
    ///
    /// # Errors
    /// None is; the message says what was offered.
    pub fn choose(offers: &[String]) -> Result<Self, String> {
        let digest = offers.iter().find_map(|offer| Challenge::parse(strip_scheme(offer, "digest")?));
        if let Some(challenge) = digest {
            return Ok(Self::Digest(challenge));
        }
        if offers.iter().any(|offer| strip_scheme(offer, "basic").is_some()) {
            return Ok(Self::Basic);
        }
        Err(format!("the camera offers no way to log in that is spoken here (Basic, Digest with MD5): {offers:?}"))
    }

    /// The value of the header `Authorization` for a GET of `target`. `fresh` is any text that was not used before.
    pub fn answer(&mut self, credentials: &Credentials, target: &str, fresh: u64) -> String {
        match self {
            Self::Basic => {
                let Credentials { user, password } = credentials;
                format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
            }
            Self::Digest(challenge) => challenge.answer(credentials, target, &format!("{fresh:016x}")),
        }
    }
}

impl Challenge {
    fn parse(parameters: &str) -> Option<Self> {
        let of = |name: &str| parameter(parameters, name);
        let algorithm = of("algorithm");
        if algorithm.as_deref().is_some_and(|algorithm| !algorithm.eq_ignore_ascii_case("MD5")) {
            return None;
        }
        let qop = of("qop");
        let auth = qop.as_deref().is_some_and(|qop| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")));
        if qop.is_some() && !auth {
            return None;
        }
        Some(Self {
            realm: of("realm")?,
            nonce: of("nonce")?,
            opaque: of("opaque"),
            qop: auth,
            algorithm: algorithm.is_some(),
            uses: 0,
        })
    }

    fn answer(&mut self, credentials: &Credentials, target: &str, cnonce: &str) -> String {
        self.uses += 1;
        let Credentials { user, password } = credentials;
        let Self { realm, nonce, opaque, qop, algorithm, uses } = &*self;
        let who = md5_hex(&format!("{user}:{realm}:{password}"));
        let what = md5_hex(&format!("GET:{target}"));
        let count = format!("{uses:08x}");
        let response = if *qop {
            md5_hex(&format!("{who}:{nonce}:{count}:{cnonce}:auth:{what}"))
        } else {
            md5_hex(&format!("{who}:{nonce}:{what}"))
        };
        let user = user.replace('\\', "\\\\").replace('"', "\\\"");
        let mut header = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{target}\", response=\"{response}\""
        );
        // Writing to a string cannot fail.
        if *qop {
            let _ = write!(header, ", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
        }
        if *algorithm {
            header.push_str(", algorithm=MD5");
        }
        if let Some(opaque) = opaque {
            let _ = write!(header, ", opaque=\"{opaque}\"");
        }
        header
    }
}

fn strip_scheme<'a>(offer: &'a str, scheme: &str) -> Option<&'a str> {
    let (name, rest) = offer.split_once(' ').unwrap_or((offer, ""));
    name.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// A parameter of a challenge: `name=value` or `name="value"`, separated by commas. A quoted value is taken as it
/// stands, backslashes included: that is how it goes back into the answer.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quoted = after.starts_with('"');
        let (value, next) = match after.strip_prefix('"') {
            Some(inside) => inside.split_at(closing_quote(inside)?),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if name.trim_matches([',', ' ', '\t']).eq_ignore_ascii_case(wanted) {
            // It goes back between quotes as it stands. Without quotes of its own it may hold nothing that ends them.
            return match quoted {
                true => Some(value.to_owned()),
                false if value.contains(['"', '\\']) => None,
                false => Some(value.trim().to_owned()),
            };
        }
        rest = next.strip_prefix('"').unwrap_or(next);
    }
    None
}

/// Where a quoted value ends. A backslash keeps the quote behind it inside.
fn closing_quote(inside: &str) -> Option<usize> {
    let mut kept = false;
    inside.bytes().position(|byte| {
        let closes = byte == b'"' && !kept;
        kept = byte == b'\\' && !kept;
        closes
    })
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let used = digit <= group.len();
            let sextet = bits >> (18 - 6 * digit) & 63;
            text.push(if used { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    fn choose(offers: &[&str]) -> Result<Scheme, String> {
        Scheme::choose(&offers.iter().map(|&offer| offer.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn base64_of_every_remainder() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{ff}?", "w78/")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn basic() {
        let mut scheme = choose(&["Basic realm=\"cam\""]).expect("spoken");
        assert_eq!(scheme.answer(&credentials("Aladdin", "open sesame"), "/", 0), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    /// The example of RFC 2617, section 3.5, whose client nonce is not of our form: the hash is checked piecewise.
    #[test]
    fn digest_as_the_standard_computes_it() {
        let offer = "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let Ok(Scheme::Digest(mut challenge)) = choose(&["Basic realm=\"x\"", offer]) else {
            panic!("digest is preferred")
        };
        let header = challenge.answer(&credentials("Mufasa", "Circle Of Life"), "/dir/index.html", "0a4f113b");
        assert_eq!(
            header,
            "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             uri=\"/dir/index.html\", response=\"6629fae49393a05397450978507c4ef1\", qop=auth, nc=00000001, \
             cnonce=\"0a4f113b\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
        );
        assert!(
            challenge.answer(&credentials("a", "b"), "/", "x").contains("nc=00000002"),
            "the nonce's uses are counted"
        );
    }

    /// A nonce is the camera's own: with another one every answer is wrong.
    #[test]
    fn a_quoted_value_goes_back_as_it_came() {
        for value in [" n ", "n\\\\", "n\\ ", "a\\\"b", "a, realm=x"] {
            let mut scheme = choose(&[&format!("Digest realm=\"r\", nonce=\"{value}\"")]).expect("spoken");
            let answer = scheme.answer(&credentials("u", "p"), "/", 0);
            assert!(answer.contains(&format!(", nonce=\"{value}\", uri=")), "{answer}");
        }
    }

    #[test]
    fn what_is_chosen() {
        for (offers, expected) in [
            (vec!["Digest realm=\"a\", nonce=\"n\", algorithm=MD5", "Basic"], "digest"),
            (vec!["DIGEST nonce=n, realm=a"], "digest"),
            (vec!["Digest realm=\"a\", nonce=\"n\", algorithm=SHA-256", "Digest realm=\"a\", nonce=\"n\""], "digest"),
            (vec!["Digest realm=\"a\", nonce=\"n\", qop=\"auth-int\"", "basic realm=x"], "basic"),
            (vec!["Digest realm=\"a\", nonce=\"n"], "none"),
            (vec!["Digest realm=\"a, nonce=x \\\"b\\\"\", nonce=\"n\""], "digest"),
            (vec!["Digest realm=a\"b, nonce=\"n\""], "none"),
            (vec!["Digest realm=\"a\\\", nonce=\"n\""], "none"),
            (vec!["Negotiate"], "none"),
            (vec![], "none"),
        ] {
            let found = match choose(&offers) {
                Ok(Scheme::Digest(_)) => "digest",
                Ok(Scheme::Basic) => "basic",
                Err(_) => "none",
            };
            assert_eq!(found, expected, "{offers:?}");
        }
    }
}

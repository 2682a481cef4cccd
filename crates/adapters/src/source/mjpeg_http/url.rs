//! The URL of a camera: only as much of it as cameras need, and never its password in a message.

use std::fmt;

/// `http://[user[:password]@]host[:port][/path][?query]`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// Path and query, as they go into the request.
    pub target: String,
    pub credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub user: String,
    pub password: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        // Spaces and control characters would end the request line and begin a header of somebody's choice; a quote
        // or a backslash would change where the quoted target ends in an answer to a challenge.
        if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\')) {
            return Err(format!("the URL holds {odd:?}, expected it percent-encoded"));
        }
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err("the URL begins with https://, expected http://: TLS is not spoken".into());
            }
            Some((scheme, _)) => return Err(format!("the URL begins with {scheme}://, expected http://")),
            None => return Err("the URL has no scheme, expected http://host/path".into()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // The last @: a password may hold one, although it should not.
        let (credentials, host_port) = match authority.rsplit_once('@') {
            Some((user_password, host_port)) => (Some(Credentials::parse(user_password)?), host_port),
            None => (None, authority),
        };
        let (host, port) = if let Some(rest) = host_port.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or("the URL's host begins with [ and has no ]")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("the URL's host [{host}] is no IPv6 address"))?;
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return Err(format!("the URL has {after:?} behind its host, expected a port or a path"));
            }
            (host, port)
        } else {
            match host_port.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host_port, None),
            }
        };
        if host.is_empty() {
            return Err("the URL has no host, expected http://host/path".into());
        }
        let port = match port {
            None | Some("") => 80,
            Some(port) => match port.parse() {
                Ok(number @ 1..) => number,
                _ => return Err(format!("the URL's port is {port:?}, expected 1 to 65535")),
            },
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { host: host.to_owned(), port, target, credentials })
    }

    /// Host and port as the header `Host` wants them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl Credentials {
    fn parse(text: &str) -> Result<Self, String> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { user: decoded(user)?, password: decoded(password)? })
    }
}

/// Undoes percent-encoding. The message never quotes the text: it may be a password.
fn decoded(text: &str) -> Result<String, String> {
    let malformed = || "the URL's user or password holds a % that two hexadecimal digits do not follow".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(malformed()) };
        bytes.push((high * 16 + low) as u8);
    }
    let text = String::from_utf8(bytes).map_err(|_| "the URL's user or password is not UTF-8".to_owned())?;
    // The user goes into a header as it stands, where a line end would begin another one.
    if text.chars().any(char::is_control) {
        return Err("the URL's user or password holds a control character".into());
    }
    Ok(text)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:...", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, host, port, target, credentials) in [
            ("http://cam", "cam", 80, "/", None),
            ("HTTP://cam:8080/video.mjpg?fps=5#x", "cam", 8080, "/video.mjpg?fps=5", None),
            ("http://10.0.0.7?a=b", "10.0.0.7", 80, "/?a=b", None),
            ("http://root:pa%3Ass@cam/x", "cam", 80, "/x", Some(("root", "pa:ss"))),
            ("http://root:p@ss:w@cam/x", "cam", 80, "/x", Some(("root", "p@ss:w"))),
            ("http://root@cam", "cam", 80, "/", Some(("root", ""))),
            ("http://[fe80::1]:81/x", "fe80::1", 81, "/x", None),
            ("http://[::1]", "::1", 80, "/", None),
        ] {
            let url = Url::parse(text).expect(text);
            let found = url.credentials.as_ref().map(|c| (c.user.as_str(), c.password.as_str()));
            assert_eq!((&*url.host, url.port, &*url.target, found), (host, port, target, credentials), "{text}");
        }
    }

    #[test]
    fn what_is_no_url() {
        for (text, message) in [
            ("cam/video", "the URL has no scheme, expected http://host/path"),
            ("https://cam", "the URL begins with https://, expected http://: TLS is not spoken"),
            ("rtsp://cam", "the URL begins with rtsp://, expected http://"),
            ("http://", "the URL has no host, expected http://host/path"),
            ("http://:80/x", "the URL has no host, expected http://host/path"),
            ("http://cam:99999/", "the URL's port is \"99999\", expected 1 to 65535"),
            ("http://cam:0/", "the URL's port is \"0\", expected 1 to 65535"),
            ("http://[::1]81/", "the URL has \"81\" behind its host, expected a port or a path"),
            ("http://cam/a b", "the URL holds ' ', expected it percent-encoded"),
            ("http://cam/a\r\nX: y", "the URL holds '\\r', expected it percent-encoded"),
            ("http://[::g]/", "the URL's host [::g] is no IPv6 address"),
            ("http://[::1/", "the URL's host begins with [ and has no ]"),
            ("http://a:%zz@cam/", "the URL's user or password holds a % that two hexadecimal digits do not follow"),
            ("http://a:%ff@cam/", "the URL's user or password is not UTF-8"),
            ("http://a%0d%0aX:b@cam/", "the URL's user or password holds a control character"),
            ("http://cam/a\\", "the URL holds '\\\\', expected it percent-encoded"),
            ("http://cam/a\"b", "the URL holds '\"', expected it percent-encoded"),
        ] {
            assert_eq!(Url::parse(text).expect_err(text), message, "{text}");
        }
    }

    #[test]
    fn a_password_never_shows() {
        let url = Url::parse("http://root:secret@cam:81/x").expect("parses");
        assert_eq!((url.to_string(), format!("{url:?}")), ("http://cam:81/x".into(), "http://cam:81/x".into()));
        assert_eq!(format!("{:?}", url.credentials), "Some(root:...)");
    }
}

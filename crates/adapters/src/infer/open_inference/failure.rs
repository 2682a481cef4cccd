//! What a request can fail of, and what is to be done about each: a table, by gRPC code and HTTP status.

use std::error::Error;

use tonic::{Code, Status};

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server cannot be reached, or the connection ended: another server, or the same one later. Whether it has run
    /// the request is unknown, and no harm: a model run twice gives the same twice.
    Connection,
    /// The server has too much to do: later.
    Busy,
    /// The server has no such model now, or another one by its name: another server, or later.
    Absent,
    /// The server takes no shared memory: the same again, with the tensors in the request.
    Inline,
    /// The server has forgotten a region of shared memory, as after a restart: register it again.
    Region,
    /// The request or the model is at fault, or this server's model is: the same again would fail again there.
    Refused,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn of_status(status: &Status) -> Self {
        // A status with a cause was made on this side; the server's own have none.
        if let Some(cause) = status.source() {
            return Self::new(Kind::Connection, innermost(cause));
        }
        Self::new(kind(status.code(), status.message()), clipped(status.message(), status.code().description()))
    }

    pub(super) fn of_http(status: u16, message: &str) -> Self {
        let code = match status {
            400 => Code::InvalidArgument,
            404 => Code::NotFound,
            429 => Code::ResourceExhausted,
            502..=504 => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(kind(code, message), clipped(message, &format!("HTTP status {status}")))
    }
}

/// What went wrong underneath: the outer errors only say that something did.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}

/// Errors of Python models are whole tracebacks; what matters stands at their end.
fn clipped(message: &str, otherwise: &str) -> String {
    const MOST: usize = 600;
    let message = message.trim();
    if message.is_empty() {
        return otherwise.to_owned();
    }
    match message.char_indices().rev().nth(MOST - 1) {
        Some((at, _)) if at > 0 => format!("...{}", &message[at..]),
        _ => message.to_owned(),
    }
}

fn kind(code: Code, message: &str) -> Kind {
    let forgotten = message.contains("shared memory region") && message.to_ascii_lowercase().contains("unable to find");
    match code {
        _ if forgotten => Kind::Region,
        Code::NotFound => Kind::Absent,
        Code::ResourceExhausted => Kind::Busy,
        // Triton says so of a full queue, of a model that is being loaded, and of itself when it leaves.
        Code::Unavailable if message.contains("queue") => Kind::Busy,
        Code::Unavailable => Kind::Absent,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_what_to_do() {
        for (code, http, message, expected) in [
            (Code::InvalidArgument, 400, "unexpected shape for input 'images'", Kind::Refused),
            (Code::InvalidArgument, 400, "Unable to find shared memory region: 'omma-1'", Kind::Region),
            (Code::NotFound, 404, "Request for unknown model: 'm' is not found", Kind::Absent),
            (Code::Unavailable, 503, "Exceeds maximum queue size", Kind::Busy),
            (Code::Unavailable, 503, "Server is stopping, scheduler for model has stopped", Kind::Absent),
            (Code::ResourceExhausted, 429, "too many", Kind::Busy),
            (Code::Internal, 500, "a picture begins with 255", Kind::Refused),
            (Code::Unknown, 500, "", Kind::Refused),
        ] {
            assert_eq!(Failure::of_status(&Status::new(code, message)).kind, expected, "{code:?} {message}");
            assert_eq!(Failure::of_http(http, message).kind, expected, "{http} {message}");
        }
    }

    #[test]
    fn a_connection_that_fails_says_what_went_wrong_underneath() {
        let error = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
        let failure = Failure::of_status(&Status::from_error(Box::new(error)));
        assert_eq!(failure, Failure::new(Kind::Connection, "reset by peer"));
    }

    #[test]
    fn long_messages_keep_their_end() {
        let failure = Failure::of_http(500, &format!("{}ValueError: no", "Traceback ".repeat(1000)));
        assert!(failure.message.starts_with("...") && failure.message.ends_with("ValueError: no"));
        assert!(failure.message.len() < 700);
        assert_eq!(Failure::of_http(500, " ").message, "HTTP status 500");
    }
}

//! Why a request gets no answer: one list for both transports.

use omma_engine::picture::PictureError;
use omma_frame::DropReason;
use omma_protocol::Invalid;

/// What kind of refusal it is, and what HTTP and gRPC call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is at fault.
    Invalid,
    /// There is no such model, version or region.
    NotFound,
    /// The body is larger than any that is taken.
    TooLarge,
    /// The body does not come in time.
    Slow,
    /// The body is of a type that is not taken.
    Unsupported,
    /// Too much is asked at once, or nothing can be asked now.
    Unavailable,
    /// The answer took longer than it may.
    Late,
    /// What was asked for is switched off, or is not done here.
    Refused,
    /// The model failed.
    Failed,
}

impl Kind {
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Self::Invalid | Self::Refused => 400,
            Self::NotFound => 404,
            Self::Slow => 408,
            Self::TooLarge => 413,
            Self::Unsupported => 415,
            Self::Failed => 500,
            Self::Unavailable => 503,
            Self::Late => 504,
        }
    }

    #[must_use]
    pub const fn grpc(self) -> tonic::Code {
        match self {
            Self::Invalid | Self::Unsupported => tonic::Code::InvalidArgument,
            Self::NotFound => tonic::Code::NotFound,
            Self::TooLarge => tonic::Code::ResourceExhausted,
            Self::Refused => tonic::Code::FailedPrecondition,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Slow | Self::Late => tonic::Code::DeadlineExceeded,
            Self::Failed => tonic::Code::Internal,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub kind: Kind,
    /// What was found and what is expected.
    pub message: String,
}

impl ApiError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// What a request that the engine dropped is answered with.
    #[must_use]
    pub fn dropped(reason: DropReason, detail: Option<&str>) -> Self {
        let kind = match reason {
            DropReason::PayloadEmpty
            | DropReason::PictureCorrupt
            | DropReason::PictureUnfit
            | DropReason::HandleInvalid
            | DropReason::HandleOverwritten => Kind::Invalid,
            DropReason::PayloadTooLarge => Kind::TooLarge,
            DropReason::Stale | DropReason::Overtaken | DropReason::Shutdown => Kind::Unavailable,
            DropReason::ModelUnloaded => Kind::NotFound,
            DropReason::DeadlineExceeded => Kind::Late,
            _ => Kind::Failed,
        };
        Self::new(kind, format!("{}: {}", reason.name(), detail.unwrap_or("no more is known")))
    }

    #[must_use]
    pub fn status(&self) -> tonic::Status {
        tonic::Status::new(self.kind.grpc(), self.message.clone())
    }
}

impl From<Invalid> for ApiError {
    fn from(error: Invalid) -> Self {
        Self::invalid(error.0)
    }
}

impl From<ApiError> for PictureError {
    fn from(error: ApiError) -> Self {
        Self { reason: DropReason::PictureUnfit, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_blamed_only_for_what_it_brought() {
        for (reason, kind) in [
            (DropReason::PictureCorrupt, Kind::Invalid),
            (DropReason::OutputUnreadable, Kind::Failed),
            (DropReason::BackendFailed, Kind::Failed),
            (DropReason::ModelUnloaded, Kind::NotFound),
            (DropReason::Shutdown, Kind::Unavailable),
            (DropReason::DeadlineExceeded, Kind::Late),
        ] {
            let error = ApiError::dropped(reason, None);
            assert_eq!(error.kind, kind, "{error}");
        }
    }
}

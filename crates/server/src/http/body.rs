//! Reading a request's body and writing an answer's, both with a bound.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use crate::api::Api;
use crate::api::error::{ApiError, Kind};

/// The whole body, of at most so many bytes.
///
/// # Errors
/// It is too large, comes too slowly, ends early, or there is no room for it now.
pub(super) async fn read(api: &Api, most: usize, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    if let Some(encoding) = headers.get(http::header::CONTENT_ENCODING).filter(|value| *value != "identity") {
        let message = format!("content-encoding {encoding:?}, expected none");
        return Err(ApiError::new(Kind::Unsupported, message));
    }
    let limit = api.limits.timeout;
    tokio::time::timeout(limit, gather(most, body)).await.unwrap_or_else(|_| {
        let message = format!("the request's body was not there within {} ms", limit.as_millis());
        Err(ApiError::new(Kind::Slow, message))
    })
}

async fn gather(most: usize, mut body: Body) -> Result<Bytes, ApiError> {
    let too_large = |bytes: u64| {
        let message = format!("a body of {bytes} bytes or more, expected at most {most}");
        ApiError::new(Kind::TooLarge, message)
    };
    let promised = http_body::Body::size_hint(&body);
    if promised.lower() > most as u64 {
        return Err(too_large(promised.lower()));
    }
    let mut first = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Err(too_large((whole.len() + data.len()) as u64));
        }
        match (&mut first, whole.is_empty()) {
            // A body of one piece is used where it lies.
            (first @ None, true) => *first = Some(data),
            (first, _) => {
                if let Some(first) = first.take() {
                    // What has been promised is not believed beyond the limit, which was checked.
                    let all = usize::try_from(promised.lower()).unwrap_or(most).max(first.len() + data.len());
                    whole.reserve(all);
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn broken(error: axum::Error) -> ApiError {
    let error = error.into_inner();
    match error.downcast::<tonic::Status>() {
        // What the budget says.
        Ok(status) => ApiError::new(Kind::Unavailable, status.message()),
        Err(error) => ApiError::invalid(format!("the body ended early: {error}")),
    }
}

/// An answer in pieces, none of which is copied.
pub(super) struct Parts(pub(super) VecDeque<Bytes>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

//! What is served over HTTP: the pages, the Open Inference Protocol under `/v2`, the practical call and the cameras under
//! `/v1`.

mod body;
mod cameras;
pub mod multipart;
mod pages;
mod v1;
mod v2;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::api::Api;
use crate::api::error::{ApiError, Kind};
use crate::connections::Spare;
use crate::watched::Watched;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) fn routes(watched: Watched, camera_series_max: usize, api: Arc<Api>) -> Router {
    let others = cameras::routes(Arc::clone(&api))
        .merge(v2::routes(Arc::clone(&api)))
        .merge(v1::routes(api))
        .layer(middleware::from_fn(with_a_place));
    pages::routes(watched, camera_series_max)
        .merge(others)
        .fallback(pages::nothing)
        .method_not_allowed_fallback(pages::method)
}

/// Only the pages are answered where all places are busy.
async fn with_a_place(request: Request, next: Next) -> Response {
    if request.extensions().get::<Spare>().is_none() {
        return next.run(request).await;
    }
    let why = "all connections are busy (direct.connections_max), try again later";
    ApiError::new(Kind::Unavailable, why).into_response()
}

fn json(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], value.to_string()).into_response()
}

/// Reads or writes text of so many bytes. What takes long takes this thread out of those that serve meanwhile.
fn convert<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    const QUICK_BYTES_MAX: usize = 256 << 10;
    if bytes <= QUICK_BYTES_MAX { work() } else { tokio::task::block_in_place(work) }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, JSON)], omma_protocol::http::encode_error(&self.message)).into_response()
    }
}

//! `POST /v1/models/MODEL/predict`: a picture in, what the model says of it out, as results are written.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, header};

use super::{JSON, body, multipart};
use crate::api::Api;
use crate::api::error::{ApiError, Kind};

pub(super) fn routes(api: Arc<Api>) -> Router {
    Router::new().route("/v1/models/{model}/predict", post(predict)).with_state(api)
}

async fn predict(
    State(api): State<Arc<Api>>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    // What is wrong with the request's head is said before its body is read.
    crate::api::models::find(api.engine()?, &model, "")?;
    let form = Form::of(&headers)?;
    let whole = body::read(&api, api.limits.request_bytes_max, &headers, body).await?;
    let picture = match form {
        Form::Picture => whole,
        Form::Multipart { boundary } => multipart::first_file(&boundary, &whole)?,
    };
    let text = api.predict(&model, picture).await?;
    Ok(([(header::CONTENT_TYPE, JSON)], text).into_response())
}

enum Form {
    Picture,
    Multipart { boundary: String },
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(content) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Picture) };
        let content = content.to_str().unwrap_or_default();
        let kind = content.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            // Which picture it is, its first bytes say. curl sends files as forms unless it is told otherwise.
            "image/jpeg"
            | "image/jpg"
            | "image/png"
            | "application/octet-stream"
            | "application/x-www-form-urlencoded" => Ok(Self::Picture),
            "multipart/form-data" => match multipart::boundary(content) {
                Some(boundary) => Ok(Self::Multipart { boundary }),
                None => Err(ApiError::invalid("multipart/form-data without its boundary")),
            },
            _ => Err(ApiError::new(
                Kind::Unsupported,
                format!(
                    "content-type {}, expected image/jpeg, image/png or multipart/form-data",
                    omma_protocol::quoted(content)
                ),
            )),
        }
    }
}

//! `/v1/cameras`: which cameras there are, what became of their frames, which model looks at them, and another one if
//! that is asked for.
//!
//! Reads atomics; a change is a store that the camera's reader finds ([`omma_engine::pipeline::Shared::assign`]).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use omma_engine::cameras::{Camera, Delivery};
use omma_engine::pipeline::{AssignError, Shared};
use omma_frame::CameraId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{JSON, body};
use crate::api::Api;
use crate::api::error::{ApiError, Kind};

/// The name of a model, in JSON.
const BODY_BYTES_MAX: usize = 4096;

pub(super) fn routes(api: Arc<Api>) -> Router {
    Router::new().route("/v1/cameras", get(list)).route("/v1/cameras/{camera}", get(one).put(change)).with_state(api)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    model: String,
}

fn answer(value: &Value) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, no_store)], value.to_string()).into_response()
}

fn find(shared: &Shared, camera: &str) -> Result<Arc<Camera>, ApiError> {
    let id = CameraId::new(camera).ok();
    let index = id.and_then(|id| shared.cameras.find(&id));
    let found = index.and_then(|index| shared.cameras.snapshot().get(index.slot()).map(Arc::clone));
    found.ok_or_else(|| ApiError::new(Kind::NotFound, format!("there is no camera {camera:?}")))
}

async fn list(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let shared = api.engine()?;
    let cameras: Vec<Value> = shared.cameras.snapshot().iter().map(|camera| object(shared, camera)).collect();
    Ok(answer(&json!({ "cameras": cameras })))
}

async fn one(State(api): State<Arc<Api>>, Path(camera): Path<String>) -> Result<Response, ApiError> {
    let shared = api.engine()?;
    Ok(answer(&object(shared, &*find(shared, &camera)?)))
}

async fn change(
    State(api): State<Arc<Api>>,
    Path(camera): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let shared = api.engine()?;
    let camera = find(shared, &camera)?;
    let body = body::read(&api, BODY_BYTES_MAX, &headers, body).await?;
    let Change { model } = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid(format!("{error}; expected {{\"model\": \"NAME\"}}")))?;
    shared.assign(&camera.plan.id, &model).map_err(|error| {
        let kind = match error {
            AssignError::UnknownCamera(_) => Kind::NotFound,
            AssignError::UnknownModel(_) => Kind::Invalid,
            AssignError::NotRunning(_) => Kind::Unavailable,
        };
        ApiError::new(kind, error.to_string())
    })?;
    Ok(answer(&object(shared, &camera)))
}

fn object(shared: &Shared, camera: &Camera) -> Value {
    let counts = shared.ledger.camera(camera.index);
    let dropped: Map<String, Value> =
        counts.drops().map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
    let name = |model: usize| shared.plan.models.get(model).map(|model| model.name.as_str());
    json!({
        "camera": camera.plan.id.as_str(),
        "model": name(camera.model()),
        "model_wanted": name(camera.model_wanted()),
        "delivery": match camera.plan.delivery { Delivery::Latest { .. } => "latest", Delivery::Every => "every" },
        "received": counts.received,
        "published": counts.published,
        "in_flight": counts.in_flight,
        "dropped": dropped,
        "lost_upstream": counts.lost_upstream,
    })
}

//! `/v1/cameras`: which cameras there are, what became of their frames, which model looks at them, and another one if
//! that is asked for.
//!
//! Reads atomics; a change is a store that the camera's reader finds ([`omma_engine::pipeline::Shared::assign`]).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use omma_engine::cameras::{Camera, Delivery};
use omma_engine::pipeline::{AssignError, Shared};
use omma_frame::CameraId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::watched::Watched;

/// The name of a model, in JSON.
const BODY_BYTES_MAX: usize = 4096;

pub(super) fn routes(watched: Watched) -> Router {
    Router::new()
        .route("/v1/cameras", get(list))
        .route("/v1/cameras/{camera}", get(one).put(change))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(watched)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    model: String,
}

struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer(self.0, &json!({ "error": self.1 }))
    }
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let head = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, head, value.to_string()).into_response()
}

fn engine(watched: &Watched) -> Result<&Arc<Shared>, Refused> {
    let starting = || Refused(StatusCode::SERVICE_UNAVAILABLE, "the engine is starting, expected running".to_owned());
    watched.shared().ok_or_else(starting)
}

fn find(shared: &Shared, camera: &str) -> Result<Arc<Camera>, Refused> {
    let id = CameraId::new(camera).ok();
    let index = id.and_then(|id| shared.cameras.find(&id));
    let found = index.and_then(|index| shared.cameras.snapshot().get(index.slot()).map(Arc::clone));
    found.ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("there is no camera {camera:?}")))
}

async fn list(State(watched): State<Watched>) -> Result<Response, Refused> {
    let shared = engine(&watched)?;
    let cameras: Vec<Value> = shared.cameras.snapshot().iter().map(|camera| object(shared, camera)).collect();
    Ok(answer(StatusCode::OK, &json!({ "cameras": cameras })))
}

async fn one(State(watched): State<Watched>, Path(camera): Path<String>) -> Result<Response, Refused> {
    let shared = engine(&watched)?;
    Ok(answer(StatusCode::OK, &object(shared, &*find(shared, &camera)?)))
}

async fn change(State(watched): State<Watched>, Path(camera): Path<String>, body: Bytes) -> Result<Response, Refused> {
    let shared = engine(&watched)?;
    let camera = find(shared, &camera)?;
    let Change { model } = serde_json::from_slice(&body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("{error}; expected {{\"model\": \"NAME\"}}")))?;
    shared.assign(&camera.plan.id, &model).map_err(|error| {
        let status = match error {
            AssignError::UnknownCamera(_) => StatusCode::NOT_FOUND,
            AssignError::UnknownModel(_) => StatusCode::BAD_REQUEST,
            AssignError::NotRunning(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refused(status, error.to_string())
    })?;
    Ok(answer(StatusCode::OK, &object(shared, &camera)))
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

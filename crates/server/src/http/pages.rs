//! The three pages of the control plane.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use omma_engine::lifecycle::Phase;

use crate::metrics;
use crate::watched::Watched;

const TEXT: &str = "text/plain; charset=utf-8";
/// What Prometheus calls its text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Pages {
    watched: Watched,
    camera_series_max: usize,
}

pub(crate) fn routes(watched: Watched, camera_series_max: usize) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(scrape))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(Pages { watched, camera_series_max })
}

fn page(status: StatusCode, content: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, content), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

async fn index() -> Response {
    page(StatusCode::OK, TEXT, "omma\n/metrics\n/healthz\n/readyz\n/v2\n/v1/models/MODEL/predict\n".to_owned())
}

async fn scrape(State(pages): State<Pages>) -> Response {
    page(StatusCode::OK, METRICS, metrics::render(pages.watched.shared().map(AsRef::as_ref), pages.camera_series_max))
}

async fn health(State(pages): State<Pages>) -> Response {
    let phase = pages.watched.phase();
    let status = if phase == Phase::Stopped { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    page(status, TEXT, format!("{}\n", phase.name()))
}

async fn readiness(State(pages): State<Pages>) -> Response {
    match pages.watched.unready() {
        None => page(StatusCode::OK, TEXT, "ready\n".to_owned()),
        Some(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
    }
}

pub(super) async fn nothing(uri: Uri) -> Response {
    let text =
        format!("nothing at {}, expected /metrics, /healthz, /readyz, or what begins with /v1/ or /v2/\n", uri.path());
    page(StatusCode::NOT_FOUND, TEXT, text)
}

pub(super) async fn method() -> Response {
    page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this is not done here in this way: see docs/ref/api.md\n".to_owned())
}

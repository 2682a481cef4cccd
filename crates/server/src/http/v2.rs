//! The Open Inference Protocol, version 2, over HTTP, with the extensions that Triton's clients use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use omma_protocol::http::Binary;
use omma_protocol::wire::{ModelConfig, ModelInferRequest, ModelMetadataResponse};
use omma_protocol::{Datatype, quoted};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{JSON, body, convert, json};
use crate::api::budget::Lease;
use crate::api::error::{ApiError, Kind};
use crate::api::exchange::Room;
use crate::api::memory::Told;
use crate::api::statistics::{Span, Statistics};
use crate::api::{Api, models};
use crate::connections::Open;

type Shared = State<Arc<Api>>;
type Answer = Result<Response, ApiError>;

pub(super) fn routes(api: Arc<Api>) -> Router {
    let mut router = Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route("/v2/systemsharedmemory/status", get(all_regions))
        .route("/v2/systemsharedmemory/region/{region}/status", get(region))
        .route("/v2/systemsharedmemory/region/{region}/register", post(register))
        .route("/v2/systemsharedmemory/unregister", post(unregister_all))
        .route("/v2/systemsharedmemory/region/{region}/unregister", post(unregister))
        .route("/v2/cudasharedmemory/status", get(no_regions))
        .route("/v2/cudasharedmemory/region/{region}/register", post(no_cuda))
        .route("/v2/cudasharedmemory/unregister", post(nothing_to_do))
        .route("/v2/cudasharedmemory/region/{region}/unregister", post(nothing_to_do));
    for of in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(of, get(metadata))
            .route(&format!("{of}/ready"), get(model_ready))
            .route(&format!("{of}/config"), get(config))
            .route(&format!("{of}/stats"), get(statistics))
            .route(&format!("{of}/infer"), post(infer));
    }
    router.with_state(api)
}

/// Of which model the path speaks.
#[derive(Deserialize)]
struct Named {
    model: String,
    #[serde(default)]
    version: String,
}

async fn server(State(api): Shared) -> Response {
    json(&json!({ "name": "omma", "version": env!("CARGO_PKG_VERSION"), "extensions": api.extensions() }))
}

fn yes_or_no(yes: bool) -> Response {
    if yes { StatusCode::OK } else { StatusCode::BAD_REQUEST }.into_response()
}

async fn live(State(api): Shared) -> Response {
    yes_or_no(api.live())
}

async fn ready(State(api): Shared) -> Response {
    yes_or_no(api.ready())
}

async fn model_ready(State(api): Shared, Path(Named { model, version }): Path<Named>) -> Answer {
    let shared = api.engine()?;
    let model = models::find(shared, &model, &version)?;
    Ok(yes_or_no(models::ready(shared, model.number)))
}

async fn metadata(State(api): Shared, Path(Named { model, version }): Path<Named>) -> Answer {
    let ModelMetadataResponse { name, versions, platform, inputs, outputs } =
        models::find(api.engine()?, &model, &version)?.metadata();
    let tensors = |tensors: Vec<omma_protocol::wire::model_metadata_response::TensorMetadata>| -> Value {
        tensors.into_iter().map(|t| json!({ "name": t.name, "datatype": t.datatype, "shape": t.shape })).collect()
    };
    Ok(json(&json!({
        "name": name, "versions": versions, "platform": platform,
        "inputs": tensors(inputs), "outputs": tensors(outputs),
    })))
}

async fn config(State(api): Shared, Path(Named { model, version }): Path<Named>) -> Answer {
    let ModelConfig { name, platform, backend, max_batch_size, input, output, instance_group, runtime, .. } =
        models::find(api.engine()?, &model, &version)?.config();
    let data_type =
        |number| Datatype::of_config(number).map_or("TYPE_INVALID", |datatype| datatype.config().as_str_name());
    let inputs: Value = input
        .iter()
        .map(
            |t| json!({ "name": t.name, "data_type": data_type(t.data_type), "format": "FORMAT_NONE", "dims": t.dims }),
        )
        .collect();
    let outputs: Value =
        output.iter().map(|t| json!({ "name": t.name, "data_type": data_type(t.data_type), "dims": t.dims })).collect();
    let groups: Value =
        instance_group.iter().map(|g| json!({ "name": g.name, "kind": "KIND_CPU", "count": g.count })).collect();
    Ok(json(&json!({
        "name": name, "platform": platform, "backend": backend, "runtime": runtime,
        "max_batch_size": max_batch_size, "input": inputs, "output": outputs, "instance_group": groups,
        "dynamic_batching": { "preferred_batch_size": [], "max_queue_delay_microseconds": 0 },
        "model_transaction_policy": { "decoupled": false },
    })))
}

async fn statistics(State(api): Shared, Path(Named { model, version }): Path<Named>) -> Answer {
    told(&api, &model, &version)
}

async fn all_statistics(State(api): Shared) -> Answer {
    told(&api, "", "")
}

fn told(api: &Api, name: &str, version: &str) -> Answer {
    let span = |span: &Span| {
        let (count, ns) = span.read();
        json!({ "count": count, "ns": ns })
    };
    let none = json!({ "count": 0, "ns": 0 });
    let models: Value = api
        .told(name, version)?
        .iter()
        .map(|told| {
            let Statistics { success, fail, queue, input, infer, output, last_ms, .. } = told.statistics;
            json!({
                "name": told.name, "version": told.version, "last_inference": last_ms.load(Ordering::Relaxed),
                "inference_count": told.inferences, "execution_count": told.executions,
                "inference_stats": {
                    "success": span(success), "fail": span(fail), "queue": span(queue),
                    "compute_input": span(input), "compute_infer": span(infer), "compute_output": span(output),
                    "cache_hit": none, "cache_miss": none,
                },
                "batch_stats": [],
            })
        })
        .collect();
    Ok(json(&json!({ "model_stats": models })))
}

async fn infer(
    State(api): Shared,
    Path(Named { model, version }): Path<Named>,
    Extension(lease): Extension<Arc<Lease>>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    // What is wrong with the request's head is said before its body is read.
    models::find(api.engine()?, &model, &version)?;
    let header_length = header_length(&headers)?;
    let whole = body::read(&api, api.limits.request_bytes_max, &headers, body).await?;
    let text_bytes = header_length.unwrap_or(whole.len());
    let request = convert(text_bytes, || omma_protocol::http::decode_request(header_length, &whole))?;
    drop(whole);
    let request = ModelInferRequest { model_name: model, model_version: version, ..request };
    let binary = Binary::of(&request)?;
    let response = api.infer(request, Room::new(lease, binary.clone())).await?;
    let as_text =
        response.outputs.iter().zip(&response.raw_output_contents).filter(|(output, _)| !binary.has(&output.name));
    let text_bytes = as_text.map(|(_, content)| content.len()).sum();
    let encoded = convert(text_bytes, || omma_protocol::http::encode_response(&response, &binary))?;
    let (length, parts) = (encoded.header_length, encoded.parts);
    let mut answer = Response::new(Body::new(body::Parts(parts.into())));
    let headers = answer.headers_mut();
    match length {
        None => headers.insert(header::CONTENT_TYPE, JSON),
        Some(length) => {
            headers.insert(omma_protocol::http::HEADER_LENGTH, HeaderValue::from(length));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(omma_protocol::http::BINARY))
        }
    };
    Ok(answer)
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let mut given = headers.get_all(omma_protocol::http::HEADER_LENGTH).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let length = first.to_str().ok().and_then(|text| text.parse().ok());
    match (length, given.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(ApiError::invalid(format!(
            "header {}: found {first:?}, expected one number of bytes",
            omma_protocol::http::HEADER_LENGTH
        ))),
    }
}

/// Of a body that is only read to be told what to do.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// A small body of JSON; an empty one is an empty object.
async fn small<T: serde::de::DeserializeOwned>(api: &Api, headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
    let whole = body::read(api, SMALL_BYTES_MAX, headers, body).await?;
    let text = if whole.is_empty() { &b"{}"[..] } else { &whole };
    serde_json::from_slice(text).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    ready: bool,
}

async fn index(State(api): Shared, headers: HeaderMap, body: Body) -> Answer {
    let Index { ready } = small(&api, &headers, body).await?;
    let listed: Value = models::list(api.engine()?)
        .into_iter()
        .filter(|listed| !ready || listed.state == models::READY)
        .map(|l| json!({ "name": l.name, "version": l.version, "state": l.state, "reason": l.reason }))
        .collect();
    Ok(json(&listed))
}

async fn load(
    State(api): Shared,
    Path(Named { model, .. }): Path<Named>,
    Extension(open): Extension<Arc<Open>>,
) -> Answer {
    let _change = open.change();
    api.load(&model).await?;
    Ok(json(&json!({})))
}

async fn unload(
    State(api): Shared,
    Path(Named { model, .. }): Path<Named>,
    Extension(open): Extension<Arc<Open>>,
) -> Answer {
    let _change = open.change();
    api.unload(&model).await?;
    Ok(json(&json!({})))
}

#[derive(Deserialize)]
struct Registration {
    key: String,
    #[serde(default)]
    offset: u64,
    byte_size: u64,
}

async fn register(State(api): Shared, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let Registration { key, offset, byte_size } = small(&api, &headers, body).await?;
    api.regions.register(Told { name, key, offset, byte_size })?;
    Ok(json(&json!({})))
}

async fn unregister(State(api): Shared, Path(name): Path<String>) -> Response {
    if !name.is_empty() {
        api.regions.unregister(&name);
    }
    json(&json!({}))
}

async fn unregister_all(State(api): Shared) -> Response {
    api.regions.unregister("");
    json(&json!({}))
}

async fn region(State(api): Shared, Path(name): Path<String>) -> Answer {
    regions(&api, &name)
}

async fn all_regions(State(api): Shared) -> Answer {
    regions(&api, "")
}

fn regions(api: &Api, name: &str) -> Answer {
    let told: Value = api
        .regions
        .status(name)?
        .into_iter()
        .map(|t| json!({ "name": t.name, "key": t.key, "offset": t.offset, "byte_size": t.byte_size }))
        .collect();
    Ok(json(&told))
}

async fn no_regions() -> Response {
    json(&json!([]))
}

async fn no_cuda(Path(name): Path<String>) -> ApiError {
    ApiError::new(Kind::Refused, format!("region {}: CUDA shared memory is not done here", quoted(&name)))
}

/// There are none, so they are all unregistered: clients ask for it before they begin.
async fn nothing_to_do() -> Response {
    json(&json!({}))
}

//! One server by HTTP/1.1: as many connections as requests on their way, kept for the next ones.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use omma_protocol::http;
use omma_protocol::wire::{ModelConfig, ModelInferRequest, ModelInferResponse, ModelMetadataResponse};

use super::failure::{Failure, Kind};
use super::options::ServerUrl;

/// As of gRPC messages.
const BODY_BYTES_MAX: usize = 1 << 30;
/// Connections that nobody uses are closed after this; Triton keeps them for longer.
const IDLE: Duration = Duration::from_secs(20);
/// A connection whose other end is gone without a word is found out by the kernel: each has one request only, so that the
/// others, and questions about health, say nothing of it.
const PROBED_AFTER: Duration = Duration::from_secs(3);
const PROBED_EVERY: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;

#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpConnector, Parts>,
    base: String,
}

/// A body that is sent piece after piece, as the pieces are.
pub(super) struct Parts(VecDeque<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

struct Reply {
    status: StatusCode,
    header_length: Option<usize>,
    body: Bytes,
}

impl Http {
    pub(super) fn new(url: &ServerUrl, connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_keepalive(Some(PROBED_AFTER));
        connector.set_keepalive_interval(Some(PROBED_EVERY));
        connector.set_keepalive_retries(Some(PROBES));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(PROBED_AFTER + PROBED_EVERY * PROBES));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self { client, base: format!("http://{}/v2", url.authority()) }
    }

    /// Path of a model; name and version are checked where they come in, and need no escapes.
    fn model(name: &str, version: &str, tail: &str) -> String {
        if version.is_empty() {
            format!("models/{name}{tail}")
        } else {
            format!("models/{name}/versions/{version}{tail}")
        }
    }

    async fn send(&self, method: Method, path: &str, body: http::Body, kind: &'static str) -> Result<Reply, Failure> {
        let broken = |error: &dyn std::error::Error| Failure::new(Kind::Connection, outline(error));
        let mut request = Request::builder().method(method).uri(format!("{}/{path}", self.base));
        if let Some(headers) = request.headers_mut() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Some(length) = body.header_length {
                headers.insert(http::HEADER_LENGTH, HeaderValue::from(length));
            }
        }
        let request =
            request.body(Parts(body.parts.into())).map_err(|error| Failure::new(Kind::Refused, error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let length = response.headers().get(http::HEADER_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broken(error.as_ref()))?.to_bytes();
        Ok(Reply { status, header_length: length, body })
    }

    /// The answer of a request that has no body, or the failure that the status says.
    async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Result<Bytes, Failure> {
        let body = http::Body { header_length: None, parts: body.into_iter().map(Bytes::from).collect() };
        let reply = self.send(method, path, body, http::JSON).await?;
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        Err(Failure::of_http(reply.status.as_u16(), &http::decode_error(&reply.body)))
    }

    pub(super) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Failure> {
        let refused = |error: omma_protocol::Invalid| Failure::new(Kind::Refused, error.to_string());
        let path = Self::model(&request.model_name, &request.model_version, "/infer");
        let body = http::encode_request(&request).map_err(refused)?;
        let kind = if body.header_length.is_some() { http::BINARY } else { http::JSON };
        let reply = self.send(Method::POST, &path, body, kind).await?;
        if !reply.status.is_success() {
            return Err(Failure::of_http(reply.status.as_u16(), &http::decode_error(&reply.body)));
        }
        http::decode_response(reply.header_length, &reply.body).map_err(refused)
    }

    pub(super) async fn ready(&self, name: &str, version: &str) -> Result<bool, Failure> {
        let path = Self::model(name, version, "/ready");
        match self.ask(Method::GET, &path, None).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == Kind::Connection => Err(failure),
            Err(_) => Ok(false),
        }
    }

    pub(super) async fn metadata(&self, name: &str, version: &str) -> Result<ModelMetadataResponse, Failure> {
        let body = self.ask(Method::GET, &Self::model(name, version, ""), None).await?;
        http::decode_metadata(&body).map_err(|error| Failure::new(Kind::Refused, error.to_string()))
    }

    /// `None`: the server does not tell.
    pub(super) async fn config(&self, name: &str, version: &str) -> Result<Option<ModelConfig>, Failure> {
        match self.ask(Method::GET, &Self::model(name, version, "/config"), None).await {
            Ok(body) => {
                http::decode_config(&body).map(Some).map_err(|error| Failure::new(Kind::Refused, error.to_string()))
            }
            Err(failure) if failure.kind == Kind::Absent => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn register(&self, name: &str, key: &str, byte_size: usize) -> Result<(), Failure> {
        let path = format!("systemsharedmemory/region/{name}/register");
        let body = format!(r#"{{"key":"{key}","offset":0,"byte_size":{byte_size}}}"#);
        self.ask(Method::POST, &path, Some(body)).await.map(|_| ())
    }

    pub(super) async fn unregister(&self, name: &str) -> Result<(), Failure> {
        let path = format!("systemsharedmemory/region/{name}/unregister");
        self.ask(Method::POST, &path, None).await.map(|_| ())
    }
}

fn outline(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

//! `ModelStreamInfer`, the one call of many requests: each is accounted for by itself.
//!
//! The general way hands on what a message says, not how long it was: fields that nobody knows are passed over, and
//! their bytes would stay taken for as long as the stream lives.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use omma_protocol::http::Binary;
use omma_protocol::parameters;
use omma_protocol::wire::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::message::PREFIX_BYTES;
use super::weigh::weigh;
use super::{ANSWER_BYTES_MAX, Answer};
use crate::api::Api;
use crate::api::budget::Lease;
use crate::api::exchange::Room;
use crate::connections::{Metered, Open};

const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// Requests of one stream that are answered at once; further ones are not read.
const REQUESTS_MAX: usize = 64;
/// A stream that says nothing for so long is ended.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(600);

pub(super) fn is_for<B>(request: &http::Request<B>) -> bool {
    request.uri().path() == PATH
}

pub(super) async fn answer(api: Arc<Api>, request: http::Request<Metered>) -> Answer {
    let request_bytes_max = api.limits.request_bytes_max;
    let call = Call { api, lease: Arc::clone(request.body().lease()), open: Arc::clone(request.body().open()) };
    call.open.becomes_stream();
    let messages = Messages { lease: Arc::clone(request.body().lease()) };
    Grpc::new(messages)
        .apply_max_message_size_config(Some(request_bytes_max), Some(ANSWER_BYTES_MAX))
        .streaming(call, request)
        .await
}

/// One request, and the bytes that it came in.
struct Asked {
    request: ModelInferRequest,
    bytes: usize,
}

/// One answer. Until it is written its request is in progress, and holds what it has taken.
struct Answered {
    response: ModelStreamInferResponse,
    _lease: Arc<Lease>,
    _open: Open,
}

/// How the messages of both directions are read and written.
#[derive(Clone)]
struct Messages {
    /// The stream's.
    lease: Arc<Lease>,
}

impl Codec for Messages {
    type Encode = Answered;
    type Decode = Asked;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Decoder for Messages {
    type Item = Asked;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Asked>, Status> {
        let mut message = message.copy_to_bytes(message.remaining());
        let values = weigh(&mut message.clone())?;
        self.lease.take(values).map_err(|error| error.status())?;
        let bytes = PREFIX_BYTES + message.len() + values;
        let request = ModelInferRequest::decode(&mut message)
            .map_err(|error| Status::invalid_argument(format!("a message is no request for inference: {error}")))?;
        Ok(Some(Asked { request, bytes }))
    }
}

impl Encoder for Messages {
    type Item = Answered;
    type Error = Status;

    fn encode(&mut self, answered: Answered, message: &mut EncodeBuf<'_>) -> Result<(), Status> {
        answered.response.encode(message).map_err(|_| Status::internal("an answer that cannot be written"))
    }
}

struct Call {
    api: Arc<Api>,
    lease: Arc<Lease>,
    open: Arc<Open>,
}

impl StreamingService<Asked> for Call {
    type Response = Answered;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Answered, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Asked>>) -> Self::Future {
        let (api, lease, open) = (Arc::clone(&self.api), Arc::clone(&self.lease), Arc::clone(&self.open));
        let requests = futures_util::stream::unfold(Some(request.into_inner()), |requests| async move {
            let mut requests = requests?;
            match tokio::time::timeout(IDLE_MAX, requests.message()).await {
                Ok(Ok(Some(request))) => Some((Ok(request), Some(requests))),
                Ok(Ok(None)) => None,
                Ok(Err(status)) => Some((Err(status), None)),
                Err(_) => Some((Err(Status::deadline_exceeded("the stream has said nothing for too long")), None)),
            }
        });
        // In the order of the requests, as clients that do not look at ids expect.
        let answers = requests
            .map(move |asked| {
                let api = Arc::clone(&api);
                let asked =
                    asked.map(|Asked { request, bytes }| (request, Arc::new(lease.part(bytes)), open.request()));
                async move {
                    let (request, lease, open) = asked?;
                    let room = Room::new(Arc::clone(&lease), Binary::ALL);
                    Ok(Answered { response: one(&api, request, room).await, _lease: lease, _open: open })
                }
            })
            .buffered(REQUESTS_MAX);
        ready(Ok(Response::new(Box::pin(answers))))
    }
}

/// What is wrong with one request is its answer, and the stream goes on.
async fn one(api: &Api, request: ModelInferRequest, room: Room) -> ModelStreamInferResponse {
    const EMPTY_FINAL: &str = "triton_enable_empty_final_response";
    const FINAL: &str = "triton_final_response";
    let id = request.id.clone();
    let tell_final = parameters::switch(&request.parameters, EMPTY_FINAL).ok().flatten().unwrap_or(false);
    match api.infer(request, room).await {
        Ok(mut response) => {
            if tell_final {
                response.parameters.insert(FINAL.to_owned(), parameters::flag(true));
            }
            ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
        }
        Err(error) => ModelStreamInferResponse {
            error_message: error.message,
            infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
        },
    }
}

//! `ModelInfer`, the one call whose messages are large: read from the pieces in which it comes, answered with tensors
//! that are sent from where they lie. The general way makes one copy of every message in each direction.
//!
//! Bounded as every call: by the budget that its pieces are taken from, the largest message, and the service's time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::BodyExt;
use omma_protocol::http::Binary;
use omma_protocol::wire::{ModelInferRequest, ModelInferResponse};
use prost::Message as _;
use tonic::Status;

use super::message::{Message, PREFIX_BYTES};
use super::{ANSWER_BYTES_MAX, Answer};
use crate::api::Api;
use crate::api::exchange::Room;
use crate::connections::Metered;

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// `raw_output_contents`, the field 6 of an answer, bytes with their length in front.
const RAW_OUTPUT_CONTENTS: u8 = 6 << 3 | 2;

pub(super) fn is_for<B>(request: &http::Request<B>) -> bool {
    request.method() == http::Method::POST && request.uri().path() == PATH
}

pub(super) async fn answer(api: &Api, request: http::Request<Metered>) -> Answer {
    let room = Room::new(Arc::clone(request.body().lease()), Binary::ALL);
    let answered = async {
        let request = read(api.limits.request_bytes_max, request.into_body()).await?;
        let response = api.infer(request, room).await.map_err(|error| error.status())?;
        write(response)
    };
    match answered.await {
        Ok(parts) => {
            let mut answer = http::Response::new(tonic::body::Body::new(Parts { parts, trailers: true }));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            answer
        }
        Err(status) => status.into_http(),
    }
}

/// The one message of a request.
async fn read(most: usize, mut body: Metered) -> Result<ModelInferRequest, Status> {
    let mut message = Message::new(most);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            message.add(data)?;
        }
    }
    message.finish(|bytes| body.lease().take(bytes).map_err(|error| error.status()))
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Status {
    match error.downcast::<Status>() {
        // What the budget says.
        Ok(status) => *status,
        Err(error) => Status::cancelled(format!("the request ended early: {error}")),
    }
}

/// The message of an answer: what describes the tensors, and the tensors themselves.
fn write(mut response: ModelInferResponse) -> Result<VecDeque<Bytes>, Status> {
    let contents = std::mem::take(&mut response.raw_output_contents);
    let field = |content: &Bytes| 1 + prost::length_delimiter_len(content.len()) + content.len();
    let length = response.encoded_len() + contents.iter().map(field).sum::<usize>();
    if length > ANSWER_BYTES_MAX {
        return Err(Status::out_of_range(format!("an answer of {length} bytes, expected at most {ANSWER_BYTES_MAX}")));
    }
    let full = |_| Status::internal("an answer that cannot be written");
    let mut between = BytesMut::with_capacity(PREFIX_BYTES + response.encoded_len() + 16 * contents.len());
    between.put_u8(0);
    between.put_u32(u32::try_from(length).map_err(|_| Status::internal("an answer that cannot be written"))?);
    response.encode(&mut between).map_err(full)?;
    let mut parts = VecDeque::with_capacity(2 * contents.len() + 1);
    for content in contents {
        between.put_u8(RAW_OUTPUT_CONTENTS);
        prost::encode_length_delimiter(content.len(), &mut between).map_err(full)?;
        parts.push_back(between.split().freeze());
        parts.push_back(content);
    }
    parts.push_back(between.freeze());
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

/// An answer's body: its pieces, then the status that all went well.
struct Parts {
    parts: VecDeque<Bytes>,
    trailers: bool,
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(part) = self.parts.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let ends = std::mem::take(&mut self.trailers).then(|| {
            let status = (header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
            Ok(Frame::trailers(HeaderMap::from_iter([status])))
        });
        Poll::Ready(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_protocol::wire::model_infer_response::InferOutputTensor;

    #[test]
    fn an_answer_reads_as_if_it_had_been_written_the_general_way() {
        for contents in [vec![], vec![Bytes::new()], vec![Bytes::from(vec![3; 70_000]), Bytes::from_static(b"x")]] {
            let outputs =
                contents.iter().map(|_| InferOutputTensor { name: "o".into(), ..InferOutputTensor::default() });
            let response = ModelInferResponse {
                model_name: "m".into(),
                outputs: outputs.collect(),
                raw_output_contents: contents,
                ..ModelInferResponse::default()
            };
            let parts = write(response.clone()).expect("written");
            let message: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            assert_eq!(message[0], 0);
            assert_eq!(message[1..5], u32::try_from(message.len() - 5).expect("small").to_be_bytes());
            assert_eq!(ModelInferResponse::decode(&message[5..]), Ok(response));
        }
    }
}

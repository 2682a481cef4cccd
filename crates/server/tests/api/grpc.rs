//! The protocol over gRPC, by the client that is made from the same description.

use bytes::BufMut;
use futures_util::StreamExt;
use omma_protocol::wire::grpc_inference_service_client::GrpcInferenceServiceClient;
use omma_protocol::wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use omma_protocol::wire::{self, InferTensorContents, ModelInferRequest};
use prost::Message;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::*;

type Client = GrpcInferenceServiceClient<Channel>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn client(address: SocketAddr) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    GrpcInferenceServiceClient::new(endpoint.connect().await.expect("listens"))
}

pub fn request(values: &[u32]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "model".to_owned(),
        id: values.len().to_string(),
        inputs: vec![InferInputTensor {
            name: "images".to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![values.len() as i64, 2, 4, 1],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![pictures(values).into()],
        ..ModelInferRequest::default()
    }
}

fn expected(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| [0, i64::from(*value)]).flat_map(i64::to_le_bytes).collect()
}

#[test]
fn every_call_of_the_service_answers() {
    let served = Served::start();
    runtime().block_on(async {
        let mut client = client(served.grpc()).await;
        assert!(client.server_live(wire::ServerLiveRequest {}).await.expect("live").into_inner().live);
        assert!(client.server_ready(wire::ServerReadyRequest {}).await.expect("ready").into_inner().ready);
        let named = |name: &str| wire::ModelReadyRequest { name: name.to_owned(), version: String::new() };
        assert!(client.model_ready(named("model")).await.expect("ready").into_inner().ready);
        assert!(!client.model_ready(named("x")).await.expect("told").into_inner().ready);
        let server = client.server_metadata(wire::ServerMetadataRequest {}).await.expect("told").into_inner();
        assert_eq!(server.name, "omma");
        let about = wire::ModelMetadataRequest { name: "model".to_owned(), version: "1".to_owned() };
        let about = client.model_metadata(about).await.expect("told").into_inner();
        assert_eq!(about.inputs[0].shape, [-1, 2, 4, 1]);
        let config = wire::ModelConfigRequest { name: "model".to_owned(), version: String::new() };
        let config = client.model_config(config).await.expect("told").into_inner().config.expect("a configuration");
        assert_eq!((config.max_batch_size, config.input[0].dims.as_slice()), (128, &[2, 4, 1][..]));
        client.model_infer(request(&[1, 2])).await.expect("answered");
        let told = client.model_statistics(wire::ModelStatisticsRequest::default()).await.expect("told").into_inner();
        let spans = told.model_stats[0].inference_stats.expect("counted");
        assert_eq!(told.model_stats[0].inference_count, 2);
        for span in [spans.success, spans.queue, spans.compute_input, spans.compute_infer, spans.compute_output] {
            let span = span.expect("counted");
            assert!(span.count == 1 && span.ns > 0, "{spans:?}");
        }
        let index = client.repository_index(wire::RepositoryIndexRequest::default()).await.expect("told").into_inner();
        assert_eq!(index.models[0].state, "READY");
        let cuda = wire::CudaSharedMemoryUnregisterRequest::default();
        client.cuda_shared_memory_unregister(cuda).await.expect("as clients need it");
        let trace = client.trace_setting(wire::TraceSettingRequest::default()).await.expect_err("not done");
        assert_eq!(trace.code(), Code::Unimplemented);
        let unload = wire::RepositoryModelUnloadRequest { model_name: "model".to_owned(), ..Default::default() };
        client.repository_model_unload(unload).await.expect("unloaded");
        assert_eq!(client.model_infer(request(&[1])).await.expect_err("unloaded").code(), Code::NotFound);
    });
    served.stop();
}

#[test]
fn requests_are_answered_with_their_own_outputs_many_at_once() {
    let served = Served::start();
    runtime().block_on(async {
        let client = client(served.grpc()).await;
        let asked = (0..200_u32).map(|number| {
            let mut client = client.clone();
            let values: Vec<u32> = (0..number % 7 + 1).map(|item| number * 10 + item).collect();
            async move {
                let response = client.model_infer(request(&values)).await.expect("answered").into_inner();
                assert_eq!(response.raw_output_contents[0], expected(&values));
                assert_eq!(response.outputs[0].shape, [values.len() as i64, 2]);
                assert_eq!(response.id, values.len().to_string());
            }
        });
        futures_util::stream::iter(asked).buffer_unordered(64).collect::<Vec<()>>().await;
    });
    served.stop();
}

#[test]
fn typed_contents_do_too() {
    let served = Served::start();
    runtime().block_on(async {
        let mut client = client(served.grpc()).await;
        let mut typed = request(&[7]);
        typed.raw_input_contents.clear();
        let uint_contents: Vec<u32> = pictures(&[7]).into_iter().map(u32::from).collect();
        typed.inputs[0].contents = Some(InferTensorContents { uint_contents, ..Default::default() });
        let response = client.model_infer(typed).await.expect("answered").into_inner();
        assert_eq!(response.raw_output_contents[0], expected(&[7]));
    });
    served.stop();
}

#[test]
fn bad_requests_get_their_code() {
    let served = Served::start();
    type Spoil = fn(&mut ModelInferRequest);
    let table: [(Spoil, Code, &str); 12] = [
        (|r| r.model_name = "other".to_owned(), Code::NotFound, "there is no model \"other\""),
        (|r| r.model_version = "9".to_owned(), Code::NotFound, "there is no version \"9\""),
        (|r| r.inputs.clear(), Code::InvalidArgument, "takes 1 input"),
        (|r| r.inputs[0].name = "x".to_owned(), Code::InvalidArgument, "has the input"),
        (|r| r.inputs[0].datatype = "FP32".to_owned(), Code::InvalidArgument, "expected UINT8"),
        (|r| r.inputs[0].shape = vec![1, 2], Code::InvalidArgument, "expected [n, 2, 4, 1]"),
        (|r| r.inputs[0].shape[0] = -1, Code::InvalidArgument, "expected [n, 2, 4, 1]"),
        (|r| r.raw_input_contents.clear(), Code::InvalidArgument, "no values"),
        (|r| r.raw_input_contents[0] = vec![0; 7].into(), Code::InvalidArgument, "7 byte(s), its shape has 8"),
        (|r| r.raw_input_contents.push(vec![0; 8].into()), Code::InvalidArgument, "more raw contents"),
        (
            |r| r.inputs[0].contents = Some(InferTensorContents::default()),
            Code::InvalidArgument,
            "more than one of raw contents",
        ),
        (
            |r| r.outputs.push(InferRequestedOutputTensor { name: "x".to_owned(), ..Default::default() }),
            Code::InvalidArgument,
            "has no output \"x\"",
        ),
    ];
    runtime().block_on(async {
        let mut client = client(served.grpc()).await;
        for (number, (spoil, code, part)) in table.into_iter().enumerate() {
            let mut request = request(&[1]);
            spoil(&mut request);
            let status = client.model_infer(request).await.expect_err("refused");
            assert_eq!(status.code(), code, "row {number}: {status}");
            assert!(status.message().contains(part), "row {number}: {status}");
        }
        let mut large = request(&[1]);
        large.raw_input_contents[0] = vec![0; 2 << 20].into();
        let status = client.model_infer(large).await.expect_err("too large");
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
        client.model_infer(request(&[1])).await.expect("and the next is answered");
    });
    served.stop();
}

#[test]
fn a_stream_answers_in_order_and_goes_on_after_a_bad_request() {
    let served = Served::start();
    runtime().block_on(async {
        let mut client = client(served.grpc()).await;
        let requests = (0..100_u32).map(|number| {
            let mut request = request(&[number]);
            request.id = number.to_string();
            if number % 10 == 3 {
                request.inputs[0].datatype = "FP32".to_owned();
            }
            request
        });
        let requests = futures_util::stream::iter(requests.collect::<Vec<_>>());
        let mut answers = client.model_stream_infer(requests).await.expect("a stream").into_inner();
        for number in 0..100 {
            let answer = answers.message().await.expect("goes on").expect("one for each request");
            let response = answer.infer_response.expect("with its id");
            assert_eq!(response.id, number.to_string());
            assert_eq!(answer.error_message.is_empty(), number % 10 != 3, "{}", answer.error_message);
            if answer.error_message.is_empty() {
                assert_eq!(response.raw_output_contents[0], expected(&[number]));
            }
        }
        assert!(answers.message().await.expect("ends well").is_none());
    });
    served.stop();
}

#[test]
fn what_a_message_would_become_is_bounded_before_it_does() {
    let mut options = options();
    options.api.requests_bytes_max = 1 << 20;
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    // Noughts of a byte each, as numbers of eight; and tensors of two bytes each.
    let contents = Some(InferTensorContents { int64_contents: vec![0; 300_000], ..InferTensorContents::default() });
    let numbers = vec![InferInputTensor { contents, ..InferInputTensor::default() }];
    let tensors = vec![InferInputTensor::default(); 100_000];
    runtime().block_on(async {
        for (inputs, expected) in [(numbers, Code::Unavailable), (tensors, Code::InvalidArgument)] {
            let large = ModelInferRequest { inputs, ..request(&[]) };
            let alone = client(served.grpc()).await.model_infer(large.clone()).await.expect_err("refused");
            assert_eq!(alone.code(), expected, "{alone}");
            let requests = futures_util::stream::iter([large]);
            let mut client = client(served.grpc()).await;
            let mut answers = client.model_stream_infer(requests).await.expect("a stream").into_inner();
            let streamed = answers.message().await.expect_err("refused");
            assert_eq!(streamed.code(), expected, "{streamed}");
            client.model_infer(request(&[1])).await.expect("the next one is served");
        }
    });
    served.stop();
}

#[test]
fn streams_without_a_request_in_progress_make_room_for_whoever_comes() {
    let options = ServerOptions { connections_max: 3, ..options() };
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    runtime().block_on(async {
        let mut open = Vec::new();
        for number in 0..5 {
            let mut client = client(served.grpc()).await;
            let requests = futures_util::stream::iter([request(&[number])]).chain(futures_util::stream::pending());
            let asked = tokio::time::timeout(Duration::from_secs(10), async {
                let mut answers = client.model_stream_infer(requests).await.expect("a stream").into_inner();
                answers.message().await.expect("answered").expect("one answer");
                answers
            });
            open.push(asked.await.unwrap_or_else(|_| panic!("client {number} waits for those who say nothing")));
        }
    });
    served.stop();
}

#[test]
fn a_change_of_a_model_may_take_longer_than_a_request() {
    let mut options = options();
    options.api.timeout = Duration::from_millis(50);
    let gate = Gate::default();
    let hold = gate.clone();
    let served = Served::with(&Model::new(move |_| Turn::Wait(hold.clone())), &options);
    served.running.push_all(0, 0..1);
    omma_testkit::engine_rig::until("the model is busy", || gate.waiting() == 1);
    runtime().block_on(async {
        let mut client = client(served.grpc()).await;
        let unload = wire::RepositoryModelUnloadRequest { model_name: "model".to_owned(), ..Default::default() };
        let mut unloaded = Box::pin(client.repository_model_unload(unload));
        // Many times what a request may take.
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut unloaded).await.is_err(), "the model is busy");
        gate.open();
        unloaded.await.expect("unloaded");
    });
    served.stop();
}

/// Sends messages as they are given.
struct AsGiven;

impl Codec for AsGiven {
    type Encode = Vec<u8>;
    type Decode = wire::ModelStreamInferResponse;
    type Encoder = Self;
    type Decoder = tonic_prost::ProstDecoder<Self::Decode>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstDecoder::default()
    }
}

impl Encoder for AsGiven {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

#[test]
fn a_stream_gives_back_all_bytes_of_each_message_those_that_nobody_knows_too() {
    const MESSAGES: usize = 1000;
    let mut options = options();
    // What 64 messages may hold at once, and what is read ahead of them, but a fraction of all.
    options.api.requests_bytes_max = 256 << 10;
    let served = Served::with(&Model::new(|_| Turn::Answer), &options);
    runtime().block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", served.grpc())).expect("an address");
        let mut client = tonic::client::Grpc::new(endpoint.connect().await.expect("listens"));
        client.ready().await.expect("ready");
        let mut message = request(&[1]).encode_to_vec();
        // A field of number 1000 with a kilobyte in it.
        message.extend_from_slice(&[0xC2, 0x3E, 0x80, 0x08]);
        message.extend_from_slice(&[7; 1024]);
        let path = "/inference.GRPCInferenceService/ModelStreamInfer".parse().expect("a path");
        let messages = futures_util::stream::iter(std::iter::repeat_n(message, MESSAGES));
        let answers = client.streaming(tonic::Request::new(messages), path, AsGiven).await.expect("a stream");
        let mut answers = answers.into_inner();
        for number in 0..MESSAGES {
            let answer = answers.message().await.unwrap_or_else(|status| panic!("message {number}: {status}"));
            assert_eq!(answer.expect("one for each message").error_message, "");
        }
    });
    served.stop();
}

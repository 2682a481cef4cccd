//! One server by gRPC: one HTTP/2 connection, made when it is first needed and again when it has ended. One that dies without
//! ending is replaced by `server.rs`.

use std::time::Duration;

use omma_protocol::wire::grpc_inference_service_client::GrpcInferenceServiceClient;
use omma_protocol::wire::{
    ModelConfig, ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, SystemSharedMemoryRegisterRequest, SystemSharedMemoryUnregisterRequest,
};
use tonic::transport::{Channel, Endpoint};

use super::failure::{Failure, Kind};
use super::options::ServerUrl;

/// Room for a batch of large pictures in floats; the library's own limit of 4 MiB would not hold three of 320x320.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// What a server may send before it has been read: a whole answer, so that it never waits for us.
const WINDOW_BYTES: u32 = 16 << 20;

#[derive(Clone)]
pub(super) struct Grpc {
    client: GrpcInferenceServiceClient<Channel>,
}

impl Grpc {
    pub(super) fn new(url: &ServerUrl, connect_timeout: Duration) -> Result<Self, String> {
        let endpoint =
            Endpoint::from_shared(format!("http://{}", url.authority())).map_err(|error| error.to_string())?;
        let channel = endpoint
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 4)
            .connect_lazy();
        let client = GrpcInferenceServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client })
    }

    pub(super) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Failure> {
        let answer = self.client.clone().model_infer(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status))
    }

    pub(super) async fn ready(&self, name: &str, version: &str) -> Result<bool, Failure> {
        let request = ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        let answer = self.client.clone().model_ready(request).await;
        answer.map(|answer| answer.into_inner().ready).map_err(|status| Failure::of_status(&status))
    }

    pub(super) async fn metadata(&self, name: &str, version: &str) -> Result<ModelMetadataResponse, Failure> {
        let request = ModelMetadataRequest { name: name.to_owned(), version: version.to_owned() };
        let answer = self.client.clone().model_metadata(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status))
    }

    /// `None`: the server does not tell.
    pub(super) async fn config(&self, name: &str, version: &str) -> Result<Option<ModelConfig>, Failure> {
        let request = ModelConfigRequest { name: name.to_owned(), version: version.to_owned() };
        match self.client.clone().model_config(request).await {
            Ok(answer) => Ok(answer.into_inner().config),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            Err(status) => Err(Failure::of_status(&status)),
        }
    }

    pub(super) async fn register(&self, name: &str, key: &str, byte_size: usize) -> Result<(), Failure> {
        let request = SystemSharedMemoryRegisterRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            offset: 0,
            byte_size: byte_size as u64,
        };
        match self.client.clone().system_shared_memory_register(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(Failure::of_status(&status)),
        }
    }

    pub(super) async fn unregister(&self, name: &str) -> Result<(), Failure> {
        // No name would mean all regions, those of others too.
        if name.is_empty() {
            return Err(Failure::new(Kind::Refused, "a region without a name"));
        }
        let request = SystemSharedMemoryUnregisterRequest { name: name.to_owned() };
        match self.client.clone().system_shared_memory_unregister(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(Failure::of_status(&status)),
        }
    }
}

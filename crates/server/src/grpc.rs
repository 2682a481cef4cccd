//! The gRPC service: each call is the API's, in the messages of the protocol.
//!
//! Inference, whose messages are large, goes a shorter way ([`bulk`]), and a stream of it one that counts each of its
//! requests ([`stream`]).
//!
//! A call that is cancelled, or whose connection closes, drops its future, and with it the request in the engine.

mod bulk;
pub mod message;
pub(crate) mod stream;
mod weigh;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use omma_protocol::wire;
use omma_protocol::wire::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use crate::api::error::{ApiError, Kind};
use crate::api::memory::Told;
use crate::api::statistics::{Span, Statistics};
use crate::api::{Api, models};
use crate::connections::{Change, Metered, Open};

/// What answers may have beyond a request's limit: a model may give more than it takes.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// The largest message of a call that carries no tensors.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// The service, for the listener.
pub(crate) fn service(api: Arc<Api>) -> Timed<GrpcInferenceServiceServer<Calls>> {
    let limits = api.limits;
    let inner = GrpcInferenceServiceServer::new(Calls { api: Arc::clone(&api) })
        .max_decoding_message_size(SMALL_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    // The request's bytes have as long as its answer.
    Timed { inner, api, most: limits.timeout * 2 }
}

/// Ends calls that take too long, the reading of their request included. A change of a model, once it is read, has its own
/// time.
#[derive(Clone)]
pub(crate) struct Timed<S> {
    inner: S,
    api: Arc<Api>,
    most: Duration,
}

type Answer = http::Response<tonic::body::Body>;

impl<S> Service<http::Request<Metered>> for Timed<S>
where
    S: Service<http::Request<Metered>, Response = Answer, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Metered>) -> Self::Future {
        let most = self.most;
        let open = Arc::clone(request.body().open());
        let mut call: Self::Future = if bulk::is_for(&request) {
            let api = Arc::clone(&self.api);
            Box::pin(async move { Ok(bulk::answer(&api, request).await) })
        } else if stream::is_for(&request) {
            let api = Arc::clone(&self.api);
            Box::pin(async move { Ok(stream::answer(api, request).await) })
        } else {
            Box::pin(self.inner.call(request))
        };
        Box::pin(async move {
            match tokio::time::timeout(most, &mut call).await {
                Ok(answer) => answer,
                Err(_) if open.changes() => call.await,
                Err(_) => {
                    let text = format!("the call was not over within {} ms", most.as_millis());
                    Ok(Status::deadline_exceeded(text).into_http())
                }
            }
        })
    }
}

pub(crate) struct Calls {
    api: Arc<Api>,
}

fn refused(error: ApiError) -> Status {
    error.status()
}

fn change_of<T>(request: &Request<T>) -> Option<Change> {
    request.extensions().get::<Arc<Open>>().map(Open::change)
}

fn not_done(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not done here"))
}

#[tonic::async_trait]
impl GrpcInferenceService for Calls {
    async fn server_live(
        &self,
        _: Request<wire::ServerLiveRequest>,
    ) -> Result<Response<wire::ServerLiveResponse>, Status> {
        Ok(Response::new(wire::ServerLiveResponse { live: self.api.live() }))
    }

    async fn server_ready(
        &self,
        _: Request<wire::ServerReadyRequest>,
    ) -> Result<Response<wire::ServerReadyResponse>, Status> {
        Ok(Response::new(wire::ServerReadyResponse { ready: self.api.ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<wire::ModelReadyRequest>,
    ) -> Result<Response<wire::ModelReadyResponse>, Status> {
        let wire::ModelReadyRequest { name, version } = request.into_inner();
        let shared = self.api.engine().map_err(refused)?;
        let ready = match models::find(shared, &name, &version) {
            Ok(model) => models::ready(shared, model.number),
            // As Triton answers: who asks whether a model is ready shall not have to know whether there is one.
            Err(error) if error.kind == Kind::NotFound => false,
            Err(error) => return Err(refused(error)),
        };
        Ok(Response::new(wire::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<wire::ServerMetadataRequest>,
    ) -> Result<Response<wire::ServerMetadataResponse>, Status> {
        Ok(Response::new(wire::ServerMetadataResponse {
            name: "omma".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: self.api.extensions().into_iter().map(str::to_owned).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<wire::ModelMetadataRequest>,
    ) -> Result<Response<wire::ModelMetadataResponse>, Status> {
        let wire::ModelMetadataRequest { name, version } = request.into_inner();
        let model = models::find(self.api.engine().map_err(refused)?, &name, &version).map_err(refused)?;
        Ok(Response::new(model.metadata()))
    }

    /// Part of the service, though its calls come by [`bulk`].
    async fn model_infer(
        &self,
        _: Request<wire::ModelInferRequest>,
    ) -> Result<Response<wire::ModelInferResponse>, Status> {
        Err(not_done("inference in another way"))
    }

    type ModelStreamInferStream = tonic::codegen::BoxStream<wire::ModelStreamInferResponse>;

    /// Part of the service too, though its calls come by [`stream`].
    async fn model_stream_infer(
        &self,
        _: Request<Streaming<wire::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Err(not_done("a stream in another way"))
    }

    async fn model_config(
        &self,
        request: Request<wire::ModelConfigRequest>,
    ) -> Result<Response<wire::ModelConfigResponse>, Status> {
        let wire::ModelConfigRequest { name, version } = request.into_inner();
        let model = models::find(self.api.engine().map_err(refused)?, &name, &version).map_err(refused)?;
        Ok(Response::new(wire::ModelConfigResponse { config: Some(model.config()) }))
    }

    async fn model_statistics(
        &self,
        request: Request<wire::ModelStatisticsRequest>,
    ) -> Result<Response<wire::ModelStatisticsResponse>, Status> {
        let wire::ModelStatisticsRequest { name, version } = request.into_inner();
        let told = self.api.told(&name, &version).map_err(refused)?;
        let model_stats = told.iter().map(|told| statistics(told)).collect();
        Ok(Response::new(wire::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<wire::RepositoryIndexRequest>,
    ) -> Result<Response<wire::RepositoryIndexResponse>, Status> {
        let only_ready = request.into_inner().ready;
        let models = models::list(self.api.engine().map_err(refused)?)
            .into_iter()
            .filter(|listed| !only_ready || listed.state == models::READY)
            .map(|listed| wire::repository_index_response::ModelIndex {
                name: listed.name,
                version: listed.version,
                state: listed.state.to_owned(),
                reason: listed.reason,
            })
            .collect();
        Ok(Response::new(wire::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<wire::RepositoryModelLoadRequest>,
    ) -> Result<Response<wire::RepositoryModelLoadResponse>, Status> {
        let _change = change_of(&request);
        self.api.load(&request.into_inner().model_name).await.map_err(refused)?;
        Ok(Response::new(wire::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<wire::RepositoryModelUnloadRequest>,
    ) -> Result<Response<wire::RepositoryModelUnloadResponse>, Status> {
        let _change = change_of(&request);
        self.api.unload(&request.into_inner().model_name).await.map_err(refused)?;
        Ok(Response::new(wire::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<wire::SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<wire::SystemSharedMemoryStatusResponse>, Status> {
        let told = self.api.regions.status(&request.into_inner().name).map_err(refused)?;
        let region = |told: Told| {
            let Told { name, key, offset, byte_size } = told;
            (name.clone(), wire::system_shared_memory_status_response::RegionStatus { name, key, offset, byte_size })
        };
        let regions = told.into_iter().map(region).collect();
        Ok(Response::new(wire::SystemSharedMemoryStatusResponse { regions }))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<wire::SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<wire::SystemSharedMemoryRegisterResponse>, Status> {
        let wire::SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request.into_inner();
        self.api.regions.register(Told { name, key, offset, byte_size }).map_err(refused)?;
        Ok(Response::new(wire::SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<wire::SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<wire::SystemSharedMemoryUnregisterResponse>, Status> {
        self.api.regions.unregister(&request.into_inner().name);
        Ok(Response::new(wire::SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<wire::CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<wire::CudaSharedMemoryStatusResponse>, Status> {
        Ok(Response::new(wire::CudaSharedMemoryStatusResponse { regions: HashMap::new() }))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<wire::CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<wire::CudaSharedMemoryRegisterResponse>, Status> {
        Err(not_done("CUDA shared memory"))
    }

    /// There are none, so they are all unregistered: clients ask for it before they begin.
    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<wire::CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<wire::CudaSharedMemoryUnregisterResponse>, Status> {
        Ok(Response::new(wire::CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(
        &self,
        _: Request<wire::TraceSettingRequest>,
    ) -> Result<Response<wire::TraceSettingResponse>, Status> {
        Err(not_done("tracing of single requests"))
    }

    async fn log_settings(
        &self,
        _: Request<wire::LogSettingsRequest>,
    ) -> Result<Response<wire::LogSettingsResponse>, Status> {
        Err(not_done("a log of requests"))
    }
}

fn statistics(told: &crate::api::Told<'_>) -> wire::ModelStatistics {
    let duration = |span: &Span| {
        let (count, ns) = span.read();
        Some(wire::StatisticDuration { count, ns })
    };
    let none = Some(wire::StatisticDuration::default());
    let Statistics { success, fail, queue, input, infer, output, last_ms, .. } = told.statistics;
    wire::ModelStatistics {
        name: told.name.clone(),
        version: told.version.clone(),
        last_inference: last_ms.load(Ordering::Relaxed),
        inference_count: told.inferences,
        execution_count: told.executions,
        inference_stats: Some(wire::InferStatistics {
            success: duration(success),
            fail: duration(fail),
            queue: duration(queue),
            compute_input: duration(input),
            compute_infer: duration(infer),
            compute_output: duration(output),
            cache_hit: none,
            cache_miss: none,
        }),
        ..wire::ModelStatistics::default()
    }
}

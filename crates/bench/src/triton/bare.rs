//! The yardstick: requests made beforehand, sent again and again by gRPC on one thread, each as soon as the one before it
//! is answered, or each at its time. Answers are only counted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_protocol::SharedMemory;
use omma_protocol::wire::grpc_inference_service_client::GrpcInferenceServiceClient;
use omma_protocol::wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use omma_protocol::wire::{ModelInferRequest, SystemSharedMemoryRegisterRequest, SystemSharedMemoryUnregisterRequest};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

pub struct Bare {
    runtime: tokio::runtime::Runtime,
    client: GrpcInferenceServiceClient<Channel>,
}

/// A request for one batch of `images`, of which the server gives back `output`.
pub fn request(model: &str, datatype: &str, shape: &[i64], content: Content<'_>) -> ModelInferRequest {
    let (parameters, raw) = match content {
        Content::Inline(bytes) => (Default::default(), vec![bytes]),
        Content::Shared(region) => {
            let (region, byte_size) = (region.name.clone(), region.len);
            (SharedMemory { region, offset: 0, byte_size }.parameters(), Vec::new())
        }
    };
    let input = InferInputTensor {
        name: "images".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        parameters,
        contents: None,
    };
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![input],
        outputs: vec![InferRequestedOutputTensor { name: "output".to_owned(), ..Default::default() }],
        raw_input_contents: raw,
        ..ModelInferRequest::default()
    }
}

/// Where a request's tensor lies.
pub enum Content<'a> {
    Inline(Bytes),
    Shared(&'a Region),
}

impl Bare {
    /// `url` is of gRPC: `grpc://HOST:PORT`.
    pub fn connect(url: &str) -> Result<Self, String> {
        let said = |error: &dyn std::error::Error| format!("{url}: {error}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| said(&error))?;
        let endpoint = Endpoint::from_shared(url.replacen("grpc", "http", 1)).map_err(|error| said(&error))?;
        let channel = runtime.block_on(endpoint.tcp_nodelay(true).connect()).map_err(|error| said(&error))?;
        Ok(Self { runtime, client: GrpcInferenceServiceClient::new(channel) })
    }

    pub fn register(&self, region: &Region) -> Result<(), String> {
        let request = SystemSharedMemoryRegisterRequest {
            name: region.name.clone(),
            key: format!("/{}", region.name),
            offset: 0,
            byte_size: region.len as u64,
        };
        let told = self.runtime.block_on(self.client.clone().system_shared_memory_register(request));
        told.map(|_| ()).map_err(|status| status.to_string())
    }

    pub fn unregister(&self, region: &Region) -> Result<(), String> {
        let request = SystemSharedMemoryUnregisterRequest { name: region.name.clone() };
        let told = self.runtime.block_on(self.client.clone().system_shared_memory_unregister(request));
        told.map(|_| ()).map_err(|status| status.to_string())
    }

    /// As many callers as there are requests, each asking again once it is answered; answers per second.
    pub fn closed_loop(&self, requests: &[ModelInferRequest], warm: Duration, span: Duration) -> Result<f64, String> {
        let from = Instant::now() + warm;
        let until = from + span;
        let caller = |request: ModelInferRequest| {
            let mut client = self.client.clone();
            async move {
                let mut answers = 0_u64;
                while Instant::now() < until {
                    client.model_infer(request.clone()).await.map_err(|status| status.to_string())?;
                    answers += u64::from((from..until).contains(&Instant::now()));
                }
                Ok::<_, String>(answers)
            }
        };
        let answers = self.runtime.block_on(async {
            let callers: JoinSet<_> = requests.iter().cloned().map(caller).collect();
            callers.join_all().await.into_iter().sum::<Result<u64, _>>()
        })?;
        Ok(answers as f64 / span.as_secs_f64())
    }

    /// One request after each of the gaps, whatever the answers; their latencies in milliseconds, sorted.
    pub fn open_loop(
        &self,
        request: &ModelInferRequest,
        gaps: impl Iterator<Item = Duration>,
    ) -> Result<Vec<f64>, String> {
        self.runtime.block_on(async {
            let mut asked = JoinSet::new();
            let mut due = Instant::now();
            for gap in gaps {
                tokio::time::sleep_until(due.into()).await;
                let (mut client, request) = (self.client.clone(), request.clone());
                asked.spawn(async move {
                    let begun = Instant::now();
                    client.model_infer(request).await.map_err(|status| status.to_string())?;
                    Ok::<_, String>(begun.elapsed().as_secs_f64() * 1e3)
                });
                due += gap;
            }
            let mut latencies = asked.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
            latencies.sort_by(f64::total_cmp);
            Ok(latencies)
        })
    }
}

/// Shared memory with the values of one batch in it; its pages stay where they are until it is dropped.
pub struct Region {
    name: String,
    len: usize,
}

impl Region {
    /// `number` tells the regions of one process apart.
    pub fn filled(number: usize, len: usize) -> Result<Self, String> {
        let region = Self { name: format!("omma-bench-{}-{number}", std::process::id()), len };
        std::fs::write(region.path(), vec![0x40; len]).map_err(|error| format!("/dev/shm: {error}"))?;
        Ok(region)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/dev/shm").join(&self.name)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

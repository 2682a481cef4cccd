//! The workloads, by name. Each adds its figures run by run and says what it is held to.

mod batcher;
mod cameras;
mod decode;
mod direct;
mod engine;
mod gpu;
mod gpu_onnx;
mod handles;
mod latency;
mod model;
mod python;
mod redis;
mod redis_latency;
mod redis_latest;
mod redis_soak;
mod reloads;
mod scaling;
mod shm;
mod soak;
mod triton_batching;
mod triton_transport;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::figures::Figures;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// The engine alone: null model, 1,000 cameras, frames by reference.
    Engine,
    /// The engine's cost per frame at 10,000 cameras against 100, and memory of 10,000 idle ones.
    Scaling,
    /// A real detector through the engine against the bare runtime, without and with decoding.
    Model,
    /// The latency that the engine adds at half load.
    Latency,
    /// The batcher on the workload of Triton's dynamic batcher, in simulated and real time.
    Batcher,
    /// A detector loaded anew 200 times at half load: memory, lost frames, latency.
    Reloads,
    /// Minutes at 80% load: growth of memory, drift of latency.
    Soak,
    /// 1080p raw RGB by handle against bytes through Redis, the transport alone.
    Shm,
    /// One Python worker whose model looks at nothing: frames per second, and what a call costs.
    Python,
    /// Direct requests: latency idle and beside cameras, throughput by perf_analyzer beside a real Triton.
    Direct,
    /// 1,000 cameras, 40 KB JPEGs through Redis and back, against a do-nothing reader and the Python pipeline's figure.
    Redis,
    /// The same at 5,000 a second: milliseconds from XADD to result.
    RedisLatency,
    /// 500 live cameras that are behind: the newest frame of each, without transferring the others, against reading all.
    RedisLatest,
    /// 1,000 cameras by frame handle through Redis, against a do-nothing reader.
    Handles,
    /// 10,000 cameras by frame handle at 50,000 a second, against 1,000 cameras.
    Cameras,
    /// 1,000 cameras through Redis with real decoding, against decoding alone.
    Decode,
    /// Half an hour of frames through Redis: growth of memory, drift of latency.
    RedisSoak,
    /// A PyTorch detector on a GPU, in Python workers and in a Triton.
    Gpu,
    /// An ONNX detector on a GPU, by ONNX Runtime's CUDA and TensorRT, against the bare session.
    GpuOnnx,
    /// omma's batcher in front of a real Triton against Triton's own dynamic batcher.
    TritonBatching,
    /// Batches in memory shared with a real Triton against a client with nothing around it.
    TritonTransport,
}

impl Name {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Scaling => "scaling",
            Self::Model => "model",
            Self::Latency => "latency",
            Self::Batcher => "batcher",
            Self::Reloads => "reloads",
            Self::Soak => "soak",
            Self::Shm => "shm",
            Self::Python => "python",
            Self::Direct => "direct",
            Self::Redis => "redis",
            Self::RedisLatency => "redis-latency",
            Self::RedisLatest => "redis-latest",
            Self::Handles => "handles",
            Self::Cameras => "cameras",
            Self::Decode => "decode",
            Self::RedisSoak => "redis-soak",
            Self::Gpu => "gpu",
            Self::GpuOnnx => "gpu-onnx",
            Self::TritonBatching => "triton-batching",
            Self::TritonTransport => "triton-transport",
        }
    }
}

pub struct Options {
    pub quick: bool,
    /// How long a soak lasts; `None`: as long as it usually does.
    pub minutes: Option<f64>,
    pub model: PathBuf,
    pub python: PathBuf,
    pub triton: Option<String>,
}

impl Options {
    /// Runs of a workload, and how long each measures.
    fn runs(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    fn span(&self) -> Duration {
        if self.quick { Duration::from_secs(2) } else { Duration::from_secs(5) }
    }
}

/// # Errors
/// The workload could not run: what is missing, and how to get it.
pub fn run(name: Name, options: &Options) -> Result<Figures, String> {
    match name {
        Name::Engine => engine::run(options),
        Name::Scaling => scaling::run(options),
        Name::Model => model::run(options),
        Name::Latency => latency::run(options),
        Name::Batcher => batcher::run(options),
        Name::Reloads => reloads::run(options),
        Name::Soak => soak::run(options),
        Name::Shm => shm::run(options),
        Name::Python => python::run(options),
        Name::Direct => direct::run(options),
        Name::Redis => redis::run(options),
        Name::RedisLatency => redis_latency::run(options),
        Name::RedisLatest => redis_latest::run(options),
        Name::Handles => handles::run(options),
        Name::Cameras => cameras::run(options),
        Name::Decode => decode::run(options),
        Name::RedisSoak => redis_soak::run(options),
        Name::Gpu => gpu::run(options),
        Name::GpuOnnx => gpu_onnx::run(options),
        Name::TritonBatching => triton_batching::run(options),
        Name::TritonTransport => triton_transport::run(options),
    }
}

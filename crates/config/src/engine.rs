//! The sections of the process as a whole: `[engine]`, `[consumer_manager]`, `[inference_worker]`.

use std::net::SocketAddr;
use std::time::Duration;

use omma_engine::plan::EnginePlan;

use crate::read::Table;

/// What models use unless they say otherwise.
pub(crate) struct ModelDefaults {
    pub waiting_frames_max: usize,
    pub in_flight_frames_max: usize,
    pub feeder_threads_max: usize,
    pub sync_threads_max: usize,
    pub batch_size: usize,
    pub batch_timeout_ms: f64,
}

/// Inference on request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectConfig {
    /// Where it is served by gRPC.
    pub grpc: Option<SocketAddr>,
    pub threads: usize,
    pub connections_max: usize,
    pub timeout: Duration,
    pub request_bytes_max: usize,
    pub requests_bytes_max: usize,
    pub client_shared_memory: bool,
}

pub(crate) struct Engine {
    pub plan: EnginePlan,
    pub http: Option<SocketAddr>,
    pub direct: DirectConfig,
    pub defaults: ModelDefaults,
}

pub(crate) fn read(root: &Table<'_>) -> Engine {
    let engine = root.table("engine");
    // One reader keeps up with hundreds of thousands of small frames per second; more only help where cores abound.
    let readers = engine.count_or("readers", (engine.doc.outside.cores() / 4).clamp(1, 8));
    let poll_pause_max = engine.millis("poll_pause_ms_max");
    let metrics_interval = engine.millis("metrics_interval_ms");
    let drain_timeout = engine.millis("drain_timeout_ms");
    let payload_bytes_max = engine.count("payload_bytes_max");
    let waiting_bytes_max = engine.count("waiting_bytes_max");
    let error_results = engine.flag("error_results");
    let http = engine.text("http").and_then(|address| address.parse().ok());

    let grpc = engine.text("grpc").and_then(|address| address.parse().ok());
    let table = root.table("direct");
    let direct = DirectConfig {
        grpc,
        threads: table.count_or("threads", (engine.doc.outside.cores() / 2).clamp(2, 8)),
        connections_max: table.count("connections_max"),
        timeout: table.millis("timeout_ms"),
        request_bytes_max: table.count("request_bytes_max"),
        requests_bytes_max: table.count("requests_bytes_max"),
        client_shared_memory: table.flag("client_shared_memory"),
    };

    let consumers = root.table("consumer_manager");
    let workers = root.table("inference_worker");
    let poll_pause_min = Duration::from_secs_f64(workers.number("feeder_poll_timeout"));
    if poll_pause_min > poll_pause_max {
        let found = format!("{} s", poll_pause_min.as_secs_f64());
        let expected = format!("at most engine.poll_pause_ms_max, which is {} ms", poll_pause_max.as_millis());
        workers.problem("feeder_poll_timeout", found, expected);
    }
    let plan = EnginePlan {
        shards: consumers.small("max_consumer_shards"),
        readers,
        read_frames_max: consumers.count("batch_read_count"),
        poll_pause_min,
        poll_pause_max,
        metrics_aggregation_frames: consumers.small("metrics_aggregation_count"),
        metrics_interval,
        drain_timeout,
        payload_bytes_max,
        waiting_bytes_max,
        error_results,
    };
    let defaults = ModelDefaults {
        waiting_frames_max: consumers.count("async_buffer_size"),
        in_flight_frames_max: workers.count("async_buffer_size"),
        feeder_threads_max: consumers.count("feeder_executor_threads"),
        sync_threads_max: workers.count("sync_mode_thread_pool_size"),
        batch_size: workers.count("batch_size"),
        batch_timeout_ms: workers.number("batch_timeout_ms"),
    };
    Engine { plan, http, direct, defaults }
}

pub(crate) fn fits_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
}

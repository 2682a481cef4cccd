//! What the configuration says of Redis, as the adapters take it.

use std::sync::Arc;

use omma_adapters::redis::wire::Wire;
use omma_adapters::redis::{Password, RedisOptions, StreamNames, TlsFiles};
use omma_adapters::sink::encode::ModelLabels;
use omma_adapters::sink::redis::{Form, RedisSink, RedisSinkOptions, ResultNames};
use omma_adapters::source::redis::{Backlog, CameraInboxEnd, RedisSource, RedisSourceOptions};
use omma_config::{Config, FrameWire, RedisConfig, RedisStreams, ResultForm, SinkKind, SourceConfig};
use omma_engine::cameras::Cameras;
use omma_engine::source::SourceError;
use omma_frame::{CameraId, CameraIndex};

use super::sinks::Ways;

/// How to reach the server.
pub(super) fn options(config: &RedisConfig) -> RedisOptions {
    RedisOptions {
        username: config.username.clone(),
        password: config.password.as_ref().map(|secret| Password::new(secret.reveal())),
        tls: TlsFiles { ca: config.tls_ca_file.clone(), client: config.tls_client.clone() },
        cluster: config.cluster,
        connect_timeout: config.connect_timeout,
        reply_timeout: config.reply_timeout,
        ..RedisOptions::new(&config.url)
    }
}

/// One reader's part of a source: the cameras of its shards, named or found.
pub(super) struct Part<'a> {
    pub reader: usize,
    pub own: &'a [CameraIndex],
    pub inbox: CameraInboxEnd,
    pub backlog: Arc<Backlog>,
}

/// Opens one reader's part of a source.
///
/// # Errors
/// What is wrong with the options; whether the server is there shows later.
pub(super) fn source(
    config: &Config,
    source: &SourceConfig,
    streams: &RedisStreams,
    cameras: &Arc<Cameras>,
    ways: &Arc<Ways>,
    part: Part<'_>,
) -> Result<RedisSource, SourceError> {
    let refused = |message: &str| SourceError {
        source: source.name.clone(),
        camera: None,
        message: message.to_owned(),
        retry_after: None,
    };
    let names = StreamNames::parse(&streams.stream).ok_or_else(|| refused("stream: expected one {camera}"))?;
    // Found cameras get ids of their own.
    let template = CameraId::new("found").map_err(|error| refused(&error.to_string()))?;
    let engine = &config.engine;
    let usual = RedisSourceOptions::new(
        &source.name,
        options(&streams.redis),
        Arc::clone(cameras),
        source.camera_plan(template),
    );
    let not_cameras = config.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Redis { stream, .. } => StreamNames::parse(&stream.replace("{shard}", "{camera}")),
        SinkKind::Jsonl { .. } | SinkKind::Null => None,
    });
    let options = RedisSourceOptions {
        not_cameras: not_cameras.filter(|results| results.within(&names)).collect(),
        names,
        wire: match streams.wire {
            FrameWire::Own => Wire::Own,
            FrameWire::Compat => Wire::Compat,
        },
        group: streams.group.clone(),
        from_start: streams.from_oldest,
        discover_interval: streams.discover,
        plan_of: {
            let (source, ways) = (source.clone(), Arc::clone(ways));
            Arc::new(move |id| ways.lead(source.camera_plan(id)))
        },
        inbox: Some(part.inbox),
        backlog: part.backlog,
        reader: part.reader,
        readers: engine.readers.max(1),
        read_frames_max: engine.read_frames_max,
        reply_bytes: streams.reply_bytes_max,
        payload_bytes_max: engine.payload_bytes_max,
        poll_min: engine.poll_pause_min,
        poll_max: engine.poll_pause_max,
        lease: streams.lease,
        claim_idle: streams.claim_idle,
        deliveries_max: streams.deliveries_max,
        dead_letter: streams.dead_letter.clone(),
        ..usual
    };
    RedisSource::open(options, part.own)
}

/// # Errors
/// What is wrong with the options.
pub(super) fn sink_options(kind: &SinkKind) -> Result<RedisSinkOptions, String> {
    let SinkKind::Redis { redis, stream, form, entries_max, result_bytes_max } = kind else {
        return Err("no sink of type redis".to_owned());
    };
    let names = ResultNames::parse(stream).ok_or("stream: expected one {camera} or one {shard}")?;
    let form = match form {
        ResultForm::Json => Form::Json,
        ResultForm::MessagePack => Form::MessagePack,
        ResultForm::Compat => Form::Compat,
    };
    Ok(RedisSinkOptions {
        form,
        entries_max: *entries_max,
        result_bytes_max: *result_bytes_max,
        ..RedisSinkOptions::new(options(redis), names)
    })
}

/// # Errors
/// What is wrong with the options; whether the server is there shows later.
pub(super) fn sink(kind: &SinkKind, labels: &[ModelLabels]) -> Result<RedisSink, String> {
    RedisSink::new(sink_options(kind)?, labels.to_vec()).map_err(|error| error.message)
}

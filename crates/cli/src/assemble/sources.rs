//! Sources: each camera goes to the reader that owns its shard, so a configured source becomes one source for each
//! reader that owns any of its cameras.

use std::collections::BTreeMap;
use std::sync::Arc;

use omma_adapters::source::images::{ImagesOptions, ImagesSource};
use omma_adapters::source::mjpeg_file::{MjpegFileOptions, MjpegFileSource};
use omma_adapters::source::mjpeg_http::{MjpegHttpCamera, MjpegHttpOptions, MjpegHttpSource};
#[cfg(feature = "redis")]
use omma_adapters::source::redis::{Backlog, CameraInbox};
use omma_adapters::source::{self, AtEnd, Keep};
use omma_config::{Config, Pace, RedisStreams, SourceConfig, SourceKind};
use omma_engine::cameras::{Cameras, Delivery};
use omma_engine::clock::Clock;
use omma_engine::pipeline::SourcePart;
use omma_engine::source::{Source, SourceError};
use omma_frame::CameraIndex;

use super::AddCamera;
use super::sinks::Ways;
use crate::cast::{Cast, Showing};
use crate::exit::Failure;

/// A camera's index in the engine, its position in its source, and the reader that owns it.
pub struct Place {
    pub index: CameraIndex,
    pub position: usize,
    pub reader: usize,
}

/// By reader. `indexes` are those of all cameras, in the configuration's order. Sources that take further cameras while
/// they run are added to `growing`.
pub(super) fn open(
    config: &Config,
    cameras: &Arc<Cameras>,
    indexes: &[CameraIndex],
    ways: &Arc<Ways>,
    clock: &Arc<dyn Clock>,
    cores: usize,
    growing: &mut BTreeMap<String, AddCamera>,
) -> Result<Vec<Vec<SourcePart>>, Failure> {
    let mut readers: Vec<Vec<SourcePart>> = Vec::new();
    readers.resize_with(config.engine.readers.max(1), Vec::new);
    let table = cameras.snapshot();
    let count = readers.len();
    let reader_of = |index: CameraIndex| table.get(index.slot()).map_or(0, |camera| camera.shard as usize % count);
    let mut rest = indexes;
    for (number, source) in config.sources.iter().enumerate() {
        let (own, others) = rest.split_at(source.cameras.len().min(rest.len()));
        rest = others;
        let places: Vec<Place> = own
            .iter()
            .enumerate()
            .map(|(position, &index)| Place { index, position, reader: reader_of(index) })
            .collect();
        if let SourceKind::Redis(streams) = &source.kind {
            // Each reader has a part, even without cameras: any may be found.
            let mut own: Vec<Vec<CameraIndex>> = vec![Vec::new(); count];
            places.iter().for_each(|place| own[place.reader].push(place.index));
            let (add, parts) = open_redis(config, source, streams, cameras, ways, own)?;
            growing.insert(source.name.clone(), add);
            readers.iter_mut().zip(parts).for_each(|(reader, part)| reader.push(part));
            continue;
        }
        for (part, reader) in open_one(config, number, &places, clock, cores)?.into_iter().zip(readers_of(&places)) {
            readers[reader].push(part);
        }
    }
    Ok(readers)
}

/// One part for each reader that owns any of the cameras, in the order of the readers.
pub(super) fn open_one(
    config: &Config,
    number: usize,
    places: &[Place],
    clock: &Arc<dyn Clock>,
    cores: usize,
) -> Result<Vec<SourcePart>, Failure> {
    let source = &config.sources[number];
    let cast = match source.kind {
        SourceKind::Synthetic { seed, size, .. } => {
            Some(Cast::new(seed, places.iter().map(|place| place.position + 1).max().unwrap_or(0), size, cores))
        }
        _ => None,
    };
    let readers = readers_of(places);
    // The drawing threads of all synthetic sources share the cores with everything else.
    let threads = cores.div_ceil(readers.len().max(1));
    let opening = Opening { config: source, cast, bytes_max: config.engine.payload_bytes_max, threads, clock };
    readers
        .into_iter()
        .map(|reader| {
            let own: Vec<&Place> = places.iter().filter(|place| place.reader == reader).collect();
            let opened = opening.open(&own).map_err(|error| Failure::usage(refused(source, &error)))?;
            Ok(SourcePart { source: opened, cameras: own.iter().map(|place| place.index).collect() })
        })
        .collect()
}

/// One part for each reader, and how it gets further cameras. `own`: by reader its cameras.
#[cfg(feature = "redis")]
fn open_redis(
    config: &Config,
    source: &SourceConfig,
    streams: &RedisStreams,
    cameras: &Arc<Cameras>,
    ways: &Arc<Ways>,
    own: Vec<Vec<CameraIndex>>,
) -> Result<(AddCamera, Vec<SourcePart>), Failure> {
    let (inbox, ends) = CameraInbox::new(config.engine.shards, own.len());
    let backlog = Arc::new(Backlog::new(own.len(), std::time::Instant::now()));
    let parts = own.into_iter().zip(ends).enumerate().map(|(reader, (own, inbox))| {
        let part = super::redis::Part { reader, own: &own, inbox, backlog: Arc::clone(&backlog) };
        let opened = super::redis::source(config, source, streams, cameras, ways, part)
            .map_err(|error| Failure::usage(refused(source, &error)))?;
        Ok(SourcePart { source: Box::new(opened), cameras: own })
    });
    let parts = parts.collect::<Result<_, Failure>>()?;
    let add = move |camera| inbox.add(camera).is_ok();
    Ok((Box::new(add), parts))
}

#[cfg(not(feature = "redis"))]
fn open_redis(
    _: &Config,
    source: &SourceConfig,
    _: &RedisStreams,
    _: &Arc<Cameras>,
    _: &Arc<Ways>,
    _: Vec<Vec<CameraIndex>>,
) -> Result<(AddCamera, Vec<SourcePart>), Failure> {
    let message = "this build knows no Redis, expected one with the feature `redis`";
    Err(Failure::usage(format!("source {}: {message}", source.name)))
}

fn readers_of(places: &[Place]) -> Vec<usize> {
    let mut readers: Vec<usize> = places.iter().map(|place| place.reader).collect();
    readers.sort_unstable();
    readers.dedup();
    readers
}

fn refused(source: &SourceConfig, error: &SourceError) -> String {
    format!("source {}: {}: {}", source.name, error.source, error.message)
}

struct Opening<'a> {
    config: &'a SourceConfig,
    cast: Option<Arc<Cast>>,
    bytes_max: usize,
    threads: usize,
    clock: &'a Arc<dyn Clock>,
}

impl Opening<'_> {
    fn open(&self, places: &[&Place]) -> Result<Box<dyn Source>, SourceError> {
        let clock = Arc::clone(self.clock);
        let keep = match self.config.delivery {
            Delivery::Latest { .. } => Keep::Newest,
            Delivery::Every => Keep::All,
        };
        // Sources of files have exactly one camera.
        let camera = places.first().map_or(CameraIndex(0), |place| place.index);
        let bytes_max = self.bytes_max;
        Ok(match &self.config.kind {
            SourceKind::Synthetic { pace: written, frames, quality, .. } => {
                let showing = Showing {
                    cameras: places.iter().map(|place| (place.index, place.position)).collect(),
                    keep,
                    pace: pace(*written),
                    frames: *frames,
                    quality: *quality,
                    threads: self.threads,
                };
                let Some(cast) = &self.cast else { unreachable!("a synthetic source has its scenes") };
                Box::new(cast.show(showing, clock)?)
            }
            SourceKind::Images { path, pace: written, repeat } => {
                let path = path.to_string_lossy().into_owned();
                let options = ImagesOptions { camera, path, pace: pace(*written), at_end: at_end(*repeat), bytes_max };
                Box::new(ImagesSource::open(options, clock)?)
            }
            SourceKind::MjpegFile { path, pace: written, repeat } => {
                let (path, at_end) = (path.clone(), at_end(*repeat));
                let options = MjpegFileOptions { camera, path, pace: pace(*written), at_end, bytes_max };
                Box::new(MjpegFileSource::open(options, clock)?)
            }
            SourceKind::MjpegHttp { streams, connect_timeout, read_timeout, reconnect_max } => {
                let cameras = places.iter().map(|place| {
                    let stream = &streams[place.position];
                    let login = stream.login.as_ref().map(|login| (login.username.as_str(), login.password.reveal()));
                    let url = with_login(&stream.url, login);
                    MjpegHttpCamera { camera: place.index, url, keep }
                });
                let usual = MjpegHttpOptions::default();
                let options = MjpegHttpOptions {
                    cameras: cameras.collect(),
                    connect_timeout: *connect_timeout,
                    picture_timeout: *read_timeout,
                    backoff_min: usual.backoff_min.min(*reconnect_max),
                    backoff_max: *reconnect_max,
                    bytes_max,
                    ..usual
                };
                Box::new(MjpegHttpSource::open(options, clock)?)
            }
            SourceKind::Redis(_) => {
                let message = "frames of Redis are read by a whole engine only: they would have to be acknowledged";
                let source = self.config.name.clone();
                return Err(SourceError { source, camera: None, message: message.to_owned(), retry_after: None });
            }
        })
    }
}

fn pace(written: Pace) -> source::Pace {
    match written {
        Pace::PerSecond(rate) => source::Pace::PerSecond(rate),
        Pace::Unlimited => source::Pace::Unlimited,
    }
}

fn at_end(repeat: bool) -> AtEnd {
    if repeat { AtEnd::Repeat } else { AtEnd::Stop }
}

/// Puts a user and a password into a URL, as the source takes them: whatever could end a part of the URL is
/// percent-encoded.
fn with_login(url: &str, login: Option<(&str, &str)>) -> String {
    let (Some((user, password)), Some((scheme, rest))) = (login, url.split_once("://")) else { return url.to_owned() };
    let encoded = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
    };
    format!("{scheme}://{}:{}@{rest}", encoded(user), encoded(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_cannot_change_what_a_url_points_to() {
        for (login, expected) in [
            (None, "http://cam:8080/video"),
            (Some(("root", "secret")), "http://root:secret@cam:8080/video"),
            (Some(("a b", "p@ss:w/rd?#%")), "http://a%20b:p%40ss%3Aw%2Frd%3F%23%25@cam:8080/video"),
            (Some(("\u{e9}", "")), "http://%C3%A9:@cam:8080/video"),
        ] {
            assert_eq!(with_login("http://cam:8080/video", login), expected);
        }
    }
}

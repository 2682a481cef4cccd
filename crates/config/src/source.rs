//! `[[sources]]`: where frames come from, which cameras they have, and which way their frames go.

mod redis;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use omma_engine::cameras::{CameraPlan, Delivery};
use omma_frame::{CameraId, Size};

pub use self::redis::{FrameWire, RedisStreams};
pub(crate) use self::redis::{StartWord, fits_stream};
use crate::files::{existing_file, existing_files, password};
use crate::names::Names;
use crate::problem::quoted;
use crate::read::Table;
use crate::schema::{Word, meant};
use crate::secret::Secret;
use crate::sink::SinkConfig;

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    pub name: String,
    pub kind: SourceKind,
    /// Its cameras, in order; empty only if it finds them while it runs.
    pub cameras: Vec<CameraId>,
    pub delivery: Delivery,
    pub waiting_frames_max: u32,
    pub in_flight_frames_max: u32,
    /// Place among the models.
    pub model: usize,
    /// Place among the routes.
    pub route: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// Drawn scenes, JPEG-encoded; each camera ends after `frames` if that is some.
    Synthetic { pace: Pace, frames: Option<u64>, seed: u64, size: Size, quality: u8 },
    /// A file, a folder or a pattern of JPEG and PNG files; one camera.
    Images { path: PathBuf, pace: Pace, repeat: bool },
    /// One file of joined JPEGs; one camera.
    MjpegFile { path: PathBuf, pace: Pace, repeat: bool },
    /// One stream for each camera, in the order of the cameras.
    MjpegHttp { streams: Vec<Stream>, connect_timeout: Duration, read_timeout: Duration, reconnect_max: Duration },
    /// Streams of a Redis server or cluster.
    Redis(Box<RedisStreams>),
}

/// How fast frames are drawn or replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Frames per second; above zero.
    PerSecond(f64),
    /// As fast as they are taken.
    Unlimited,
}

/// A camera's stream over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub url: String,
    pub login: Option<Login>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}

impl SourceConfig {
    /// The engine's plans of its cameras.
    pub fn camera_plans(&self) -> impl Iterator<Item = CameraPlan> {
        self.cameras.iter().map(|id| self.camera_plan(id.clone()))
    }

    /// The engine's plan of one of its cameras, be it named or found.
    #[must_use]
    pub fn camera_plan(&self, id: CameraId) -> CameraPlan {
        CameraPlan {
            id,
            delivery: self.delivery,
            model: self.model,
            route: self.route,
            entry_ids: matches!(self.kind, SourceKind::Redis(_)),
            waiting_frames_max: self.waiting_frames_max,
            in_flight_frames_max: self.in_flight_frames_max,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum SourceWord {
    Synthetic,
    Images,
    MjpegFile,
    MjpegHttp,
    Redis,
}

impl Word for SourceWord {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("synthetic", Self::Synthetic),
        ("images", Self::Images),
        ("mjpeg_file", Self::MjpegFile),
        ("mjpeg_http", Self::MjpegHttp),
        ("redis", Self::Redis),
    ];
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum DeliveryWord {
    Latest,
    Every,
}

impl Word for DeliveryWord {
    const WORDS: &'static [(&'static str, Self)] = &[("latest", Self::Latest), ("every", Self::Every)];
}

/// Each drawn camera keeps its backdrop, about a picture: a number too many should not end in the system's killing this
/// process.
const SCENE_BYTES_MAX: u64 = 16 << 30;

/// All sources, and the sets of sinks that their results go to.
pub(crate) fn read(
    root: &Table<'_>,
    models: &Names,
    sinks: &Names,
    sinks_read: &[SinkConfig],
) -> (Vec<SourceConfig>, Vec<Vec<usize>>) {
    let names = Names::new("sources");
    let mut reader = Reader { models, sinks, sinks_read, names, owners: HashMap::new(), routes: Vec::new() };
    let sources = root.tables("sources").enumerate().map(|(place, table)| reader.source(&table, place)).collect();
    (sources, reader.routes)
}

/// What the sources must agree on.
struct Reader<'a> {
    models: &'a Names,
    sinks: &'a Names,
    sinks_read: &'a [SinkConfig],
    names: Names,
    /// Which table has a camera.
    owners: HashMap<CameraId, String>,
    routes: Vec<Vec<usize>>,
}

impl Reader<'_> {
    fn source(&mut self, table: &Table<'_>, place: usize) -> SourceConfig {
        let word = table.word_if::<SourceWord>("type").unwrap_or(SourceWord::Synthetic);
        let name = table.text_or("name", format!("{}-{place}", word.word()));
        let name = self.names.add(table, Some(name));
        let (kind, cameras) = match word {
            SourceWord::Synthetic => self.synthetic(table),
            SourceWord::Images => {
                let path = existing_files(table, "path").unwrap_or_default();
                (
                    SourceKind::Images { path, pace: pace(table, Pace::Unlimited), repeat: table.flag("loop") },
                    self.one_camera(table, &name),
                )
            }
            SourceWord::MjpegFile => {
                let path = existing_file(table, "path", "a file of joined JPEGs").unwrap_or_default();
                (
                    SourceKind::MjpegFile { path, pace: pace(table, Pace::Unlimited), repeat: table.flag("loop") },
                    self.one_camera(table, &name),
                )
            }
            SourceWord::MjpegHttp => self.mjpeg_http(table),
            SourceWord::Redis => self.redis(table),
        };
        let (live, unlimited) = match &kind {
            SourceKind::Synthetic { pace, .. } => (*pace != Pace::Unlimited, *pace == Pace::Unlimited),
            SourceKind::Images { pace, .. } | SourceKind::MjpegFile { pace, .. } => (false, *pace == Pace::Unlimited),
            SourceKind::MjpegHttp { .. } => (true, false),
            SourceKind::Redis(_) => (false, false),
        };
        let delivery = table.word_or("delivery", if live { DeliveryWord::Latest } else { DeliveryWord::Every });
        if unlimited && delivery == DeliveryWord::Latest {
            let expected = "\"every\", or a number of frames per second: without a pace no frame is newer than another";
            table.problem("delivery", "\"latest\" with fps = \"max\"", expected);
        }
        let (delivery, waiting) = match delivery {
            DeliveryWord::Latest => (Delivery::Latest { age_max: table.millis("max_age_ms") }, 2),
            DeliveryWord::Every => {
                if table.has("max_age_ms") {
                    table.problem(
                        "max_age_ms",
                        "max_age_ms with delivery = \"every\"",
                        "it only with delivery = \"latest\"",
                    );
                }
                (Delivery::Every, 64)
            }
        };
        let waiting_frames_max = table.small_or("max_waiting_frames", waiting);
        let in_flight_frames_max = table.small_or("in_flight_frames_max", waiting_frames_max.saturating_mul(4));
        if in_flight_frames_max < waiting_frames_max {
            let expected = format!("at least max_waiting_frames, which is {waiting_frames_max}");
            table.problem("in_flight_frames_max", in_flight_frames_max.to_string(), expected);
        }
        SourceConfig {
            name,
            kind,
            cameras,
            delivery,
            waiting_frames_max,
            in_flight_frames_max,
            model: self.model(table),
            route: self.route(table),
        }
    }

    fn synthetic(&mut self, table: &Table<'_>) -> (SourceKind, Vec<CameraId>) {
        let size = Size { width: table.small("width"), height: table.small("height") };
        let cameras = table.count("cameras");
        let bytes = cameras as u64 * u64::from(size.width) * u64::from(size.height) * 3;
        if bytes > SCENE_BYTES_MAX {
            let found =
                format!("{cameras} cameras of {}x{}, whose scenes take {} GiB", size.width, size.height, bytes >> 30);
            table.problem("cameras", found, format!("at most {} GiB in all", SCENE_BYTES_MAX >> 30));
        }
        let kind = SourceKind::Synthetic {
            pace: pace(table, Pace::PerSecond(10.0)),
            frames: table.integer("frames"),
            seed: table.integer("seed").unwrap_or_default(),
            size,
            quality: table.small("quality").try_into().unwrap_or(100),
        };
        let pattern = table.text("id").as_deref().and_then(Pattern::parse).unwrap_or_default();
        let ids = (0..cameras).filter_map(|number| CameraId::new(&pattern.id(number)).ok());
        let cameras: Vec<CameraId> = ids.collect();
        self.own(table, "id", &cameras);
        (kind, cameras)
    }

    fn one_camera(&mut self, table: &Table<'_>, source: &str) -> Vec<CameraId> {
        let cameras: Vec<CameraId> = CameraId::new(&table.text_or("camera", source.to_owned())).into_iter().collect();
        self.own(table, "camera", &cameras);
        cameras
    }

    fn mjpeg_http(&mut self, table: &Table<'_>) -> (SourceKind, Vec<CameraId>) {
        let (username, shared) = (table.text("username"), password(table));
        let (mut cameras, mut streams) = (Vec::new(), Vec::new());
        for entry in table.tables("urls") {
            let camera = entry.text("camera").and_then(|id| CameraId::new(&id).ok());
            let (url, own) = (entry.text("url"), password(&entry));
            let own_name = entry.text("username");
            let passwords = ["password_env", "password_file"];
            let has_password = |table: &Table<'_>| passwords.iter().any(|name| table.has(name));
            // Reported where a part of the login stands; of the source's own once, however many cameras it has.
            let place = if entry.has("username") || has_password(&entry) { &entry } else { table };
            match (own_name.is_some() || username.is_some(), has_password(&entry) || has_password(table)) {
                (true, false) => {
                    place.problem("username", "a username without a password", "password_env or password_file too")
                }
                (false, true) => place.problem("username", "a password without a username", "username too"),
                _ => {}
            }
            let login = own_name.or_else(|| username.clone()).zip(own.or_else(|| shared.clone()));
            let login = login.map(|(username, password)| Login { username, password });
            if let (Some(camera), Some(url)) = (camera, url) {
                self.own(&entry, "camera", std::slice::from_ref(&camera));
                cameras.push(camera);
                streams.push(Stream { url, login });
            }
        }
        let kind = SourceKind::MjpegHttp {
            streams,
            connect_timeout: table.millis("connect_timeout_ms"),
            read_timeout: table.millis("read_timeout_ms"),
            reconnect_max: table.millis("reconnect_ms_max"),
        };
        (kind, cameras)
    }

    /// Notes whose cameras these are; reports the first that has an owner already.
    fn own(&mut self, table: &Table<'_>, key: &str, cameras: &[CameraId]) {
        let mut reported = false;
        for camera in cameras {
            match self.owners.get(camera) {
                Some(first) if !reported => {
                    let found = format!("camera {}, which {first} has already", quoted(camera.as_str()));
                    table.problem(key, found, "each camera once");
                    reported = true;
                }
                Some(_) => {}
                None => {
                    self.owners.insert(camera.clone(), table.place().to_owned());
                }
            }
        }
    }

    fn model(&self, table: &Table<'_>) -> usize {
        match table.text("model") {
            Some(name) => self.models.find(&name).unwrap_or_else(|known| {
                if !known.is_empty() {
                    table.problem_with("model", quoted(&name), one_of("a model", &known), meant(&name, &known));
                }
                0
            }),
            None => {
                match self.models.all() {
                    [only] => {
                        table.text_or("model", only.clone());
                    }
                    all if !all.is_empty() && !table.has("model") => {
                        let found = format!("nothing, but there are {} models", all.len());
                        table.problem("model", found, "the name of one of them");
                    }
                    _ => {}
                }
                0
            }
        }
    }

    /// The place of the source's set of sinks, which many sources may share.
    fn route(&mut self, table: &Table<'_>) -> usize {
        let mut set: Vec<usize> = match table.texts("sinks") {
            Some(names) => names.iter().enumerate().filter_map(|(index, name)| self.sink(table, index, name)).collect(),
            None => {
                table.texts_or("sinks", self.sinks.all());
                (0..self.sinks.all().len()).collect()
            }
        };
        set.sort_unstable();
        let written = set.len();
        set.dedup();
        if set.len() < written {
            table.problem("sinks", "a sink twice", "each once");
        }
        self.routes.iter().position(|route| *route == set).unwrap_or_else(|| {
            self.routes.push(set);
            self.routes.len() - 1
        })
    }

    fn sink(&self, table: &Table<'_>, index: usize, name: &str) -> Option<usize> {
        let found = self.sinks.find(name);
        if let Err(known) = &found
            && !known.is_empty()
        {
            table.item_problem("sinks", index, quoted(name), one_of("a sink", known), meant(name, known));
        }
        found.ok()
    }
}

/// "a sink: one of ...", as long as that can be read.
fn one_of(what: &str, known: &[&str]) -> String {
    let listed: Vec<String> = known.iter().take(8).map(|name| format!("{name:?}")).collect();
    let more =
        if known.len() > listed.len() { format!(" and {} more", known.len() - listed.len()) } else { String::new() };
    format!("the name of {what}: {}{more}", listed.join(", "))
}

fn pace(table: &Table<'_>, usual: Pace) -> Pace {
    match (table.number_if("fps"), table.text("fps"), usual) {
        (Some(rate), ..) => Pace::PerSecond(rate),
        (None, None, Pace::PerSecond(rate)) => Pace::PerSecond(table.number_or("fps", rate)),
        _ => {
            table.text_or("fps", "max".to_owned());
            Pace::Unlimited
        }
    }
}

/// A camera id with a number in it: `cam-{:04}`.
#[derive(Default)]
struct Pattern {
    head: String,
    /// Digits at least, filled up with zeros.
    digits: usize,
    tail: String,
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_once('{')?;
        let (inner, tail) = rest.split_once('}')?;
        let digits = match inner {
            "" => 1,
            inner => inner.strip_prefix(":0")?.parse().ok().filter(|digits| (1..=9).contains(digits))?,
        };
        let pattern = Self { head: head.to_owned(), digits, tail: tail.to_owned() };
        let sound =
            !text.replacen(['{', '}'], "", 2).contains(['{', '}']) && CameraId::new(&pattern.id(99_999)).is_ok();
        sound.then_some(pattern)
    }

    fn id(&self, number: usize) -> String {
        format!("{}{number:0digits$}{}", self.head, self.tail, digits = self.digits)
    }
}

pub(crate) fn fits_pattern(text: &str) -> bool {
    Pattern::parse(text).is_some()
}

/// A plain `http://` URL with a host and without credentials. TLS is not spoken.
pub(crate) fn fits_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // An IPv6 host stands in brackets; a port may follow either.
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some("80"))),
        None => authority.split_once(':').map_or((authority, Some("80")), |(host, port)| (host, Some(port))),
    };
    let printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    printable
        && !host.is_empty()
        && !authority.contains('@')
        && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_number_cameras() {
        let table = [
            ("cam-{:04}", Some(["cam-0000", "cam-0041", "cam-12345"])),
            ("{}", Some(["0", "41", "12345"])),
            ("a/{:02}/b", Some(["a/00/b", "a/41/b", "a/12345/b"])),
            ("cam", None),
            ("cam-{}-{}", None),
            ("cam-{:4}", None),
            ("cam-{:00}", None),
            ("cam-{:012}", None),
            ("}{", None),
            ("cam-{", None),
        ];
        for (text, ids) in table {
            let found = Pattern::parse(text).map(|pattern| [0, 41, 12345].map(|number| pattern.id(number)));
            assert_eq!(found, ids.map(|ids| ids.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn urls() {
        let good = ["http://h", "http://h:8080/a?b=c", "http://10.0.0.1/x@y", "http://[::1]:80/", "http://[::1]"];
        let bad = [
            "",
            "h",
            "https://h",
            "http://",
            "http:///x",
            "http://u:p@h/",
            "http://h:x",
            "http://h:0",
            "http://h:99999",
            "http://a b",
        ];
        good.iter().for_each(|url| assert!(fits_url(url), "{url}"));
        bad.iter().for_each(|url| assert!(!fits_url(url), "{url}"));
    }
}

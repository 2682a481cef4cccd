//! The options of `omma publish`, as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use omma_adapters::redis::StreamNames;
use omma_adapters::redis::wire::Wire;
use omma_config::FrameWire;
use omma_frame::{PixelFormat, Size};
use omma_publish::timing::Bursts;
use omma_publish::{IdPattern, WORKERS_MAX};

use crate::args::within;

/// Cameras that one process simulates.
const CAMERAS_MAX: u64 = 10_000;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma publish --cameras 1000 --fps 10                     a thousand cameras of drawn scenes, to the Redis on this machine
  omma publish --cameras 4 --input film.mjpeg --seconds 60 a file, shown by four cameras for a minute
  omma publish --url unix:///run/redis/redis.sock --cameras 1000 --fps 100 --handles --size 640x480 --format rgb
                                                           raw pictures in shared memory, their handles through Redis
  omma publish --cameras 100 --fps 2 --bursts 50x1/60      every minute each camera sends 50 times as much for a second
  omma publish --cluster --url redis://10.0.0.1:7000 --id '{{s{tag:02}}}:cam-{n:04}' --cameras 1000
                                                           a cluster; cameras of one group share a slot

What cannot be sent in time is dropped, counted and named: nothing is kept for later. The password is read from \
OMMA_REDIS_PASSWORD or from --password-file, never from the command line.

Exit code 1 if anything could not be sent; 2 if Redis cannot be reached at the start.")]
pub struct PublishArgs {
    /// The server: redis://host:port/db, rediss:// (TLS), or unix:///path/to/socket
    #[arg(long, value_name = "URL", default_value = "redis://127.0.0.1:6379")]
    pub url: String,
    /// The URL leads to a node of a Redis Cluster
    #[arg(long)]
    pub cluster: bool,
    /// The user, if the server has several
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A file that holds the password; without it, OMMA_REDIS_PASSWORD is looked at
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// For rediss://: the authorities that the server's certificate is held against (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// For rediss://: the client's own certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// For rediss://: the key of the client's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How many cameras
    #[arg(long, value_name = "N", default_value = "10", value_parser = RangedU64ValueParser::<u64>::new().range(1..=CAMERAS_MAX))]
    pub cameras: u64,
    /// The cameras' ids: {n} is the camera's number, {tag} that number modulo 32, {n:04} pads with zeros
    #[arg(long, value_name = "PATTERN", default_value = "cam-{n:04}", value_parser = IdPattern::new)]
    pub id: IdPattern,
    /// The number of the first camera
    #[arg(long, value_name = "N", default_value = "0", value_parser = RangedU64ValueParser::<u64>::new().range(..1_000_000_000))]
    pub first: u64,
    /// The stream of a camera; with --wire compat {camera}_input_topic, unless it is given
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = FrameWire::Own.usual_stream(),
        default_value_if("wire", "compat", FrameWire::Compat.usual_stream()),
        value_parser = stream
    )]
    pub stream: StreamNames,

    /// Frames per second of each camera
    #[arg(long, default_value = "10", value_parser = rate)]
    pub fps: f64,
    /// Frames come late by up to this part of the time between two, 0 to 1, each by another
    #[arg(long, value_name = "PART", default_value = "0", value_parser = part)]
    pub jitter: f64,
    /// FACTORxSECONDS/EVERY: at the end of every so many seconds so many times as many frames, as in 50x1/60; with
    /// @CAMERAS only the first so many cameras
    #[arg(long, value_name = "BURSTS", value_parser = bursts)]
    pub bursts: Option<Bursts>,
    /// Stop after so many seconds
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with = "frames")]
    pub seconds: Option<f64>,
    /// Stop after so many frames of each camera
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub frames: Option<u64>,

    /// What the cameras show: .mjpeg files, pictures, folders or globs of pictures, in turn; drawn scenes without it
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<String>,
    /// The size of drawn scenes, and of raw pictures
    #[arg(long, value_name = "WxH", default_value = "640x360", value_parser = size)]
    pub size: Size,
    /// jpeg (files as they are), or raw: rgb, bgr, gray, nv12, i420
    #[arg(long, default_value = "jpeg", value_parser = format)]
    pub format: Format,
    /// The JPEG quality of drawn scenes
    #[arg(long, default_value = "80", value_parser = RangedU64ValueParser::<u8>::new().range(1..=100))]
    pub quality: u8,
    /// The same seed draws the same scenes
    #[arg(long, default_value = "1", value_parser = RangedU64ValueParser::<u64>::new().range(..omma_scenes::TRAINING_SEEDS))]
    pub seed: u64,

    /// Put pictures into a ring of shared memory and only their handles into Redis
    #[arg(long)]
    pub handles: bool,
    /// The ring's name; other processes must not use it meanwhile
    #[arg(long, value_name = "NAME", default_value = "publish", requires = "handles")]
    pub ring: String,
    /// The ring's size; without it, room for two seconds of pictures
    #[arg(long, value_name = "MIB", requires = "handles", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_048_576))]
    pub ring_mib: Option<u64>,
    /// own, or compat: the fields of the Python pipeline
    #[arg(long, default_value = "own", value_parser = wire)]
    pub wire: Wire,
    /// Redis keeps about so many entries of each stream (MAXLEN ~); 0: all of them
    #[arg(long, value_name = "N", default_value = "100")]
    pub maxlen: u64,
    /// Threads that send, each on a connection of its own
    #[arg(long, value_name = "N", default_value = "2", value_parser = RangedU64ValueParser::<u64>::new().range(1..=WORKERS_MAX as u64))]
    pub workers: u64,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Raw(PixelFormat),
}

fn stream(text: &str) -> Result<StreamNames, String> {
    StreamNames::parse(text)
        .ok_or_else(|| "expected a name with one {camera} in it, as in omma:frames:{camera}".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.001, 1000.0)
}

fn part(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.001, 31_536_000.0)
}

fn size(text: &str) -> Result<Size, String> {
    let parsed = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match parsed {
        Some((width @ 16..=8192, height @ 16..=8192)) => Ok(Size { width, height }),
        _ => Err("expected WIDTHxHEIGHT, each 16 to 8192, as in 640x360".to_owned()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    Ok(match text {
        "jpeg" => Format::Jpeg,
        "rgb" => Format::Raw(PixelFormat::Rgb),
        "bgr" => Format::Raw(PixelFormat::Bgr),
        "gray" => Format::Raw(PixelFormat::Gray),
        "nv12" => Format::Raw(PixelFormat::Nv12),
        "i420" => Format::Raw(PixelFormat::I420),
        _ => return Err("expected jpeg, rgb, bgr, gray, nv12 or i420".to_owned()),
    })
}

fn wire(text: &str) -> Result<Wire, String> {
    match text {
        "own" => Ok(Wire::Own),
        "compat" => Ok(Wire::Compat),
        _ => Err("expected own or compat".to_owned()),
    }
}

/// `50x1/60` or `50x1/60@100`.
fn bursts(text: &str) -> Result<Bursts, String> {
    let expected = || "expected FACTORxSECONDS/EVERY or FACTORxSECONDS/EVERY@CAMERAS, as in 50x1/60".to_owned();
    let (times, cameras) = match text.split_once('@') {
        Some((times, cameras)) => (times, cameras.parse().map_err(|_| expected())?),
        None => (text, usize::MAX),
    };
    let (factor, rest) = times.split_once('x').ok_or_else(expected)?;
    let (length, every) = rest.split_once('/').ok_or_else(expected)?;
    let factor = within(factor, 1.0, 1000.0).map_err(|error| format!("the factor: {error}"))?;
    let every = within(every, 0.1, 86_400.0).map_err(|error| format!("the time between bursts: {error}"))?;
    let length = within(length, 0.01, every).map_err(|error| format!("the length of a burst: {error}"))?;
    Ok(Bursts { factor, length: Duration::from_secs_f64(length), every: Duration::from_secs_f64(every), cameras })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        publish: PublishArgs,
    }

    #[test]
    fn frames_go_where_a_source_of_their_wire_looks_for_them() {
        let table: [(&[&str], &str); 4] = [
            (&[], "omma:frames:gate"),
            (&["--wire", "own"], "omma:frames:gate"),
            (&["--wire", "compat"], "gate_input_topic"),
            (&["--wire", "compat", "--stream", "{camera}"], "gate"),
        ];
        for (options, expected) in table {
            let line = Line::try_parse_from([&["publish"], options].concat()).expect("options that can be");
            assert_eq!(line.publish.stream.stream("gate"), expected, "{options:?}");
        }
    }

    #[test]
    fn bursts_are_read_as_they_are_written() {
        let second = Duration::from_secs(1);
        for (text, factor, length, every, cameras) in
            [("50x1/60", 50.0, second, second * 60, usize::MAX), ("2.5x0.5/10@100", 2.5, second / 2, second * 10, 100)]
        {
            assert_eq!(bursts(text), Ok(Bursts { factor, length, every, cameras }), "{text}");
        }
        for (text, expected) in [
            ("50", "as in 50x1/60"),
            ("50x1", "as in 50x1/60"),
            ("0x1/60", "the factor"),
            ("2x61/60", "the length of a burst: expected a number from 0.01 to 60"),
            ("2x1/0", "the time between bursts"),
            ("2x1/60@many", "as in 50x1/60"),
        ] {
            assert!(bursts(text).expect_err(text).contains(expected), "{text}");
        }
    }
}

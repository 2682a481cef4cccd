//! `omma publish`: simulated cameras into Redis, at an exact rate, and what became of their frames.

pub mod args;

use std::path::Path;
use std::time::{Duration, Instant};

use omma_adapters::redis::{Password, RedisOptions, TlsFiles};
use omma_publish::timing::{End, Timing};
use omma_publish::{Carry, Counts, Form, Options, Pacing, Pictures, Publisher, Report};
use omma_ring::{RingOptions, slot_bytes};
use serde_json::json;

use self::args::{Format, PublishArgs};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::say;
use crate::screen::{Line, Screen};
use crate::signals::Signals;

const PASSWORD_VARIABLE: &str = "OMMA_REDIS_PASSWORD";
/// A password is short; a large file is a mistake.
const PASSWORD_BYTES_MAX: u64 = 4096;
/// Between two looks at the counts, two views of a person who watches, and two lines for one who does not.
const LOOK: Duration = Duration::from_millis(100);
const VIEW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(5);
/// A ring has room for the pictures of so much time, within these bounds.
const RING_SECONDS: f64 = 2.0;
const RING_BYTES_MIN: u64 = 64 << 20;
const RING_BYTES_MAX: u64 = 1 << 30;

pub fn run(args: &PublishArgs) -> Result<Exit, Failure> {
    let signals = Signals::listen().map_err(|error| Failure::run(format!("cannot listen for signals: {error}")))?;
    let redis = redis(args, std::env::var(PASSWORD_VARIABLE).ok())?;
    let pictures = pictures(args).map_err(Failure::usage)?;
    let mut screen = Screen::new(!args.json && say::watched());
    if !args.json {
        screen.say(&format!(
            "omma: {} at {} frames/s, {} of {:.1} KB{}",
            human::counted(args.cameras as usize, "camera"),
            args.fps,
            human::counted(pictures.count(), "picture"),
            pictures.bytes_mean() / 1e3,
            if pictures.cut() { "; the files have more, which are not shown" } else { "" }
        ));
    }
    let publisher = Publisher::start(options(args, redis, pictures)).map_err(Failure::usage)?;
    watch(args, &publisher, &signals, &mut screen);
    publisher.stop();
    let report = publisher.join().map_err(Failure::run)?;
    screen.clear();
    let exit = if report.counts.unsent_total() == 0 { Exit::Done } else { Exit::Failed };
    tell(args, &report, exit);
    Ok(exit)
}

fn redis(args: &PublishArgs, variable: Option<String>) -> Result<RedisOptions, Failure> {
    let password = match (&args.password_file, variable) {
        (Some(file), _) => Some(Password::new(read_password(file)?.trim_end_matches(['\r', '\n']))),
        (None, variable) => variable.filter(|text| !text.is_empty()).map(|text| Password::new(&text)),
    };
    Ok(RedisOptions {
        username: args.username.clone(),
        password,
        tls: TlsFiles { ca: args.tls_ca.clone(), client: args.tls_cert.clone().zip(args.tls_key.clone()) },
        cluster: args.cluster,
        ..RedisOptions::new(&args.url)
    })
}

fn read_password(file: &Path) -> Result<String, Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::usage(format!("--password-file {}: {what}", file.display()));
    let metadata = std::fs::metadata(file).map_err(|error| failed(&error))?;
    if !metadata.is_file() || metadata.len() > PASSWORD_BYTES_MAX {
        return Err(failed(&format!("expected a file of at most {PASSWORD_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(file).map_err(|error| failed(&error))
}

fn pictures(args: &PublishArgs) -> Result<Pictures, String> {
    let form = match args.format {
        Format::Jpeg => Form::Encoded { quality: args.quality },
        Format::Raw(format) => Form::Raw(format),
    };
    if args.input.is_empty() {
        Pictures::synthetic(args.seed, args.cameras as usize, args.size, form)
    } else {
        Pictures::of_files(&args.input, Some(args.size), form)
    }
}

fn options(args: &PublishArgs, redis: RedisOptions, pictures: Pictures) -> Options {
    let streams = (args.first..args.first + args.cameras)
        .map(|number| args.stream.stream(&args.id.id(usize::try_from(number).unwrap_or(usize::MAX))))
        .collect();
    let carry = if args.handles {
        let bytes = args.ring_mib.map_or_else(|| ring_bytes(args, &pictures), |mib| mib << 20);
        Carry::Handles { name: args.ring.clone(), ring: RingOptions::new(bytes) }
    } else {
        Carry::Bytes
    };
    let end = match (args.seconds, args.frames) {
        (Some(seconds), _) => End::After(Duration::from_secs_f64(seconds)),
        (None, Some(frames)) => End::Frames(frames),
        (None, None) => End::Never,
    };
    Options {
        redis,
        wire: args.wire,
        entries_max: (args.maxlen > 0).then_some(args.maxlen),
        streams,
        pictures,
        carry,
        pacing: Pacing::Timed { timing: Timing { fps: args.fps, jitter: args.jitter, bursts: args.bursts }, end },
        workers: args.workers as usize,
    }
}

/// Room for the pictures of two seconds.
fn ring_bytes(args: &PublishArgs, pictures: &Pictures) -> u64 {
    let each = slot_bytes(pictures.bytes_max() as u64).unwrap_or(RING_BYTES_MAX);
    let frames = args.fps * args.cameras as f64 * RING_SECONDS;
    ((each as f64 * frames) as u64).clamp(RING_BYTES_MIN, RING_BYTES_MAX).max(each.saturating_mul(4))
}

/// Shows how it goes until every camera has ended or a signal comes.
fn watch(args: &PublishArgs, publisher: &Publisher, signals: &Signals, screen: &mut Screen) {
    let every = if screen.live() { VIEW } else { LINE };
    let (mut at, mut before) = (Instant::now(), Counts::default());
    while !publisher.finished() && !signals.asked() {
        std::thread::sleep(LOOK);
        if at.elapsed() < every || args.json {
            continue;
        }
        let now = publisher.counts();
        let per_s = (now.sent - before.sent) as f64 / at.elapsed().as_secs_f64();
        let line = Line::default()
            .plain("omma: ")
            .bold(format!("{} frames/s", human::rate(per_s)))
            .plain(format!(", {:.1} MB/s", (now.bytes - before.bytes) as f64 / 1e6 / at.elapsed().as_secs_f64()))
            .plain(format!(
                ", sent {}, late {}, not sent {}",
                human::count(now.sent),
                human::count(now.late),
                unsent(&now)
            ));
        if screen.live() {
            screen.draw(&[line]);
        } else {
            say::note(&line.text());
        }
        (at, before) = (Instant::now(), now);
    }
}

/// How many frames were not sent, and why.
fn unsent(counts: &Counts) -> String {
    let reasons: Vec<_> =
        counts.reasons().map(|(why, count)| format!("{} {}", why.name(), human::count(count))).collect();
    match reasons.as_slice() {
        [] => "0".to_owned(),
        reasons => format!("{} ({})", human::count(counts.unsent_total()), reasons.join(", ")),
    }
}

fn tell(args: &PublishArgs, report: &Report, exit: Exit) {
    let counts = &report.counts;
    let seconds = report.took.as_secs_f64();
    if args.json {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let reasons: serde_json::Map<_, _> = counts
            .reasons()
            .map(|(why, count)| (why.name().to_owned(), json!({ "frames": count, "said": report.said.get(&why) })))
            .collect();
        say::json(&json!({
            "cameras": args.cameras,
            "fps": args.fps,
            "seconds": seconds,
            "sent": counts.sent,
            "late": counts.late,
            "not_sent": counts.unsent_total(),
            "reasons": reasons,
            "frames_per_s": counts.sent as f64 / seconds.max(1e-9),
            "bytes": counts.bytes,
            "lag_ms": { "p50": ms(report.lag_p50), "p99": ms(report.lag_p99), "max": ms(report.lag_max) },
            "exit": exit as u8,
        }));
        return;
    }
    say::note(&format!(
        "omma: {} frames sent in {seconds:.1} s ({} frames/s, {:.1} MB); {} late; p99 {} after they were due",
        human::count(counts.sent),
        human::rate(counts.sent as f64 / seconds.max(1e-9)),
        counts.bytes as f64 / 1e6,
        human::count(counts.late),
        human::time(report.lag_p99)
    ));
    if counts.unsent_total() > 0 {
        say::note(&format!("omma: {} not sent", unsent(counts)));
        for (why, text) in &report.said {
            say::note(&format!("omma: {}: {text}", why.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(words: &[&str]) -> PublishArgs {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            args: PublishArgs,
        }
        Only::try_parse_from([&["publish"], words].concat()).map(|only| only.args).expect("understood")
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "from-file\n").expect("written");
        let with_file = args(&["--password-file", file.to_str().expect("a path")]);
        for (args, variable, expected) in [
            (&args(&[]), None, None),
            (&args(&[]), Some(""), None),
            (&args(&[]), Some("from-env"), Some("from-env")),
            (&with_file, Some("from-env"), Some("from-file")),
        ] {
            let options = redis(args, variable.map(str::to_owned)).expect("options");
            assert_eq!(options.password.as_ref().map(Password::reveal), expected);
        }
        let missing = args(&["--password-file", "/nowhere"]);
        let failure = redis(&missing, None).expect_err("a failure");
        assert_eq!((failure.exit, failure.message.contains("/nowhere")), (Exit::Usage, true));
    }

    #[test]
    fn a_ring_holds_two_seconds_of_pictures() {
        for (words, expected) in [
            (&["--cameras", "1"][..], RING_BYTES_MIN),
            (&["--cameras", "100", "--fps", "10", "--size", "1280x720", "--format", "gray"], RING_BYTES_MAX),
            (&["--cameras", "10", "--fps", "10", "--size", "1280x720", "--format", "gray"], 200 * (1280 * 720 + 64)),
        ] {
            let args = args(words);
            assert_eq!(ring_bytes(&args, &pictures(&args).expect("pictures")), expected, "{words:?}");
        }
    }
}

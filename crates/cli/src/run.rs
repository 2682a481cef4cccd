//! `omma run`: a configured pipeline from its start to its drain.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use omma_adapters::sink::jsonl::ResultEncoder;
use omma_adapters::threads::schedule;
use omma_config::{Config, DirectConfig};
use omma_engine::ledger::Counts;
use omma_engine::metrics::Stage;
use omma_engine::pipeline::{DrainReport, Engine, Shared, StartError};
use omma_engine::report::Level;
use omma_server::{ApiLimits, Server, ServerOptions, Watched};
use serde_json::{Value, json};

use crate::args::RunArgs;
use crate::assemble::{self, Assembled};
use crate::descriptors;
use crate::exit::{Exit, Failure};
use crate::figures::{Reading, Window};
use crate::human;
use crate::reload::Reload;
use crate::say;
use crate::screen::{Line, Screen};
use crate::signals::Signals;
use crate::supervise::{self, End};

/// Between two views of a person who watches, two lines for one who does not, and two events for a program.
const VIEW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(5);
const EVENT: Duration = Duration::from_secs(1);

pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let signals = Signals::listen().map_err(|error| Failure::run(format!("cannot listen for signals: {error}")))?;
    let config = omma_config::load(&args.config.file).map_err(Failure::usage)?;
    let mut talk = Talk { json: args.json, screen: Screen::new(!args.json && say::watched()) };
    let watched = Watched::default();
    if let Some(warning) = descriptors::provide(&config) {
        talk.say("note", Level::Warning, &warning);
    }
    let encoder = Arc::default();
    let server = serve(&config, &watched, &encoder, &mut talk)?;
    let Assembled { parts, store, growing, notes, labels } = assemble::assemble(&config)?;
    let _ = encoder.set(ResultEncoder::new(labels));
    for note in &notes {
        talk.say("note", Level::Info, note);
    }
    let engine = Engine::start(parts).map_err(|error| match error {
        StartError::Model { .. } | StartError::Thread { .. } => Failure::run(error),
    })?;
    watched.show(engine.shared());
    let shared = Arc::clone(engine.shared());
    let reload = Reload::start(&shared, store, growing, config, &args.config.file, &signals)
        .map_err(|error| Failure::run(format!("cannot start a thread: {error}")))?;
    let begun = Instant::now();
    talk.say("running", Level::Info, &format!("running{}", if args.json { "" } else { "; Ctrl-C drains and stops" }));

    let every = match (talk.screen.live(), args.json) {
        (true, _) => VIEW,
        (false, true) => EVENT,
        (false, false) => LINE,
    };
    let mut before = Reading::take(&shared);
    let end = supervise::watch(&shared, &signals, None, VIEW, || {
        talk.pass_on(&shared);
        let now = Reading::take(&shared);
        if now.at.duration_since(before.at) >= every.mul_f64(0.9) {
            talk.progress(&shared, &now, &now.since(&before));
            before = now;
        }
    });
    if end == End::Signal {
        talk.say("draining", Level::Info, "draining; a second signal ends the process at once");
    }
    let (report, exit) = supervise::drain(engine);
    drop(reload);
    talk.pass_on(&shared);
    talk.end(&report, begun.elapsed(), end, exit);
    drop(server);
    Ok(exit)
}

/// Before the models load, so that a probe sees "not ready" instead of a closed port; results are written once they have.
fn serve(
    config: &Config,
    watched: &Watched,
    encoder: &Arc<OnceLock<ResultEncoder>>,
    talk: &mut Talk,
) -> Result<Option<Server>, Failure> {
    let DirectConfig {
        grpc,
        threads,
        connections_max,
        timeout,
        request_bytes_max,
        requests_bytes_max,
        client_shared_memory,
    } = config.direct;
    if config.http.is_none() && grpc.is_none() {
        return Ok(None);
    }
    let encoder = Arc::clone(encoder);
    let options = ServerOptions {
        http: config.http.map(|address| address.to_string()),
        grpc: grpc.map(|address| address.to_string()),
        camera_series_max: ServerOptions::CAMERA_SERIES_MAX,
        api: ApiLimits { request_bytes_max, requests_bytes_max, timeout, client_shared_memory },
        connections_max,
        threads,
        begin_thread: schedule,
        encode: Arc::new(move |result, out| {
            if let Some(encoder) = encoder.get() {
                encoder.encode_direct(result, out);
            }
        }),
    };
    let server = Server::start(&options, watched.clone())
        .map_err(|error| Failure::usage(format!("{error} (engine.{} in the configuration)", error.what)))?;
    if let Some(address) = server.http() {
        talk.say("note", Level::Info, &format!("metrics and health at http://{address}"));
    }
    if let Some(address) = server.grpc() {
        talk.say("note", Level::Info, &format!("inference on request by gRPC at {address}"));
    }
    Ok(Some(server))
}

/// How the run speaks: lines for people, or JSON lines.
struct Talk {
    json: bool,
    screen: Screen,
}

impl Talk {
    fn say(&mut self, event: &str, level: Level, text: &str) {
        if self.json {
            say::note(&json!({ "event": event, "level": supervise::level_name(level), "text": text }).to_string());
        } else {
            self.screen.say(&format!("omma: {text}"));
        }
    }

    fn pass_on(&mut self, shared: &Shared) {
        for (level, text) in supervise::reported(shared) {
            self.say("message", level, &text);
        }
    }

    fn progress(&mut self, shared: &Shared, now: &Reading, window: &Window) {
        let (p50, p99) = (window.quantile(Stage::Total, 0.5), window.quantile(Stage::Total, 0.99));
        if self.json {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let mut object = counts(&now.counts);
            object["event"] = "progress".into();
            object["phase"] = shared.lifecycle.phase().name().into();
            object["frames_per_s"] = window.published_per_s.into();
            object["p50_ms"] = ms(p50).into();
            object["p99_ms"] = ms(p99).into();
            object["cores"] = window.cores.into();
            say::note(&object.to_string());
            return;
        }
        let dropped = drops(&now.counts);
        let line = Line::default()
            .plain("omma: ")
            .bold(format!("{} frames/s", human::rate(window.published_per_s)))
            .plain(format!(", p50 {}, p99 {}", human::time(p50), human::time(p99)))
            .plain(format!(
                ", published {}, in flight {}, dropped {dropped}",
                human::count(now.counts.published),
                human::count(now.counts.in_flight)
            ))
            .plain(format!(", {:.1} cores", window.cores));
        if self.screen.live() {
            self.screen.draw(&[line]);
        } else {
            say::note(&line.text());
        }
    }

    fn end(&mut self, report: &DrainReport, ran: Duration, end: End, exit: Exit) {
        self.screen.clear();
        let late = supervise::lateness(report);
        if self.json {
            let mut object = counts(&report.counts);
            object["event"] = "end".into();
            object["why"] = if end == End::Finished { "finished" } else { "signal" }.into();
            object["seconds"] = ran.as_secs_f64().into();
            object["drain_seconds"] = report.took.as_secs_f64().into();
            object["late"] = report.late.into();
            object["unsettled"] = report.unsettled.into();
            object["exit"] = (exit as u8).into();
            say::note(&object.to_string());
            return;
        }
        let counts = &report.counts;
        say::note(&format!(
            "omma: {} frames received in {:.1} s: {} published, dropped {}{}",
            human::count(counts.received),
            ran.as_secs_f64(),
            human::count(counts.published),
            drops(counts),
            if counts.lost_upstream > 0 {
                format!("; {} more were lost before they came", human::count(counts.lost_upstream))
            } else {
                String::new()
            }
        ));
        if let Some(late) = late {
            say::note(&format!("omma: {late}"));
        }
    }
}

/// How many frames were dropped, and why.
pub fn drops(counts: &Counts) -> String {
    let reasons: Vec<_> =
        counts.drops().map(|(reason, count)| format!("{} {}", reason.name(), human::count(count))).collect();
    match reasons.as_slice() {
        [] => "0".to_owned(),
        reasons => format!("{} ({})", human::count(counts.dropped_total()), reasons.join(", ")),
    }
}

/// The ledger for programs.
pub fn counts(counts: &Counts) -> Value {
    let drops: serde_json::Map<_, _> =
        counts.drops().map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
    json!({
        "received": counts.received,
        "published": counts.published,
        "in_flight": counts.in_flight,
        "dropped": drops,
        "lost_upstream": counts.lost_upstream,
        "balanced": counts.balanced(),
    })
}

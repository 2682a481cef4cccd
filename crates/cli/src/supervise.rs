//! The main thread while an engine runs: looks for a signal or the end, shows progress, passes on what is reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_engine::pipeline::{DrainReport, Engine, Shared};
use omma_engine::report::{Level, Message};

use crate::exit::Exit;
use crate::human;
use crate::signals::Signals;

/// How often signals and the end are looked for.
const TURN: Duration = Duration::from_millis(25);

/// Why a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every source has ended and every frame is settled.
    Finished,
    Signal,
    TimeUp,
}

/// Returns when the run has ended, calling `progress` every so often.
pub fn watch(
    shared: &Arc<Shared>,
    signals: &Signals,
    until: Option<Instant>,
    every: Duration,
    mut progress: impl FnMut(),
) -> End {
    let mut next = Instant::now() + every;
    loop {
        let now = Instant::now();
        if signals.asked() {
            return End::Signal;
        }
        if shared.finished() {
            return End::Finished;
        }
        if until.is_some_and(|until| now >= until) {
            return End::TimeUp;
        }
        if now >= next {
            progress();
            next = now + every;
        }
        std::thread::sleep(TURN);
    }
}

/// Messages of the engine as lines for people, oldest first.
pub fn reported(shared: &Shared) -> Vec<(Level, String)> {
    let (messages, forgotten) = shared.reports.take();
    let mut lines: Vec<_> = messages.iter().map(|message| (message.level, line(message))).collect();
    if forgotten > 0 {
        let text = format!("warning: {} more messages came faster than they could be shown", human::count(forgotten));
        lines.insert(0, (Level::Warning, text));
    }
    lines
}

fn line(message: &Message) -> String {
    let Message { level, subject, text, times } = message;
    let level = level_name(*level);
    match times {
        0 | 1 => format!("{level}: {subject}: {text}"),
        times => format!("{level}: {subject}: {text} ({} times so far)", human::count(*times)),
    }
}

pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

/// Drains the engine and says what that came to.
pub fn drain(engine: Engine) -> (DrainReport, Exit) {
    let report = engine.drain();
    let exit = if report.late > 0 || report.unsettled > 0 { Exit::Late } else { Exit::Done };
    (report, exit)
}

/// What was late at the end; `None` if nothing was.
pub fn lateness(report: &DrainReport) -> Option<String> {
    let frames = |count: u64| human::counted(usize::try_from(count).unwrap_or(usize::MAX), "frame");
    match (report.late, report.unsettled) {
        (0, 0) => None,
        (late, 0) => Some(format!(
            "{} not done within the drain's deadline; their sources deliver them again where they can",
            frames(late)
        )),
        (late, unsettled) => Some(format!(
            "{} not done within the drain's deadline, and the fate of {} is unknown",
            frames(late),
            frames(unsettled as u64)
        )),
    }
}

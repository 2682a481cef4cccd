//! The watch: one thread that looks at what every instance holds, settles batches that outlive their deadline, and
//! starts a new instance in the place of a hung one. It also tells of sinks that are stuck, and passes on what backends say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use omma_frame::DropReason;

use super::instance;
use super::models::Model;
use super::shared::Shared;
use super::version::Version;
use crate::infer::backend::Opener;
use crate::lifecycle::Phase;
use crate::report::Level;
use crate::threads::Role;

/// Threads of one model that may hang at the same time; each holds its copy of the model until it returns, if ever.
const HANGING_MAX: isize = 16;
/// How long a publication may take before it is worth a word.
const STUCK_AFTER: Duration = Duration::from_secs(2);
const STUCK_MEANS: &str =
    "`every` cameras of it are not read once its buffer is full, `latest` cameras lose their oldest";
const TURN_MIN: Duration = Duration::from_millis(5);
const TURN_MAX: Duration = Duration::from_millis(100);

pub(super) fn run(shared: &Arc<Shared>) {
    let mut turn = TURN_MIN;
    while shared.lifecycle.phase() != Phase::Stopped {
        std::thread::sleep(turn);
        let versions: Vec<_> = shared.served.iter().flat_map(Model::versions).collect();
        let shortest = versions.iter().map(|version| version.plan.deadline).min().unwrap_or(TURN_MAX);
        turn = (shortest / 8).clamp(TURN_MIN, TURN_MAX);
        for version in versions.iter().filter(|version| matches!(version.opener, Opener::Blocking(_))) {
            look_at(shared, version);
        }
        listen(shared, &versions);
        for model in &shared.served {
            model.reap(shared);
        }
        look_at_sinks(shared);
    }
    listen(shared, &shared.served.iter().flat_map(Model::versions).collect::<Vec<_>>());
}

/// Passes on what the models' backends say.
fn listen(shared: &Shared, versions: &[Arc<Version>]) {
    versions.iter().for_each(|version| version.pass_on(shared));
}

/// Says of a sink, once for each time, that it has been stuck for a while.
fn look_at_sinks(shared: &Shared) {
    let now = shared.clock.mono();
    for (buffer, plan) in shared.buffers.iter().zip(&shared.plan.sinks) {
        let results = match buffer.current.lock().as_mut() {
            Some(current) if !current.told && now.since(current.since) >= STUCK_AFTER => {
                current.told = true;
                current.delivery.results.len() - current.taken
            }
            _ => continue,
        };
        shared.reports.say(Level::Warning, &format!("sink {}", plan.name), "stuck", || {
            format!("has not taken {results} result(s) for {} s; {}", STUCK_AFTER.as_secs(), STUCK_MEANS)
        });
    }
}

fn look_at(shared: &Arc<Shared>, version: &Arc<Version>) {
    let now = shared.clock.mono();
    let mut hung = Vec::new();
    version.slots.lock().retain(|slot| match slot.take_overdue(now, version.plan.deadline) {
        Some(pendings) => {
            hung.push(pendings);
            false
        }
        None => true,
    });
    for pendings in hung {
        version.hanging.fetch_add(1, Ordering::AcqRel);
        let hanging = shared.served[version.model].hanging.fetch_add(1, Ordering::AcqRel) + 1;
        let counters = &shared.metrics.models[version.model];
        let abandoned = counters.instances_abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        counters.instances_running.fetch_sub(1, Ordering::Relaxed);
        counters.failed_batches.fetch_add(1, Ordering::Relaxed);
        let message = format!("no answer within {} ms; its instance is given up", version.plan.deadline.as_millis());
        let subject = format!("model {}", version.plan.name);
        shared
            .reports
            .say(Level::Error, &subject, "deadline", || format!("{}: {message}", DropReason::DeadlineExceeded.name()));
        shared.fail(pendings, DropReason::DeadlineExceeded, &message);
        if let Some(feed) = &version.feed {
            feed.release(None, shared.clock.mono());
            shared.desks[version.model].wake();
        }
        if version.retired() && !version.feed.as_ref().is_some_and(super::feed::Feed::has_ready) {
            continue;
        }
        if hanging > HANGING_MAX {
            shared.reports.say(Level::Error, &subject, "abandoned", || {
                format!("{hanging} instances hang; no new one is started, restart omma once the cause is found")
            });
            continue;
        }
        let number = version.chosen.instances + usize::try_from(abandoned).unwrap_or(0);
        let (shared_too, version_too) = (Arc::clone(shared), Arc::clone(version));
        let name = format!("omma-{}-{number}", version.plan.name);
        let run = move || instance::run_thread(shared_too, version_too, number, None);
        if let Err(error) = version.spawn(shared, name, Role::Compute, run) {
            shared.reports.say(Level::Error, &subject, "thread", || format!("no thread for a new instance: {error}"));
        }
    }
}

//! The watch: one thread that looks at what every instance holds, settles batches that outlive their deadline, and
//! starts a new instance in the place of a hung one. It also tells of sinks that are stuck, and passes on what backends say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use omma_frame::DropReason;

use super::instance::{self, Model};
use super::shared::Shared;
use crate::infer::backend::Opener;
use crate::lifecycle::Phase;
use crate::report::Level;
use crate::threads::Role;

/// Hung threads that one model may leave behind; each holds its copy of the model for ever.
const ABANDONED_MAX: u64 = 16;
/// How long a publication may take before it is worth a word.
const STUCK_AFTER: Duration = Duration::from_secs(2);
const STUCK_MEANS: &str =
    "`every` cameras of it are not read once its buffer is full, `latest` cameras lose their oldest";
/// What one model may say in one turn; the rest waits, or is refused to whoever says it.
const MESSAGES_PER_TURN: usize = 64;
const TURN_MIN: Duration = Duration::from_millis(5);
const TURN_MAX: Duration = Duration::from_millis(100);

pub(super) fn run(shared: &Arc<Shared>, models: &[Arc<Model>]) {
    let shortest = models.iter().map(|model| model.plan.deadline).min().unwrap_or(TURN_MAX);
    let turn = (shortest / 8).clamp(TURN_MIN, TURN_MAX);
    while shared.lifecycle.phase() != Phase::Stopped {
        std::thread::sleep(turn);
        for model in models.iter().filter(|model| matches!(model.opener, Opener::Blocking(_))) {
            look_at(shared, model);
        }
        listen(shared, models);
        look_at_sinks(shared);
    }
    listen(shared, models);
}

/// Passes on what the models' backends say.
fn listen(shared: &Shared, models: &[Arc<Model>]) {
    for messages in models.iter().filter_map(|model| model.messages.as_ref()) {
        for message in messages.try_iter().take(MESSAGES_PER_TURN) {
            shared.reports.pass_on(message);
        }
    }
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

fn look_at(shared: &Arc<Shared>, model: &Arc<Model>) {
    let now = shared.clock.mono();
    let mut hung = Vec::new();
    model.slots.lock().retain(|slot| match slot.take_overdue(now, model.plan.deadline) {
        Some(pendings) => {
            hung.push(pendings);
            false
        }
        None => true,
    });
    for pendings in hung {
        let counters = &shared.metrics.models[model.number];
        let abandoned = counters.instances_abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        counters.instances_running.fetch_sub(1, Ordering::Relaxed);
        counters.failed_batches.fetch_add(1, Ordering::Relaxed);
        let message = format!("no answer within {} ms; its instance is given up", model.plan.deadline.as_millis());
        let subject = format!("model {}", model.plan.name);
        shared
            .reports
            .say(Level::Error, &subject, "deadline", || format!("{}: {message}", DropReason::DeadlineExceeded.name()));
        shared.fail(pendings, DropReason::DeadlineExceeded, &message);
        if let Some(feed) = &model.feed {
            feed.release_room(None, shared.clock.mono());
        }
        if abandoned > ABANDONED_MAX {
            shared.reports.say(Level::Error, &subject, "abandoned", || {
                format!("{abandoned} instances hang; no new one is started, restart omma once the cause is found")
            });
            continue;
        }
        let number = model.chosen.instances + usize::try_from(abandoned).unwrap_or(0);
        let (shared_too, model_too) = (Arc::clone(shared), Arc::clone(model));
        let thread = std::thread::Builder::new().name(format!("omma-{}-{number}", model.plan.name));
        if let Err(error) = thread.spawn(move || {
            (shared_too.begin_thread)(Role::Compute);
            instance::run_thread(shared_too, model_too, number, None);
        }) {
            shared.reports.say(Level::Error, &subject, "thread", || format!("no thread for a new instance: {error}"));
        }
    }
}

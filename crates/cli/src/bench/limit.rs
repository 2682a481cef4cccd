//! What keeps a configuration from holding more: told from the first measurement that was not held.

use omma_engine::infer::mode::Chosen;

use super::measure::Step;

/// The bottleneck, and what could be done about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Limit {
    /// `model`, `decode`, `source`, `publish`, `cpu`, `latency`, `unclear` or `none`.
    pub what: &'static str,
    pub why: String,
    pub advice: String,
}

/// A resource is short from this share of its time on.
const SHORT: f64 = 0.8;

pub struct Facts<'a> {
    /// The smallest number of cameras that was not held.
    pub over: Option<&'a Step>,
    /// The smallest number that was measured.
    pub first: &'a Step,
    pub models: &'a [(String, Chosen)],
    pub budget_ms: f64,
    pub cores: usize,
}

pub fn limit(facts: &Facts<'_>) -> Limit {
    let Facts { over, first, models, budget_ms, cores } = *facts;
    let Some(over) = over else {
        return Limit {
            what: "none",
            why: "every number of cameras that this bench offers was held".to_owned(),
            advice: "more cameras, or more frames/s with --fps".to_owned(),
        };
    };
    let cpu = over.cores / cores.max(1) as f64;
    let cpu_text = format!("the process used {:.1} of {cores} cores", over.cores);
    let all_busy = cpu >= 0.85;
    // The model whose threads were the busiest.
    let busiest = models.iter().zip(&over.models).map(|((name, chosen), window)| {
        let threads = chosen.instances.max(1) as f64;
        let (model, decode) = if chosen.ahead {
            (window.model_threads / threads, window.decode_threads / chosen.decode_threads.max(1) as f64)
        } else {
            (window.model_threads / threads, window.decode_threads / threads)
        };
        let share = if chosen.ahead { model.max(decode) } else { model + decode };
        (share, model, decode, name, chosen)
    });
    let busiest = busiest.max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((share, model, decode, name, chosen)) = busiest.filter(|(share, ..)| *share >= SHORT) {
        let percent = |share: f64| format!("{:.0}%", (share * 100.0).min(100.0));
        let threads =
            format!("model {name}: its {} instance(s) were busy {} of the time", chosen.instances, percent(share));
        let split = format!("{} in the model, {} decoding pictures", percent(model), percent(decode));
        let (what, cheaper) = if model >= decode {
            ("model", "a smaller or int8 model, a smaller input, a faster runtime, or fewer frames/s")
        } else {
            ("decode", "smaller pictures from the cameras (or substreams), or fewer frames/s")
        };
        let room = !all_busy && chosen.instances.max(chosen.decode_threads) < cores;
        let advice = if !room {
            format!("{cheaper}; or more cores")
        } else if chosen.ahead && decode > model {
            "more feeder_executor_threads, as there are cores left".to_owned()
        } else {
            format!("more instances, as there are cores left; or {cheaper}")
        };
        return Limit { what, why: format!("{threads} ({split}); {cpu_text}"), advice };
    }
    let publish = over.stages.iter().find(|stage| stage.stage == "publish").map_or(0.0, |stage| stage.p99_ms);
    if over.reader_lag_p99_ms > budget_ms / 4.0 && !all_busy {
        return Limit {
            what: "source",
            why: format!(
                "frames waited up to {:.1} ms (p99) until a reader took them; {cpu_text}",
                over.reader_lag_p99_ms
            ),
            advice: "more engine.readers".to_owned(),
        };
    }
    if publish > budget_ms / 2.0 {
        return Limit {
            what: "publish",
            why: format!("ordering and publishing took up to {publish:.1} ms (p99); {cpu_text}"),
            advice: "a faster sink: what is behind it, or the network and disk on the way there".to_owned(),
        };
    }
    if all_busy {
        return Limit {
            what: "cpu",
            why: format!("{cpu_text}, the models' threads had to wait for them"),
            advice: "more cores, or nothing else beside omma on this machine".to_owned(),
        };
    }
    if first.p99_ms > budget_ms * 0.7 {
        return Limit {
            what: "latency",
            why: format!("even {} camera(s) had a p99 of {:.1} ms", first.cameras, first.p99_ms),
            advice: "a larger --latency-ms, or a faster model".to_owned(),
        };
    }
    Limit {
        what: "unclear",
        why: format!("no resource was used up ({cpu_text}); the machine was perhaps busy with something else"),
        advice: "run it again on a quiet machine".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::StageTime;
    use super::*;
    use crate::figures::ModelWindow;
    use omma_engine::plan::BatchPlan;

    fn step(cores: f64, lag: f64, publish: f64, model: f64, decode: f64) -> Step {
        Step {
            cameras: 100,
            offered_per_s: 1000.0,
            published_per_s: 900.0,
            p50_ms: 50.0,
            p99_ms: 200.0,
            lost: 0.1,
            cores,
            reader_lag_p99_ms: lag,
            stages: vec![StageTime { stage: "publish", mean_ms: publish / 2.0, p99_ms: publish }],
            models: vec![ModelWindow { model_threads: model, decode_threads: decode }],
            held: false,
        }
    }

    #[test]
    fn the_bottleneck_is_told_from_what_was_used_up() {
        let chosen = |ahead, instances| Chosen {
            ahead,
            instances,
            decode_threads: if ahead { 4 } else { 0 },
            batch: BatchPlan::default(),
            why: String::new(),
        };
        let calm = Step { p99_ms: 5.0, ..step(0.1, 0.0, 0.1, 0.1, 0.1) };
        let slow = Step { p99_ms: 90.0, ..calm.clone() };
        for (over, first, ahead, instances, what) in [
            (step(3.9, 1.0, 1.0, 3.0, 0.9), &calm, false, 4, "model"),
            (step(3.9, 1.0, 1.0, 0.9, 3.0), &calm, false, 4, "decode"),
            (step(1.2, 1.0, 1.0, 0.95, 0.5), &calm, true, 1, "model"),
            (step(3.5, 1.0, 1.0, 0.3, 3.9), &calm, true, 1, "decode"),
            (step(1.2, 60.0, 1.0, 0.2, 0.2), &calm, false, 4, "source"),
            (step(1.2, 1.0, 80.0, 0.2, 0.2), &calm, false, 4, "publish"),
            (step(3.9, 1.0, 1.0, 1.0, 1.0), &calm, false, 4, "cpu"),
            (step(0.5, 1.0, 1.0, 0.2, 0.2), &slow, false, 4, "latency"),
            (step(0.5, 1.0, 1.0, 0.2, 0.2), &calm, false, 4, "unclear"),
        ] {
            let models = [("eyes".to_owned(), chosen(ahead, instances))];
            let facts = Facts { over: Some(&over), first, models: &models, budget_ms: 100.0, cores: 4 };
            assert_eq!(limit(&facts).what, what, "{over:?}");
        }
        let facts = Facts { over: None, first: &calm, models: &[], budget_ms: 100.0, cores: 4 };
        assert_eq!(limit(&facts).what, "none");
    }
}

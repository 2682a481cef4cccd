//! The search for the most cameras that are held: doubling until one is not, halving the gap, confirming.
//!
//! Pure but for the measurement that is handed in.

/// What is needed of a measurement.
pub trait Outcome {
    fn held(&self) -> bool;
}

/// Where the search ended.
pub struct Found<T> {
    /// All measurements, in their order.
    pub steps: Vec<T>,
    /// Place of the confirmation; `None` if not even one camera was held.
    pub best: Option<usize>,
    /// Place of the smallest number that was not held; `None` if the limit was reached first.
    pub over: Option<usize>,
}

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub first: usize,
    pub cameras_max: usize,
    /// The gap that is close enough, as a part of what is held.
    pub precision: f64,
    /// Longer by this factor is the last measurement, which counts.
    pub confirm_spans: u32,
}

/// The confirmation may fail where a shorter measurement was lucky; then a little less is tried, so often at most.
const CONFIRMATIONS_MAX: usize = 6;

/// # Errors
/// Those of `measure`, which is called with a number of cameras and how many spans to take.
pub fn search<T: Outcome, E>(limits: Limits, mut measure: impl FnMut(usize, u32) -> Result<T, E>) -> Result<Found<T>, E> {
    let Limits { first, cameras_max, precision, confirm_spans } = limits;
    let mut steps = Vec::new();
    let mut over: Option<(usize, usize)> = None;
    let mut low = 0;
    let mut next = first.clamp(1, cameras_max);
    loop {
        let step = measure(next, 1)?;
        let held = step.held();
        steps.push(step);
        if held {
            low = next;
        } else {
            over = Some((next, steps.len() - 1));
        }
        let close = |high: usize| high - low <= ((low as f64 * precision) as usize).max(1);
        next = match over {
            Some((high, _)) if close(high) => break,
            Some((high, _)) => low + (high - low) / 2,
            None if low >= cameras_max => break,
            None => (low * 2).min(cameras_max),
        };
    }
    let mut best = None;
    for _ in 0..CONFIRMATIONS_MAX {
        if low == 0 {
            break;
        }
        let step = measure(low, confirm_spans)?;
        let held = step.held();
        steps.push(step);
        if held {
            best = Some(steps.len() - 1);
            break;
        }
        over = Some((low, steps.len() - 1));
        low = (low as f64 * (1.0 - precision)) as usize;
    }
    Ok(Found { steps, best, over: over.map(|(_, place)| place) })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Measured(usize, bool);

    impl Outcome for Measured {
        fn held(&self) -> bool {
            self.1
        }
    }

    fn limits(cameras_max: usize) -> Limits {
        Limits { first: 2, cameras_max, precision: 0.05, confirm_spans: 2 }
    }

    fn run(capacity: usize, cameras_max: usize) -> (Option<usize>, Option<usize>, usize) {
        let measure = |cameras, _| Ok::<_, ()>(Measured(cameras, cameras <= capacity));
        let found = search(limits(cameras_max), measure).unwrap();
        let at = |place: usize| found.steps[place].0;
        (found.best.map(at), found.over.map(at), found.steps.len())
    }

    #[test]
    fn the_most_cameras_that_are_held_are_found() {
        for (capacity, cameras_max, best, over) in [
            (0, 100, None, Some(1)),
            (1, 100, Some(1), Some(2)),
            (3, 100, Some(3), Some(4)),
            (500, 100, Some(100), None),
            (100, 100, Some(100), None),
        ] {
            let (found_best, found_over, _) = run(capacity, cameras_max);
            assert_eq!((found_best, found_over), (best, over), "{capacity} of {cameras_max}");
        }
        let (best, over, steps) = run(1234, 10_000);
        assert!(best.unwrap() <= 1234 && best.unwrap() as f64 >= 1234.0 * 0.94, "{best:?}");
        assert!(over.unwrap() > 1234 && steps < 20);
    }

    #[test]
    fn a_lucky_measurement_is_not_believed() {
        // Up to 100 if looked at for long, 110 if not.
        let measure = |cameras, spans| Ok::<_, ()>(Measured(cameras, cameras <= if spans > 1 { 100 } else { 110 }));
        let found = search(limits(1000), measure).unwrap();
        let best = found.steps[found.best.unwrap()].0;
        assert!((90..=100).contains(&best), "{best}");
    }

    #[test]
    fn an_erratic_machine_ends_the_search_too() {
        let mut count = 0;
        let measure = |cameras, spans| {
            count += 1;
            Ok::<_, ()>(Measured(cameras, spans == 1 && cameras < 4000))
        };
        let found = search(limits(10_000), measure).unwrap();
        assert!(found.best.is_none() && count < 40);
    }
}

//! Sinks: each that is configured becomes one of the engine's, and one for each master where it leads into a Redis
//! Cluster (its lanes), so that a master that is away holds up its own cameras only. A configured route becomes one for
//! each combination of its sinks' lanes; which of them a camera takes follows from its id ([`Ways`]).

use std::sync::Arc;

use omma_adapters::sink::NullSink;
use omma_adapters::sink::jsonl::{self, JsonlSink, ModelLabels};
#[cfg(feature = "redis")]
use omma_adapters::sink::redis::Lanes;
use omma_config::{Config, Durability, SinkConfig, SinkKind};
use omma_engine::cameras::CameraPlan;
use omma_engine::plan::SinkPlan;
use omma_engine::sink::Sink;
use omma_frame::CameraId;

use crate::exit::Failure;

/// The engine's sinks and routes.
#[derive(Default)]
pub(super) struct Sinks {
    pub plans: Vec<SinkPlan>,
    pub opened: Vec<Box<dyn Sink>>,
    pub routes: Vec<Vec<usize>>,
}

/// The lanes of one configured sink.
trait Parted: Send + Sync {
    fn count(&self) -> usize;
    fn lane(&self, camera: &CameraId) -> usize;
}

/// A sink that is one.
struct Whole;

impl Parted for Whole {
    fn count(&self) -> usize {
        1
    }

    fn lane(&self, _: &CameraId) -> usize {
        0
    }
}

#[cfg(feature = "redis")]
impl Parted for Lanes {
    fn count(&self) -> usize {
        Self::count(self)
    }

    fn lane(&self, camera: &CameraId) -> usize {
        Self::lane(self, camera)
    }
}

/// Which of the engine's routes cameras take.
pub(super) struct Ways {
    /// By configured route: the first of the engine's that stand for it, and its sinks' lanes.
    routes: Vec<(usize, Vec<Arc<dyn Parted>>)>,
}

impl Ways {
    /// From the route that is configured for the camera to the engine's.
    pub fn lead(&self, plan: CameraPlan) -> CameraPlan {
        let Some((first, sinks)) = self.routes.get(plan.route) else { return plan };
        let place = sinks.iter().fold(0, |place, sink| place * sink.count() + sink.lane(&plan.id));
        CameraPlan { route: first + place, ..plan }
    }
}

/// Opens all sinks.
pub(super) fn open(
    config: &Config,
    labels: &[ModelLabels],
    notes: &mut Vec<String>,
) -> Result<(Sinks, Arc<Ways>), Failure> {
    let mut sinks = Sinks::default();
    // By configured sink: the first of the engine's that stand for it, and its lanes.
    let mut lanes: Vec<(usize, Arc<dyn Parted>)> = Vec::new();
    for sink in &config.sinks {
        let parted = parted(config, sink, notes)?;
        let count = parted.count();
        lanes.push((sinks.plans.len(), parted));
        for lane in 0..count {
            let name = if count == 1 { sink.plan.name.clone() } else { format!("{}/{lane}", sink.plan.name) };
            sinks.plans.push(SinkPlan { name, ..sink.plan.clone() });
            sinks.opened.push(open_one(sink, labels, notes)?);
        }
    }
    let mut ways = Ways { routes: Vec::new() };
    for route in &config.routes {
        let first = sinks.routes.len();
        let combined = route.iter().fold(vec![Vec::new()], |routes: Vec<Vec<usize>>, sink| {
            let (first, parted) = &lanes[*sink];
            let with = |route: &Vec<usize>, lane: usize| [&route[..], &[first + lane]].concat();
            routes.iter().flat_map(|route| (0..parted.count()).map(move |lane| with(route, lane))).collect()
        });
        sinks.routes.extend(combined);
        ways.routes.push((first, route.iter().map(|sink| Arc::clone(&lanes[*sink].1)).collect()));
    }
    Ok((sinks, Arc::new(ways)))
}

#[cfg(feature = "redis")]
fn parted(config: &Config, sink: &SinkConfig, notes: &mut Vec<String>) -> Result<Arc<dyn Parted>, Failure> {
    let SinkKind::Redis { .. } = &sink.kind else { return Ok(Arc::new(Whole)) };
    let clusters =
        config.sinks.iter().filter(|sink| matches!(&sink.kind, SinkKind::Redis { redis, .. } if redis.cluster)).count();
    // Combinations of several clusters' lanes stay few.
    let most = match clusters {
        0 | 1 => 32,
        2 => 8,
        3 => 4,
        _ => 1,
    };
    let name = &sink.plan.name;
    let options = super::redis::sink_options(&sink.kind);
    let options = options.map_err(|message| Failure::usage(format!("sink {name}: {message}")))?;
    let (lanes, why) = Lanes::of(&options, config.engine.shards, most);
    if let Some(why) = why {
        notes.push(format!(
            "sink {name}: the cluster does not say which master has which slots ({why}); its results go in {} parts, \
             each of which waits for all masters that it leads to",
            lanes.count()
        ));
    }
    Ok(Arc::new(lanes))
}

#[cfg(not(feature = "redis"))]
fn parted(_: &Config, _: &SinkConfig, _: &mut Vec<String>) -> Result<Arc<dyn Parted>, Failure> {
    Ok(Arc::new(Whole))
}

fn open_one(config: &SinkConfig, labels: &[ModelLabels], notes: &mut Vec<String>) -> Result<Box<dyn Sink>, Failure> {
    let (path, durability) = match &config.kind {
        SinkKind::Null => return Ok(Box::new(NullSink::default())),
        #[cfg(feature = "redis")]
        SinkKind::Redis { .. } => {
            let failed = |message: String| Failure::usage(format!("sink {}: {message}", config.plan.name));
            return Ok(Box::new(super::redis::sink(&config.kind, labels).map_err(failed)?));
        }
        #[cfg(not(feature = "redis"))]
        SinkKind::Redis { .. } => {
            let message = "this build knows no Redis (feature `redis`)";
            return Err(Failure::usage(format!("sink {}: {message}", config.plan.name)));
        }
        SinkKind::Jsonl { path, durability } => (path, durability),
    };
    let name = &config.plan.name;
    let failed = |error: jsonl::OpenError| Failure::usage(format!("sink {name}: {error}"));
    let Some(path) = path else {
        return Ok(Box::new(JsonlSink::stdout(labels.to_vec()).map_err(failed)?));
    };
    let durability = match durability {
        // Both write once per delivery; there is no buffer of our own in between that a crash could lose.
        Durability::None | Durability::Flush => jsonl::Durability::Written,
        Durability::Fsync => jsonl::Durability::Synced,
    };
    let (sink, cut) = JsonlSink::append(path, durability, labels.to_vec()).map_err(failed)?;
    if cut > 0 {
        notes.push(format!("sink {name}: half a line ({cut} bytes), left by a crash, was cut off the end of the file"));
    }
    Ok(Box::new(sink))
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_engine::cameras::Delivery;

    struct Split(usize);

    impl Parted for Split {
        fn count(&self) -> usize {
            self.0
        }

        /// By the id's last digit.
        fn lane(&self, camera: &CameraId) -> usize {
            camera.as_str().bytes().last().map_or(0, |digit| usize::from(digit - b'0')) % self.0
        }
    }

    #[test]
    fn a_camera_takes_the_combination_of_its_lanes() {
        let split = |lanes: usize| Arc::new(Split(lanes)) as Arc<dyn Parted>;
        // Two configured routes: over sinks of 2 and 3 lanes, and over one alone.
        let ways = Ways { routes: vec![(0, vec![split(2), split(3)]), (6, vec![split(1)])] };
        for (id, configured, expected) in
            [("c0", 0, 0), ("c1", 0, 4), ("c2", 0, 2), ("c3", 0, 3), ("c4", 0, 1), ("c5", 0, 5), ("c5", 1, 6)]
        {
            let plan = CameraPlan {
                id: CameraId::new(id).expect("an id"),
                delivery: Delivery::Every,
                model: 0,
                route: configured,
                entry_ids: false,
                waiting_frames_max: 1,
                in_flight_frames_max: 1,
            };
            assert_eq!(ways.lead(plan).route, expected, "{id} by route {configured}");
        }
    }
}

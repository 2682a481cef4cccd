//! Who is where at a moment: departures along the lanes of a place, as a function of time.
//!
//! A lane departs in numbered slots; a slot's generator alone decides whether anybody sets out,
//! when, how fast and along which line. To know the state at a moment it is enough to ask the
//! slots that could still be under way, so any moment costs the same, without a past.

use crate::place::{Lane, Place, Who};
use crate::rng::{Rng, key};

/// Anybody or anything moving (or parked) at a moment.
#[derive(Clone)]
pub struct Actor {
    pub who: Who,
    pub x: f32,
    pub z: f32,
    pub heading: (f32, f32),
    /// Metres covered since it set out: the phase of legs and wheels.
    pub covered: f32,
    pub moving: bool,
    /// The same for the same actor in every frame.
    pub id: u64,
}

/// More than a picture can hold; the stamps of the canvas have seven bits.
pub const MOST: usize = 120;

/// Longest pause of somebody who lingers, in seconds.
const PAUSE: f32 = 25.0;

/// Fills `actors` with those present at `seconds`, farthest first.
pub fn present(place: &Place, keys: [u64; 2], seconds: f64, actors: &mut Vec<Actor>) {
    actors.clear();
    for (i, parked) in place.parked.iter().enumerate() {
        actors.push(Actor {
            who: parked.who,
            x: parked.at.0,
            z: parked.at.1,
            heading: parked.heading,
            covered: 0.0,
            moving: false,
            id: key(&[keys[0], keys[1], u64::MAX, i as u64]),
        });
    }
    for (i, lane) in place.lanes.iter().enumerate() {
        depart(lane, [keys[0], keys[1], i as u64], seconds, actors);
    }
    actors.sort_by(|a, b| b.z.total_cmp(&a.z).then(a.id.cmp(&b.id)));
    // The farthest go first: they are the ones least seen.
    let surplus = actors.len().saturating_sub(MOST);
    actors.drain(..surplus);
}

fn depart(lane: &Lane, keys: [u64; 3], seconds: f64, actors: &mut Vec<Actor>) {
    let (dx, dz) = (lane.to.0 - lane.from.0, lane.to.1 - lane.from.1);
    let reach = (dx * dx + dz * dz).sqrt() + 2.0 * lane.spread;
    let pause = if lane.linger > 0.0 { PAUSE } else { 0.0 };
    let longest = reach / lane.speed.0 + pause + lane.period;
    let period = f64::from(lane.period);
    let last = (seconds / period).floor() as i64;
    let first = ((seconds - f64::from(longest)) / period).floor() as i64;
    for slot in first..=last {
        let id = key(&[keys[0], keys[1], keys[2], slot as u64]);
        let mut rng = Rng::keyed(&[id]);
        if !rng.chance(lane.chance) {
            continue;
        }
        // Half of the period stays free, so that cars of a lane never set out bumper to bumper.
        let start = slot as f64 * period + f64::from(rng.range(0.0, 0.5) * lane.period);
        if seconds < start {
            continue;
        }
        let elapsed = (seconds - start) as f32;
        if let Some(actor) = under_way(lane, &mut rng, elapsed, id) {
            actors.push(actor);
        }
    }
}

fn under_way(lane: &Lane, rng: &mut Rng, elapsed: f32, id: u64) -> Option<Actor> {
    let (mut from, mut to) = (lane.from, lane.to);
    let lengthwise = (to.1 - from.1).abs() > (to.0 - from.0).abs();
    for end in [&mut from, &mut to] {
        let shift = rng.range(-lane.spread, lane.spread);
        if lengthwise {
            end.0 += shift;
        } else {
            end.1 += shift;
        }
    }
    if lane.both_ways && rng.chance(0.5) {
        std::mem::swap(&mut from, &mut to);
    }
    let speed = rng.range(lane.speed.0, lane.speed.1);
    let (dx, dz) = (to.0 - from.0, to.1 - from.1);
    let length = (dx * dx + dz * dz).sqrt();
    let mut time = elapsed;
    let mut moving = true;
    if rng.chance(lane.linger) {
        let (stop, pause) = (rng.range(0.25, 0.75) * length / speed, rng.range(4.0, PAUSE));
        moving = time < stop || time > stop + pause;
        time = if time < stop { time } else { (time - pause).max(stop) };
    }
    let covered = time * speed;
    if covered > length {
        return None;
    }
    let t = covered / length;
    Some(Actor {
        who: lane.who,
        x: from.0 + dx * t,
        z: from.1 + dz * t,
        heading: (dx / length, dz / length),
        covered,
        moving,
        id,
    })
}

//! The shards of one reader: what a camera's policy says of a frame before anything is decoded.
//!
//! Pure but for the ledger's counters, which it alone writes for its cameras: it admits arrivals (sequence, gaps,
//! duplicates, bounds), knows how much room each camera has, and hears every settlement.

mod count;

use std::sync::Arc;

use omma_frame::{Arrival, CameraIndex, DropReason, Fate, Frame, Mono, Settlement, UnixNanos};

use self::count::{Count, Duplicate};
use crate::cameras::{Camera, Delivery};
use crate::ledger::{CameraCounters, Ledger};

/// One camera as its shard sees it.
struct State {
    delivery: Delivery,
    model: u32,
    route: u32,
    waiting_frames_max: u32,
    in_flight_frames_max: u32,
    in_flight: u32,
    /// Not to be read for the time being.
    held: bool,
    count: Count,
    counters: Arc<CameraCounters>,
}

/// An admitted frame and what the next stages need to know of its camera.
#[derive(Debug)]
pub struct Admitted {
    pub frame: Frame,
    pub model: usize,
    /// When it becomes too old; `None`: never.
    pub expires: Option<Mono>,
    /// How many frames of its camera may wait for a batch; `None`: as many as are let in.
    pub room: Option<u32>,
}

pub struct Shards {
    ledger: Arc<Ledger>,
    payload_bytes_max: usize,
    read_frames_max: usize,
    /// By camera index; cameras of other readers have none.
    states: Vec<Option<Box<State>>>,
    in_flight: usize,
    /// Frames in flight of `every` cameras, by route.
    every_in_flight: Vec<usize>,
}

/// What keeps `every` cameras from being read.
pub struct Pressure {
    /// By model: its desk holds as many frames as it may.
    pub model_full: Vec<bool>,
    /// By model: the frames at its desk hold as many bytes as they may. It keeps `latest` cameras from being read too.
    pub model_bytes_full: Vec<bool>,
    /// By route: the most frames of `every` cameras that this reader may have in flight, so that the route's sinks
    /// never hold more than their buffers.
    pub route_frames_max: Vec<usize>,
}

impl Shards {
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, payload_bytes_max: usize, read_frames_max: usize) -> Self {
        Self {
            ledger,
            payload_bytes_max,
            read_frames_max,
            states: Vec::new(),
            in_flight: 0,
            every_in_flight: Vec::new(),
        }
    }

    /// Takes ownership of a camera.
    pub fn own(&mut self, camera: &Camera) {
        let slot = camera.index.slot();
        if self.states.len() <= slot {
            self.states.resize_with(slot + 1, || None);
        }
        let plan = &camera.plan;
        if self.every_in_flight.len() <= plan.route {
            self.every_in_flight.resize(plan.route + 1, 0);
        }
        self.states[slot] = Some(Box::new(State {
            delivery: plan.delivery,
            model: u32::try_from(plan.model).unwrap_or(u32::MAX),
            route: u32::try_from(plan.route).unwrap_or(u32::MAX),
            waiting_frames_max: plan.waiting_frames_max,
            in_flight_frames_max: plan.in_flight_frames_max,
            in_flight: 0,
            held: false,
            count: Count::default(),
            counters: self.ledger.counters(camera.index),
        }));
    }

    /// Another process has had the camera: its next frame only tells where the count stands, like its first.
    pub fn resume(&mut self, camera: CameraIndex) {
        if let Some(Some(state)) = self.states.get_mut(camera.slot()) {
            state.count.resume();
        }
    }

    /// Looks at an arrival. Whatever it returns, the frame has been received; an `Err` has been settled here and now,
    /// and only its source need hear of it.
    ///
    /// # Errors
    /// The settlement of a frame that may not go on. `None` if the camera is not owned here: a fault of its source.
    pub fn admit(&mut self, arrival: Arrival, now: Mono, unix: UnixNanos) -> Result<Admitted, Option<Settlement>> {
        let Some(Some(state)) = self.states.get_mut(arrival.camera.slot()) else { return Err(None) };
        let fate = |sequence, reason| {
            Some(Settlement { camera: arrival.camera, sequence, token: arrival.token, fate: Fate::Dropped(reason) })
        };
        state.counters.overtake(arrival.overtaken);
        state.counters.receive();
        let sequence = match state.count.place(&arrival) {
            Ok((sequence, lost)) => {
                state.counters.lose_upstream(lost);
                sequence
            }
            Err(Duplicate(sequence)) => {
                state.counters.drop_for(DropReason::Duplicate);
                return Err(fate(sequence, DropReason::Duplicate));
            }
        };
        let unfit = match arrival.payload.byte_len() {
            Some(0) => Some(DropReason::PayloadEmpty),
            Some(bytes) if bytes > self.payload_bytes_max => Some(DropReason::PayloadTooLarge),
            _ => None,
        };
        if let Some(reason) = unfit {
            state.counters.drop_for(reason);
            return Err(fate(sequence, reason));
        }
        state.in_flight += 1;
        self.in_flight += 1;
        let (expires, room) = match state.delivery {
            Delivery::Latest { age_max } => (Some(now.plus(age_max)), Some(state.waiting_frames_max)),
            Delivery::Every => {
                self.every_in_flight[state.route as usize] += 1;
                (None, None)
            }
        };
        Ok(Admitted {
            frame: Frame {
                camera: arrival.camera,
                sequence,
                token: arrival.token,
                captured_at: arrival.captured_at.unwrap_or(unix),
                received_at: now,
                payload: arrival.payload,
                name: arrival.name,
            },
            model: state.model as usize,
            expires,
            room,
        })
    }

    /// A frame that was admitted has met its fate.
    pub fn settle(&mut self, settlement: &Settlement) {
        let Some(Some(state)) = self.states.get_mut(settlement.camera.slot()) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        if state.delivery == Delivery::Every {
            let every = &mut self.every_in_flight[state.route as usize];
            *every = every.saturating_sub(1);
        }
        match settlement.fate {
            Fate::Published => state.counters.publish(),
            Fate::Dropped(reason) => state.counters.drop_for(reason),
        }
    }

    /// Lets a camera deliver nothing, or again.
    pub fn hold(&mut self, camera: CameraIndex, held: bool) {
        if let Some(Some(state)) = self.states.get_mut(camera.slot()) {
            state.held = held;
        }
    }

    /// From now on this model looks at the camera's frames, if none of them is under way to another: their order would be
    /// nobody's.
    pub fn assign(&mut self, camera: CameraIndex, model: usize) -> bool {
        match self.states.get_mut(camera.slot()) {
            Some(Some(state)) if state.in_flight == 0 => {
                state.model = u32::try_from(model).unwrap_or(u32::MAX);
                true
            }
            _ => false,
        }
    }

    /// How many frames the camera may deliver now.
    #[must_use]
    pub fn room(&self, camera: CameraIndex, pressure: &Pressure) -> usize {
        let Some(Some(state)) = self.states.get(camera.slot()) else { return 0 };
        if state.held || pressure.model_bytes_full[state.model as usize] {
            return 0;
        }
        if state.delivery != Delivery::Every {
            return self.read_frames_max;
        }
        let (model, route) = (state.model as usize, state.route as usize);
        if pressure.model_full[model] || self.every_in_flight[route] >= pressure.route_frames_max[route] {
            return 0;
        }
        self.read_frames_max.min(state.in_flight_frames_max.saturating_sub(state.in_flight) as usize)
    }

    /// The route of an `every` camera; `None` for others and strangers.
    #[must_use]
    pub fn every_route(&self, camera: CameraIndex) -> Option<usize> {
        let state = self.states.get(camera.slot())?.as_ref()?;
        (state.delivery == Delivery::Every).then_some(state.route as usize)
    }

    /// How many frames of `every` cameras this route has room for in all.
    #[must_use]
    pub fn route_left(&self, route: usize, pressure: &Pressure) -> usize {
        pressure.route_frames_max[route].saturating_sub(self.every_in_flight.get(route).copied().unwrap_or_default())
    }

    /// Frames admitted and not yet settled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests;

//! The plan of a camera's place: its view and light, what lies where, and who passes by.
//!
//! A place is chosen once per camera from (seed, camera) and is a few hundred bytes; drawing it
//! is the backdrop's and the props' business, peopling it the traffic's.

use crate::camera::View;
use crate::colour::Light;
use crate::props::Prop;
use crate::rng::Rng;

/// What sort of place a camera looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A road across the picture, pavements, houses behind.
    Street,
    /// A road away from the camera between houses.
    Avenue,
    /// A paved square.
    Plaza,
    /// Grass and paths before trees.
    Park,
    /// Indoors: a concourse or a garage.
    Hall,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surface {
    Asphalt,
    /// Asphalt with a dashed line along the middle of the band.
    Marked,
    Slabs,
    Cycleway,
    Grass,
    Gravel,
    Tiles,
    Concrete,
}

/// A strip of ground: along z where the road crosses the picture, along |x| in an avenue.
#[derive(Clone, Copy)]
pub struct Band {
    pub until: f32,
    pub surface: Surface,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Person,
    Car,
    /// Always ridden: a bicycle on a lane moves.
    Bicycle,
}

/// A stream of departures along a line on the ground.
#[derive(Clone, Copy)]
pub struct Lane {
    pub who: Who,
    pub from: (f32, f32),
    pub to: (f32, f32),
    /// Either end is moved along z (and x, where the line runs along z) by up to this much.
    pub spread: f32,
    pub speed: (f32, f32),
    /// Seconds between departures, of which each happens with `chance`.
    pub period: f32,
    pub chance: f32,
    /// Half of the departures go the other way.
    pub both_ways: bool,
    /// Share of those passing who stop for a while.
    pub linger: f32,
}

/// Something left standing for good: a parked car, a bicycle on its stand.
#[derive(Clone, Copy)]
pub struct Parked {
    pub who: Who,
    pub at: (f32, f32),
    pub heading: (f32, f32),
}

pub struct Place {
    pub kind: Kind,
    pub view: View,
    pub light: Light,
    pub texture: u32,
    pub bands: Vec<Band>,
    /// Distance of what closes the view: facades, trees or a wall.
    pub back: f32,
    /// What closes it is trees, not facades.
    pub wooded: bool,
    /// Distance to either side of walls along the view, and the height of a ceiling.
    pub sides: Option<f32>,
    pub ceiling: Option<f32>,
    pub lanes: Vec<Lane>,
    pub parked: Vec<Parked>,
    pub props: Vec<Prop>,
}

impl Place {
    pub fn plan(rng: &mut Rng, width: f32, height: f32) -> Self {
        let kind = rng.pick(&[
            Kind::Street,
            Kind::Street,
            Kind::Street,
            Kind::Avenue,
            Kind::Avenue,
            Kind::Plaza,
            Kind::Plaza,
            Kind::Park,
            Kind::Park,
            Kind::Hall,
        ]);
        let indoors = kind == Kind::Hall;
        let view = View {
            width,
            height,
            focal: width * rng.range(0.85, 1.2),
            above: if indoors { rng.range(2.8, 3.8) } else { rng.range(2.9, 4.8) },
            horizon: height * rng.range(0.14, 0.36),
            axis: width * rng.range(0.42, 0.58),
        };
        let light = if indoors { Light::indoors(rng) } else { Light::outdoors(rng) };
        let mut place = Self {
            kind,
            view,
            light,
            texture: rng.bits() as u32,
            bands: Vec::new(),
            back: 40.0,
            wooded: false,
            sides: None,
            ceiling: None,
            lanes: Vec::new(),
            parked: Vec::new(),
            props: Vec::new(),
        };
        match kind {
            Kind::Street => place.street(rng),
            Kind::Avenue => place.avenue(rng),
            Kind::Plaza => place.plaza(rng),
            Kind::Park => place.park(rng),
            Kind::Hall => place.hall(rng),
        }
        // Far things first, so that nearer ones are painted over them.
        place.props.sort_by(|a, b| b.z.total_cmp(&a.z));
        place
    }
}

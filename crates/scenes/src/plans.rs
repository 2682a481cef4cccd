//! The five plans: how a street, an avenue, a plaza, a park and a hall are laid out.
//!
//! Distances are metres from the camera; a plan works outward from the nearest ground in view
//! and leaves every lane beginning and ending beyond the picture.

use crate::place::{Band, Lane, Parked, Place, Surface, Who};
use crate::props::{Prop, PropKind};
use crate::rng::Rng;

/// Walkers' and riders' paces in metres per second.
const WALK: (f32, f32) = (0.9, 1.7);
const RIDE: (f32, f32) = (3.0, 5.5);

impl Place {
    /// Distance of the ground at the picture's lower edge.
    fn near(&self) -> f32 {
        self.view.bottom(0.0)
    }

    fn band(&mut self, until: f32, surface: Surface) {
        self.bands.push(Band { until, surface });
    }

    /// A lane across the picture at a distance, beginning and ending beyond its edges.
    fn across(&mut self, who: Who, z: f32, spread: f32, (speed, period, chance): ((f32, f32), f32, f32)) {
        let reach = |z: f32| self.view.half_width(z + spread) * 1.16 + 3.2;
        let (from, to) = ((-reach(z), z), (reach(z), z));
        self.lanes.push(Lane { who, from, to, spread, speed, period, chance, both_ways: true, linger: 0.0 });
    }

    /// A lane toward or from the camera, its near end below the picture.
    fn along(&mut self, who: Who, x: f32, spread: f32, far: f32, (speed, period, chance): ((f32, f32), f32, f32)) {
        let near = (self.view.bottom(1.2) * 0.75).max(3.2);
        self.lanes.push(Lane {
            who,
            from: (x, near),
            to: (x, far),
            spread,
            speed,
            period,
            chance,
            both_ways: true,
            linger: 0.0,
        });
    }

    fn last(&mut self) -> Option<&mut Lane> {
        self.lanes.last_mut()
    }

    fn prop(&mut self, kind: PropKind, x: f32, z: f32, rng: &mut Rng) {
        self.props.push(Prop { kind, x, z, looks: rng.bits() });
    }

    /// A row of like things along x at a distance, unevenly spaced.
    fn row(&mut self, kind: PropKind, z: f32, spacing: f32, rng: &mut Rng) {
        let reach = self.view.half_width(z) * 1.2;
        let mut x = -reach + rng.range(0.0, spacing);
        while x < reach {
            self.prop(kind, x, z + rng.range(-0.2, 0.2), rng);
            x += spacing * rng.range(0.85, 1.3);
        }
    }

    pub(crate) fn street(&mut self, rng: &mut Rng) {
        let near = self.near();
        let kerb = near + rng.range(1.6, 4.0);
        self.band(kerb, Surface::Slabs);
        self.across(Who::Person, (near + kerb) * 0.5 + 0.3, (kerb - near) * 0.3, (WALK, 5.0, 0.55));
        let mut z = kerb;
        if rng.chance(0.6) {
            self.band(z + 1.9, Surface::Cycleway);
            self.across(Who::Bicycle, z + 0.95, 0.35, (RIDE, 6.0, 0.6));
            z += 1.9;
        } else {
            self.across(Who::Bicycle, z + 0.9, 0.3, (RIDE, 8.0, 0.55));
            self.band(z + 1.6, Surface::Asphalt);
            z += 1.6;
        }
        let ways = if rng.chance(0.3) { 4 } else { 2 };
        for way in 0..ways {
            let speed = rng.range(5.0, 9.5);
            self.across(Who::Car, z + 1.65, 0.15, ((speed, speed), rng.range(3.6, 6.0), 0.45));
            let nearer_half = way < ways / 2;
            if let Some(lane) = self.last() {
                lane.both_ways = false;
                if !nearer_half {
                    std::mem::swap(&mut lane.from, &mut lane.to);
                }
            }
            z += 3.3;
            // Two lanes share a band: its middle is where the dashes go.
            if way % 2 == 1 {
                self.band(z, Surface::Marked);
            }
        }
        if rng.chance(0.5) {
            self.band(z + 2.1, Surface::Asphalt);
            self.park_along(z + 1.05, rng);
            z += 2.1;
        }
        let far = z + rng.range(2.6, 4.2);
        self.across(Who::Person, (z + far) * 0.5, (far - z) * 0.3, (WALK, 4.0, 0.6));
        self.band(far, Surface::Slabs);
        if rng.chance(0.5) {
            self.bicycle_stand(far - 0.6, rng);
        }
        self.wooded = rng.chance(0.3);
        self.back = if self.wooded { far + 12.0 } else { far };
        self.band(f32::MAX, if self.wooded { Surface::Grass } else { Surface::Slabs });
        let crossing = rng.range(-0.4, 0.4) * self.view.half_width(near);
        self.along(Who::Person, crossing, 1.0, far - 0.8, (WALK, 11.0, 0.5));
        if rng.chance(0.8) {
            self.row(
                rng.pick(&[PropKind::Tree, PropKind::Lamp, PropKind::Bollard]),
                kerb - 0.4,
                rng.range(6.0, 12.0),
                rng,
            );
        }
        self.row(rng.pick(&[PropKind::Tree, PropKind::Lamp, PropKind::Bush]), z + 0.5, rng.range(5.0, 9.0), rng);
        if rng.chance(0.5) {
            let x = rng.range(-0.6, 0.6) * self.view.half_width(far);
            self.prop(PropKind::Bench, x, far - 0.5, rng);
        }
    }

    pub(crate) fn avenue(&mut self, rng: &mut Rng) {
        let lanes = rng.range(3.4, 4.2);
        let parking = rng.chance(0.4);
        let road = if parking { lanes + 2.1 } else { lanes };
        let path = road + rng.range(2.2, 3.6);
        let wide = path + rng.range(0.0, 2.0);
        self.band(road, Surface::Marked);
        self.band(path, Surface::Slabs);
        self.band(f32::MAX, if rng.chance(0.5) { Surface::Grass } else { Surface::Slabs });
        self.sides = Some(wide);
        self.back = rng.range(60.0, 90.0);
        self.wooded = rng.chance(0.5);
        for side in [-1.0, 1.0] {
            let speed = rng.range(4.5, 8.0);
            self.along(Who::Car, side * lanes * 0.5, 0.2, 52.0, ((speed, speed), rng.range(4.0, 6.0), 0.5));
            if let Some(lane) = self.last() {
                lane.both_ways = false;
                if side < 0.0 {
                    std::mem::swap(&mut lane.from, &mut lane.to);
                }
            }
            self.along(Who::Person, side * (road + path) * 0.5, 0.5, 38.0, (WALK, 7.0, 0.6));
            self.along(Who::Bicycle, side * (lanes - 0.5), 0.2, 42.0, (RIDE, 8.0, 0.55));
        }
        let crossing = self.near() + rng.range(1.5, 6.0);
        self.across(Who::Person, crossing, 0.9, (WALK, 7.0, 0.6));
        self.across(Who::Bicycle, crossing + 2.0, 0.5, (RIDE, 9.0, 0.6));
        if rng.chance(0.6) {
            let speed = rng.range(4.0, 7.0);
            self.across(Who::Car, crossing + 6.0, 0.3, ((speed, speed), 7.0, 0.5));
        }
        for side in [-1.0, 1.0] {
            let kind = rng.pick(&[PropKind::Tree, PropKind::Lamp, PropKind::Bollard, PropKind::Bush]);
            let mut z = self.near() + rng.range(1.0, 8.0);
            while z < 60.0 {
                self.prop(kind, side * (road + 0.45), z, rng);
                z += rng.range(7.0, 11.0);
            }
            if parking {
                let mut z = self.near() + rng.range(3.0, 9.0);
                while z < 40.0 {
                    let x = side * (road - 1.05);
                    self.parked.push(Parked { who: Who::Car, at: (x, z), heading: (0.0, side) });
                    z += rng.range(6.5, 16.0);
                }
            }
        }
    }

    pub(crate) fn plaza(&mut self, rng: &mut Rng) {
        let near = self.near();
        self.back = rng.range(26.0, 40.0);
        self.wooded = rng.chance(0.15);
        self.band(self.back - 7.0, if rng.chance(0.7) { Surface::Tiles } else { Surface::Slabs });
        self.band(self.back - 2.5, Surface::Asphalt);
        self.band(f32::MAX, Surface::Slabs);
        let depth = self.back - 8.0 - near;
        for share in [0.12, 0.4, 0.75] {
            self.across(Who::Person, near + share * depth, depth * 0.2, (WALK, 6.0, 0.6));
            if let Some(lane) = self.last() {
                lane.linger = 0.3;
            }
        }
        let x = rng.range(-2.0, 2.0);
        self.along(Who::Person, x, 3.0, self.back - 8.0, (WALK, 7.0, 0.6));
        self.across(Who::Bicycle, near + 0.3 * depth, depth * 0.2, (RIDE, 4.5, 0.6));
        self.across(Who::Bicycle, near + 0.65 * depth, depth * 0.2, (RIDE, 6.0, 0.6));
        let speed = rng.range(4.0, 7.0);
        self.across(Who::Car, self.back - 4.7, 0.3, ((speed, speed), 4.0, 0.6));
        if rng.chance(0.5) {
            let speed = rng.range(3.0, 5.0);
            self.across(Who::Car, near + 0.5 * depth, 1.5, ((speed, speed), 9.0, 0.4));
        }
        self.bicycle_stand(near + rng.range(0.2, 0.8) * depth, rng);
        for _ in 0..rng.below(6) + 1 {
            let z = near + rng.range(0.05, 1.0) * depth;
            let x = rng.range(-1.0, 1.0) * self.view.half_width(z);
            let kind =
                rng.pick(&[PropKind::Tree, PropKind::Lamp, PropKind::Bench, PropKind::Planter, PropKind::Bollard]);
            self.prop(kind, x, z, rng);
        }
    }

    pub(crate) fn park(&mut self, rng: &mut Rng) {
        let near = self.near();
        let path = near + rng.range(0.5, 4.0);
        let wide = rng.range(2.4, 4.0);
        let surface = if rng.chance(0.6) { Surface::Gravel } else { Surface::Asphalt };
        self.band(path, Surface::Grass);
        self.band(path + wide, surface);
        self.across(Who::Person, path + wide * 0.5, wide * 0.4, (WALK, 4.5, 0.6));
        self.across(Who::Bicycle, path + wide * 0.5, wide * 0.3, (RIDE, 4.5, 0.65));
        let lawn = path + wide + rng.range(4.0, 8.0);
        self.band(lawn, Surface::Grass);
        self.across(Who::Person, (path + wide + lawn) * 0.5, 2.0, (WALK, 9.0, 0.6));
        if let Some(lane) = self.last() {
            lane.linger = 0.7;
        }
        let mut z = lawn + 2.2;
        self.band(z, surface);
        self.across(Who::Person, lawn + 1.1, 0.5, (WALK, 5.0, 0.5));
        self.across(Who::Bicycle, lawn + 1.1, 0.5, (RIDE, 6.0, 0.5));
        if rng.chance(0.65) {
            z += 2.0;
            self.band(z, Surface::Grass);
            self.band(z + 6.4, Surface::Marked);
            for way in [1.6, 4.8] {
                let speed = rng.range(5.0, 9.0);
                self.across(Who::Car, z + way, 0.15, ((speed, speed), 4.2, 0.55));
                if let Some(lane) = self.last() {
                    lane.both_ways = false;
                    if way > 2.0 {
                        std::mem::swap(&mut lane.from, &mut lane.to);
                    }
                }
            }
            z += 6.4;
        }
        self.band(f32::MAX, Surface::Grass);
        self.wooded = true;
        self.back = z + rng.range(4.0, 10.0);
        if rng.chance(0.6) {
            self.bicycle_stand(path + wide + 0.8, rng);
        }
        for _ in 0..3 + rng.below(5) {
            let z = rng.pick(&[path - 0.4, path + wide + 1.2, lawn - 1.0, lawn + 3.2]) + rng.range(-0.3, 0.3);
            let x = rng.range(-1.0, 1.0) * self.view.half_width(z);
            let kind = rng.pick(&[PropKind::Tree, PropKind::Tree, PropKind::Bush, PropKind::Bench, PropKind::Lamp]);
            self.prop(kind, x, z.max(near * 0.9), rng);
        }
    }

    pub(crate) fn hall(&mut self, rng: &mut Rng) {
        let near = self.near();
        let garage = rng.chance(0.5);
        self.back = rng.range(22.0, 34.0);
        self.sides = Some(rng.range(9.0, 15.0));
        self.ceiling = Some(self.view.above + rng.range(0.8, 2.6));
        self.band(f32::MAX, if garage { Surface::Concrete } else { Surface::Tiles });
        let depth = self.back - 2.0 - near;
        for share in [0.15, 0.5, 0.85] {
            self.across(Who::Person, near + share * depth, depth * 0.15, (WALK, 6.0, 0.55));
            if let Some(lane) = self.last() {
                lane.linger = 0.35;
            }
        }
        self.along(Who::Person, rng.range(-2.0, 2.0), 2.5, self.back - 1.5, (WALK, 6.0, 0.55));
        self.across(Who::Bicycle, near + 0.35 * depth, depth * 0.2, ((2.0, 3.5), 7.0, 0.5));
        self.bicycle_stand(self.back - rng.range(0.8, 6.0), rng);
        if garage {
            let z = self.back - 2.6;
            let mut x = -self.view.half_width(z).min(12.0) + rng.range(0.0, 2.0);
            while x < self.view.half_width(z).min(12.0) {
                if rng.chance(0.6) {
                    let toward = rng.sign();
                    self.parked.push(Parked { who: Who::Car, at: (x, z), heading: (0.0, toward) });
                }
                x += 2.9;
            }
            let speed = rng.range(2.5, 4.0);
            self.across(Who::Car, near + 0.55 * depth, 0.6, ((speed, speed), 8.0, 0.6));
        }
        let spacing = rng.range(5.0, 8.0);
        for z in [near + 0.32 * depth, near + 0.68 * depth] {
            if rng.chance(0.6) {
                self.row(PropKind::Column, z, spacing, rng);
            }
        }
        if !garage && rng.chance(0.7) {
            let x = rng.range(-4.0, 4.0);
            self.prop(rng.pick(&[PropKind::Bench, PropKind::Planter]), x, near + rng.range(0.3, 0.8) * depth, rng);
        }
    }

    fn park_along(&mut self, z: f32, rng: &mut Rng) {
        let reach = self.view.half_width(z) * 1.1;
        let mut x = -reach;
        while x < reach {
            if rng.chance(0.4) {
                let heading = (rng.sign(), 0.0);
                self.parked.push(Parked { who: Who::Car, at: (x, z), heading });
            }
            x += rng.range(5.8, 6.8);
        }
    }

    fn bicycle_stand(&mut self, z: f32, rng: &mut Rng) {
        let x = rng.range(-0.8, 0.8) * self.view.half_width(z);
        for i in 0..1 + rng.below(3) {
            let slant = rng.range(-0.5, 0.5);
            let heading = (rng.sign() * (1.0 - slant * slant).sqrt(), slant);
            self.parked.push(Parked { who: Who::Bicycle, at: (x + 1.9 * i as f32, z), heading });
        }
    }
}

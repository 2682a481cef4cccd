//! The picture of an empty place, drawn once per camera by casting a ray per pixel.
//!
//! A ray ends on the ground, a wall, a ceiling or the sky; each has a texture in metres, so
//! perspective comes out right by itself. Two rays per pixel soften edges. A 640x360 backdrop
//! takes some tens of milliseconds and 0.95 MB (colours and the mask of fixed things).

use crate::camera::View;
use crate::colour::{Colour, Light, rgb};
use crate::figure::Figure;
use crate::math::{cell, cloud, lerp, noise, phase, smooth, to_line};
use crate::place::{Kind, Place, Surface};
use crate::props;
use crate::raster::{Canvas, Rows};

/// Pixels kept beyond each edge of the picture, so that the camera can shake.
pub const MARGIN: usize = 4;

pub struct Backdrop {
    pub width: usize,
    pub pixels: Box<[u8]>,
    /// Depth of the fixed thing that covers a pixel, 0 for none.
    pub mask: Box<[u8]>,
}

impl Backdrop {
    pub fn draw(place: &Place) -> Self {
        let width = place.view.width as usize + 2 * MARGIN;
        let height = place.view.height as usize + 2 * MARGIN;
        let view = place.view.shifted(MARGIN as f32, MARGIN as f32);
        let mut pixels = vec![0; width * height * 3].into_boxed_slice();
        let painter = Painter { place, view, light: place.light, seed: place.texture };
        let (chunks, _) = pixels.as_chunks_mut::<3>();
        for (i, pixel) in chunks.iter_mut().enumerate() {
            let (x, y) = ((i % width) as f32, (i / width) as f32);
            let a = painter.ray(x + 0.25, y + 0.3);
            *pixel = a.toward(painter.ray(x + 0.75, y + 0.7), 0.5).bytes();
        }
        let mut mask = vec![0; width * height].into_boxed_slice();
        let mut rows = Rows::default();
        rows.resize(height);
        let mut canvas = Canvas::new((width, height), &mut pixels, &mut mask, None, &mut rows);
        for prop in &place.props {
            canvas.start(view.depth(prop.z), 0);
            let figure = Figure { view: &view, light: &place.light, x: prop.x, z: prop.z, heading: (1.0, 0.0) };
            props::draw(&mut canvas, &figure, prop, place.ceiling);
        }
        Self { width, pixels, mask }
    }
}

struct Painter<'a> {
    place: &'a Place,
    view: View,
    light: Light,
    seed: u32,
}

impl Painter<'_> {
    fn ray(&self, px: f32, py: f32) -> Colour {
        let view = &self.view;
        let (right, down) = ((px - view.axis) / view.focal, (py - view.horizon) / view.focal);
        let up_at = |z: f32| view.above - down * z;
        let ground = if down > 1e-4 { view.above / down } else { f32::MAX };
        let side = self.place.sides.map_or(f32::MAX, |x| x / right.abs().max(1e-4));
        let roof = match self.place.ceiling {
            Some(h) if down < -1e-4 => (view.above - h) / down,
            _ => f32::MAX,
        };
        let back = self.place.back;
        if ground <= side && ground <= back {
            let lit = self.light.on(self.ground(right * ground, ground));
            return self.haze(lit, ground);
        }
        if roof <= side && roof <= back {
            return self.ceiling(right * roof, roof);
        }
        let indoors = self.place.kind == Kind::Hall;
        if side <= back {
            let (salt, shade) = if right < 0.0 { (17, 0.84) } else { (91, 0.94) };
            let wall =
                if indoors { Some(self.wall(side, up_at(side), salt)) } else { self.houses(side, up_at(side), salt) };
            if let Some(colour) = wall {
                return self.haze(self.light.on(colour.times(shade)), side);
            }
        }
        let (x, y) = (right * back, up_at(back));
        let behind = if indoors {
            Some(self.wall(x, y, 5))
        } else if self.place.wooded {
            self.trees(x, y)
        } else {
            self.houses(x, y, 41)
        };
        match behind {
            Some(colour) => self.haze(self.light.on(colour), back),
            None => self.sky(px, py),
        }
    }

    fn haze(&self, colour: Colour, z: f32) -> Colour {
        colour.toward(self.light.sky_low, 0.45 * smooth(15.0, 140.0, z))
    }

    fn sky(&self, px: f32, py: f32) -> Colour {
        let h = (py / self.view.horizon.max(1.0)).clamp(0.0, 1.0);
        let base = self.light.sky_top.toward(self.light.sky_low, h);
        let scale = 640.0 / self.view.width;
        let puff = cloud(px * scale * 0.009, py * scale * 0.028, self.seed ^ 3);
        base.toward(self.light.sky_low.plus(18.0), 0.55 * smooth(0.5, 0.8, puff))
    }

    fn ground(&self, x: f32, z: f32) -> Colour {
        let away = self.place.kind == Kind::Avenue;
        // Bands run along x; in an avenue they run along z, either side of its middle.
        let (across, length) = if away { (x.abs(), z) } else { (z, x) };
        let mut low = 0.0;
        let mut surface = Surface::Slabs;
        let mut high = f32::MAX;
        for band in &self.place.bands {
            surface = band.surface;
            high = band.until;
            if across < high {
                break;
            }
            low = high;
        }
        // Detail finer than a pixel would only flicker: it fades with distance.
        let near = 1.0 - smooth(8.0, 45.0, z);
        let colour = self.surface(surface, x, z, near);
        let colour = self.marks(surface, colour, if away { x } else { across }, length, (low, high), away);
        // Where two surfaces meet: a kerb outdoors.
        let edge = (across - low).min(high - across);
        let kerb = low > 0.0 && (across - low) < 0.14 && surface != Surface::Grass;
        let colour = if kerb { rgb(176, 172, 164) } else { colour.times(1.0 - 0.12 * (1.0 - smooth(0.0, 0.5, edge))) };
        let patch = cloud(x * 0.16 + 7.0, z * 0.16, self.seed ^ 77);
        let mut shade = 0.90 + 0.2 * patch;
        if self.light.contrast > 0.5 && self.place.kind != Kind::Hall {
            shade *= self.cast(x, z);
        }
        colour.times(shade)
    }

    /// The shadow the houses or trees throw, from one side or from behind.
    fn cast(&self, x: f32, z: f32) -> f32 {
        let ragged = if self.place.wooded {
            2.0 * noise(x * 0.7, z * 0.7, self.seed ^ 8)
        } else {
            0.8 * noise(x * 0.12, 0.0, self.seed ^ 8)
        };
        let depth = match self.place.sides {
            Some(wide) => x * self.light.sun[0].signum() + 3.5 * self.light.sun[0].abs() + ragged - wide + 2.5,
            None => z - self.place.back + 4.0 * (self.light.sun[2] + 0.6) + ragged,
        };
        lerp(1.06, 0.66, smooth(-0.25, 0.25, depth))
    }

    fn surface(&self, surface: Surface, x: f32, z: f32, near: f32) -> Colour {
        let seed = self.seed;
        let grain = |scale: f32, salt: u32| (noise(x * scale, z * scale, seed ^ salt) - 0.5) * near;
        let tone = cell(1, surface as u32, seed);
        match surface {
            Surface::Asphalt | Surface::Marked => {
                rgb(98, 100, 104).plus(tone * 26.0 - 12.0 + grain(14.0, 1) * 26.0 + grain(3.0, 2) * 12.0)
            }
            Surface::Cycleway => rgb(150, 82, 70)
                .toward(rgb(96, 110, 100), if tone < 0.3 { 0.9 } else { 0.0 })
                .plus(grain(12.0, 3) * 18.0),
            Surface::Slabs => {
                let size = 0.6 + 0.6 * tone;
                let gap = to_line(x, size).min(to_line(z, size));
                let tile = cell((x / size).floor() as i32 as u32, (z / size).floor() as i32 as u32, seed ^ 4);
                let base = rgb(166, 160, 152).plus((tile - 0.5) * 16.0 * near + grain(9.0, 5) * 12.0 - 20.0 * tone);
                base.times(1.0 - 0.22 * near * (1.0 - smooth(0.012, 0.035, gap)))
            }
            Surface::Tiles => {
                let size = 0.9 + 0.9 * tone;
                let (ix, iz) = ((x / size).floor() as i32, (z / size).floor() as i32);
                let gap = to_line(x, size).min(to_line(z, size));
                let (a, b) = match (tone * 4.0) as u32 {
                    0 => (rgb(188, 178, 160), rgb(158, 146, 130)),
                    1 => (rgb(172, 174, 178), rgb(136, 138, 144)),
                    2 => (rgb(186, 158, 138), rgb(156, 128, 112)),
                    _ => (rgb(196, 194, 188), rgb(176, 172, 164)),
                };
                let dark = (ix + iz) & 1 == 0;
                let tile = cell(ix as u32, iz as u32, seed ^ 6);
                let base = if dark { b } else { a }.plus((tile - 0.5) * 12.0 + grain(8.0, 7) * 10.0);
                base.times(1.0 - 0.15 * near * (1.0 - smooth(0.015, 0.04, gap)))
            }
            Surface::Grass => {
                let blade = grain(16.0, 9) * 34.0 + grain(5.0, 10) * 22.0;
                let dry = cloud(x * 0.3, z * 0.3, seed ^ 11);
                rgb(84, 118, 58).toward(rgb(134, 132, 72), smooth(0.45, 0.9, dry) * 0.8).plus(blade)
            }
            Surface::Gravel => rgb(178, 162, 134).plus(grain(18.0, 12) * 36.0 + grain(2.0, 13) * 14.0),
            Surface::Concrete => {
                let joint = to_line(x, 4.0).min(to_line(z, 4.0));
                let stain = smooth(0.62, 0.85, cloud(x * 0.5, z * 0.5, seed ^ 14));
                let base = rgb(150, 150, 146).plus(grain(7.0, 15) * 10.0 - stain * 22.0);
                base.times(1.0 - 0.25 * near * (1.0 - smooth(0.02, 0.05, joint)))
            }
        }
    }

    /// Paint on the road: dashes along its middle, a line along its edges.
    fn marks(
        &self,
        surface: Surface,
        colour: Colour,
        across: f32,
        length: f32,
        band: (f32, f32),
        away: bool,
    ) -> Colour {
        if surface != Surface::Marked {
            return colour;
        }
        let (middle, edge) = if away { (0.0, band.1) } else { ((band.0 + band.1) * 0.5, band.1) };
        let worn = noise(across * 3.0, length * 3.0, self.seed ^ 21);
        let white = rgb(214, 212, 204).toward(colour, 0.55 * smooth(0.4, 0.9, worn));
        let dash = (across - middle).abs() < 0.08 && phase(length, 5.0) < 0.5;
        let side = (across.abs() - edge + 0.35).abs() < 0.06;
        if dash || side { white } else { colour }
    }

    /// A row of houses along `u`, or nothing above their roofs.
    fn houses(&self, u: f32, y: f32, salt: u32) -> Option<Colour> {
        let seed = self.seed ^ salt;
        let plot = 9.0 + 5.0 * cell(0, salt, seed);
        let house = (u / plot).floor();
        let pick = |n: u32| cell(house as i32 as u32, n, seed);
        let floors = 2.0 + (pick(1) * 3.9).floor();
        let tall = 3.6 + floors * 2.9;
        if y > tall {
            return None;
        }
        const FRONTS: [Colour; 9] = [
            rgb(196, 182, 160),
            rgb(168, 108, 88),
            rgb(208, 200, 186),
            rgb(150, 146, 142),
            rgb(184, 158, 118),
            rgb(134, 92, 78),
            rgb(170, 178, 176),
            rgb(206, 184, 150),
            rgb(118, 124, 132),
        ];
        let front = FRONTS[(pick(2) * 9.0) as usize % 9];
        let rough = cloud(u * 1.3, y * 1.3, seed ^ 5) - 0.5;
        let front = front.plus(rough * 16.0);
        let within = phase(u, plot) * plot;
        if y > tall - 0.35 {
            return Some(front.times(0.72));
        }
        if within < 0.12 {
            return Some(front.times(0.78));
        }
        let glass = |ix: f32, iy: f32| {
            let lit = cell((ix + 999.0) as u32, (iy + house * 31.0 + 9999.0) as u32, seed ^ 6);
            let chance = if self.light.lamps { 0.45 } else { 0.05 };
            if lit < chance { rgb(255, 226, 150).times(1.15) } else { rgb(74, 86, 98).plus(34.0 * lit) }
        };
        if y < 3.4 {
            // The ground floor: plinth, shop windows or doors, a board above.
            let bay = 2.6 + pick(3);
            let b = phase(within, bay);
            return Some(if y < 0.5 {
                front.times(0.7)
            } else if y > 2.75 && pick(4) < 0.6 {
                let board = [rgb(130, 40, 40), rgb(40, 70, 60), rgb(50, 60, 100), rgb(70, 60, 54)];
                board[(pick(5) * 4.0) as usize % 4]
            } else if b > 0.12 && b < 0.88 && y < 2.7 {
                glass((within / bay).floor(), -1.0)
            } else {
                front.times(0.92)
            });
        }
        let bay = 1.9 + 0.9 * pick(6);
        let (b, f) = (phase(within, bay), phase(y - 3.6, 2.9));
        let sill = b > 0.22 && b < 0.78 && f > 0.16 && f < 0.22;
        let pane = b > 0.26 && b < 0.74 && f > 0.22 && f < 0.76;
        Some(if sill {
            front.plus(26.0)
        } else if pane {
            let bar = (b - 0.5).abs() < 0.02;
            if bar { rgb(206, 204, 198) } else { glass((within / bay).floor(), ((y - 3.6) / 2.9).floor()) }
        } else {
            front
        })
    }

    fn trees(&self, x: f32, y: f32) -> Option<Colour> {
        let crowns = 3.2 + 4.6 * cloud(x * 0.16, 0.0, self.seed ^ 31) + 1.0 * noise(x * 1.4, 4.0, self.seed ^ 32);
        if y > crowns {
            return None;
        }
        let leaf = cloud(x * 1.6, y * 1.6, self.seed ^ 33);
        let hue = cloud(x * 0.25, 3.0, self.seed ^ 34);
        let base = rgb(58, 88, 50).toward(rgb(120, 112, 56), smooth(0.5, 0.9, hue));
        Some(base.times(0.62 + 0.55 * leaf + 0.22 * smooth(0.0, 6.0, y)))
    }

    fn wall(&self, u: f32, y: f32, salt: u32) -> Colour {
        let tone = cell(2, 0, self.seed);
        let paint = if tone < 0.4 {
            rgb(200, 198, 190)
        } else if tone < 0.7 {
            rgb(172, 178, 184)
        } else {
            rgb(190, 176, 152)
        };
        let band = [rgb(70, 104, 140), rgb(150, 70, 60), rgb(96, 118, 96), rgb(120, 116, 110)]
            [(cell(3, 0, self.seed) * 4.0) as usize % 4];
        let joint = to_line(u, 3.0);
        let door = phase(u + cell(4, salt, self.seed) * 9.0, 9.0) * 9.0;
        let stain = (cloud(u * 0.8, y * 0.8, self.seed ^ salt) - 0.5) * 14.0;
        if door < 1.9 && y < 2.2 {
            return if to_line(door, 0.95) < 0.03 { rgb(50, 50, 52) } else { rgb(118, 108, 96).plus(stain) };
        }
        if door > 3.4 && door < 6.4 && y > 1.2 && y < 2.4 {
            let poster = cell((u / 9.0).floor() as i32 as u32, salt, self.seed ^ 40);
            return band.toward(rgb(226, 220, 206), poster * 0.8).plus(stain);
        }
        if y < 0.14 {
            return paint.times(0.55);
        }
        let paint = if y < 1.05 { band } else { paint };
        paint.plus(stain).times(1.0 - 0.14 * (1.0 - smooth(0.02, 0.06, joint)))
    }

    fn ceiling(&self, x: f32, z: f32) -> Colour {
        let lamp = to_line(x, 4.0) < 0.25 && phase(z, 3.0) < 0.62;
        if lamp {
            return rgb(255, 252, 240);
        }
        let beam = to_line(z, 6.0) < 0.3;
        let glow = 1.0 - smooth(0.0, 2.0, to_line(x, 4.0));
        let base = rgb(128, 128, 126).plus(40.0 * glow + 10.0 * (noise(x, z, self.seed ^ 50) - 0.5));
        self.light.on(if beam { base.times(0.8) } else { base })
    }
}

//! Fixed things with a place of their own: trees, lamps, benches, columns.
//!
//! They are painted once, with the backdrop, and leave their depth in the mask, so that what
//! passes behind them is hidden at no cost per frame.

use crate::colour::{Colour, rgb};
use crate::figure::Figure;
use crate::raster::Canvas;
use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PropKind {
    Tree,
    Bush,
    Lamp,
    Bollard,
    Bench,
    Planter,
    Column,
}

#[derive(Clone, Copy)]
pub struct Prop {
    pub kind: PropKind,
    pub x: f32,
    pub z: f32,
    pub looks: u64,
}

/// Height of a column with no ceiling given; outdoors nothing has columns.
const COLUMN: f32 = 4.0;

pub fn draw(canvas: &mut Canvas<'_>, figure: &Figure<'_>, prop: &Prop, ceiling: Option<f32>) {
    let mut rng = Rng::keyed(&[prop.looks]);
    let rng = &mut rng;
    let light = figure.light;
    let s = figure.scale();
    let at = |right: f32, up: f32| {
        let (x, y) = figure.view.pixel(figure.x, up, figure.z);
        (x + right * s, y)
    };
    let bar = |canvas: &mut Canvas<'_>, low: (f32, f32), high: (f32, f32), w: (f32, f32), c: Colour| {
        let c = light.on(c);
        canvas.stroke((at(low.0, low.1), w.0 * s), (at(high.0, high.1), w.1 * s), c, c.times(0.9));
    };
    match prop.kind {
        PropKind::Tree => {
            figure.shadow(canvas, 1.3, 4.0);
            let tall = rng.range(4.6, 8.0);
            let trunk = rgb(92, 74, 58).varied(rng, 14.0);
            let lean = rng.range(-0.2, 0.2);
            bar(canvas, (0.0, 0.0), (lean, tall * 0.6), (0.30, 0.18), trunk);
            let leaf =
                rng.pick(&[rgb(70, 110, 52), rgb(88, 128, 60), rgb(58, 92, 56), rgb(128, 120, 50), rgb(150, 96, 44)]);
            let crown = tall * 0.25;
            foliage(canvas, rng, 90, |rng| {
                let (dx, dy) = disc(rng);
                let size = rng.range(0.16, 0.42) * crown;
                (
                    at(lean + dx * crown, tall * 0.74 + dy * crown * 0.85),
                    size * s,
                    light.on(leaf.times(0.78 + 0.3 * (dy + 1.0) * 0.5)),
                )
            });
        }
        PropKind::Bush => {
            figure.shadow(canvas, 0.8, 0.8);
            let leaf = rng.pick(&[rgb(66, 104, 50), rgb(84, 118, 62), rgb(60, 90, 60)]);
            foliage(canvas, rng, 40, |rng| {
                let (dx, dy) = disc(rng);
                let size = rng.range(0.10, 0.24);
                (at(dx * 0.75, 0.42 + dy * 0.38), size * s, light.on(leaf.times(0.74 + 0.18 * (dy + 1.0))))
            });
        }
        PropKind::Lamp => {
            figure.shadow(canvas, 0.2, 3.0);
            let metal = rng.pick(&[rgb(70, 74, 78), rgb(130, 134, 136), rgb(44, 60, 52)]);
            let tall = rng.range(4.5, 6.5);
            let arm = rng.sign() * rng.range(0.5, 1.1);
            bar(canvas, (0.0, 0.0), (0.0, 0.5), (0.2, 0.2), metal);
            bar(canvas, (0.0, 0.0), (0.0, tall), (0.13, 0.09), metal);
            bar(canvas, (0.0, tall), (arm, tall + 0.15), (0.07, 0.07), metal);
            let glow = if light.lamps { rgb(255, 240, 190) } else { rgb(206, 206, 200) };
            canvas.ellipse(at(arm, tall + 0.08), (0.24 * s, 0.08 * s), glow, glow);
            if rng.chance(0.4) {
                let sign = light.on(rng.pick(&[rgb(40, 84, 160), rgb(180, 40, 40), rgb(224, 190, 60)]));
                canvas.ellipse(at(0.0, 2.5), (0.32 * s, 0.32 * s), sign, sign.times(0.9));
                canvas.ellipse(
                    at(0.0, 2.5),
                    (0.22 * s, 0.22 * s),
                    light.on(rgb(226, 226, 222)),
                    light.on(rgb(210, 210, 206)),
                );
            }
        }
        PropKind::Bollard => {
            figure.shadow(canvas, 0.16, 0.7);
            let paint = rng.pick(&[rgb(60, 62, 66), rgb(150, 60, 50), rgb(170, 168, 160)]);
            bar(canvas, (0.0, 0.05), (0.0, 0.85), (0.18, 0.16), paint);
            bar(canvas, (0.0, 0.66), (0.0, 0.72), (0.18, 0.18), rgb(224, 222, 214));
        }
        PropKind::Bench => {
            figure.shadow(canvas, 0.9, 0.6);
            let wood = rng.pick(&[rgb(132, 92, 58), rgb(108, 80, 60), rgb(90, 104, 90)]);
            for x in [-0.75, 0.75] {
                bar(canvas, (x, 0.0), (x, 0.85), (0.07, 0.06), rgb(52, 52, 54));
            }
            for y in [0.45, 0.62, 0.78] {
                bar(canvas, (-0.9, y), (0.9, y), (0.1, 0.1), wood);
            }
        }
        PropKind::Planter => {
            figure.shadow(canvas, 0.8, 0.6);
            let stone = light.on(rgb(166, 160, 150).varied(rng, 10.0));
            canvas.shaded(&[at(-0.75, 0.6), at(0.75, 0.6), at(0.65, 0.0), at(-0.65, 0.0)], stone, stone.times(0.78));
            let leaf = rgb(80, 120, 62);
            foliage(canvas, rng, 30, |rng| {
                let (dx, dy) = disc(rng);
                let bloom = rng.chance(0.15);
                let colour = if bloom { rgb(206, 90, 110) } else { leaf.times(0.85 + 0.2 * dy) };
                (at(dx * 0.65, 0.78 + dy * 0.22), rng.range(0.07, 0.16) * s, light.on(colour))
            });
        }
        PropKind::Column => {
            figure.shadow(canvas, 0.45, 0.5);
            let paint = light.on(rng.pick(&[rgb(190, 188, 182), rgb(160, 164, 168), rgb(206, 196, 176)]));
            let top = ceiling.unwrap_or(COLUMN);
            let (w, low, high) = (0.30, at(0.0, 0.0), at(0.0, top));
            let strip = |canvas: &mut Canvas<'_>, from: f32, to: f32, c: Colour| {
                let (l, r) = (low.0 + from * s, low.0 + to * s);
                canvas.polygon(&[(l, high.1), (r, high.1), (r, low.1), (l, low.1)], c);
            };
            strip(canvas, -w, w, paint);
            strip(canvas, -w, -w * 0.5, paint.times(0.86));
            strip(canvas, w * 0.4, w, paint.times(0.74));
            if rng.chance(0.5) {
                let band = light.on(rng.pick(&[rgb(200, 170, 40), rgb(60, 110, 160), rgb(170, 60, 50)]));
                canvas.polygon(&[at(-w, 1.1), at(w, 1.1), at(w, 0.8), at(-w, 0.8)], band);
            }
        }
    }
}

/// Even within the unit circle.
fn disc(rng: &mut Rng) -> (f32, f32) {
    loop {
        let (x, y) = (rng.range(-1.0, 1.0), rng.range(-1.0, 1.0));
        if x * x + y * y <= 1.0 {
            return (x, y);
        }
    }
}

/// Many small discs, each of which `leaf` places.
fn foliage(canvas: &mut Canvas<'_>, rng: &mut Rng, count: usize, leaf: impl Fn(&mut Rng) -> ((f32, f32), f32, Colour)) {
    for _ in 0..count {
        let (centre, radius, colour) = leaf(rng);
        let colour = colour.varied(rng, 10.0);
        canvas.ellipse(centre, (radius, radius * 0.8), colour.plus(8.0), colour.times(0.86));
    }
}

//! Bicycles, ridden or left standing. A rider belongs to the bicycle: one thing, one box.

use std::f32::consts::TAU;

use crate::colour::rgb;
use crate::figure::Figure;
use crate::math::{cos, lerp, sin};
use crate::person::{SKIN, top_colour, trouser_colour};
use crate::raster::{CIRCLE, Canvas};
use crate::rng::Rng;

/// Draws a bicycle with the looks of `rng` that has rolled `rolled` metres.
pub fn draw(canvas: &mut Canvas<'_>, figure: &Figure<'_>, mut rng: Rng, rolled: f32, ridden: bool) {
    let light = figure.light;
    let s = figure.scale();
    let wheel = rng.range(0.33, 0.37);
    let frame = light.on(rng.pick(&[
        rgb(200, 40, 44),
        rgb(36, 36, 40),
        rgb(40, 90, 180),
        rgb(230, 226, 220),
        rgb(60, 150, 90),
        rgb(240, 180, 40),
        rgb(90, 190, 200),
        rgb(150, 150, 156),
    ]));
    let tyre = light.on(rgb(34, 34, 36));
    let metal = light.on(rgb(150, 152, 156));
    let step_through = rng.chance(0.35);
    let basket = rng.chance(0.25);
    let sporty = rng.unit();
    let at = |a: f32, b: f32, y: f32| figure.at(a, b, y);
    let thin = |w: f32| w * s;

    figure.shadow(canvas, if figure.sideways() > 0.5 { 0.7 } else { 0.3 }, 1.2);

    // Seen along its heading a wheel is a bar as wide as the tyre; the widening keeps it one.
    let flat = 0.022 / figure.sideways().max(0.05);
    let (rear, front) = ((-0.53, wheel), (0.54, wheel));
    let disc = |(a, y): (f32, f32), r: f32, wide: f32| CIRCLE.map(|(cx, cy)| at(a + (r + wide) * cx, 0.0, y + r * cy));
    for centre in [rear, front] {
        let outer = disc(centre, wheel, flat.min(0.04));
        canvas.ring(&outer, &disc(centre, wheel - 0.052, 0.0), tyre);
        canvas.ring(&disc(centre, wheel - 0.052, 0.0), &disc(centre, wheel - 0.075, 0.0), metal);
        let turn = rolled / (TAU * wheel);
        for k in 0..3 {
            let (dx, dy) = (cos(turn + k as f32 / 6.0), sin(turn + k as f32 / 6.0));
            let r = wheel - 0.06;
            let (p, q) = (at(centre.0 + r * dx, 0.0, centre.1 - r * dy), at(centre.0 - r * dx, 0.0, centre.1 + r * dy));
            canvas.stroke((p, thin(0.008)), (q, thin(0.008)), metal, metal);
        }
    }

    let crank = (-0.06, wheel - 0.05);
    let saddle = (-0.22, lerp(0.88, 0.98, sporty));
    let stem = (0.36, 0.86);
    let grip = (lerp(0.30, 0.46, sporty), lerp(1.08, 0.96, sporty));
    let middle = if step_through { (0.12, 0.42) } else { (-0.17, 0.78) };
    let tubes = [
        (crank, saddle),
        (crank, stem),
        (middle, stem),
        (rear, crank),
        (rear, (-0.18, 0.74)),
        (stem, front),
        (stem, grip),
    ];
    for ((a, y), (b, v)) in tubes {
        canvas.stroke((at(a, 0.0, y), thin(0.042)), (at(b, 0.0, v), thin(0.042)), frame, frame.times(0.85));
    }
    canvas.stroke(
        (at(saddle.0 - 0.12, 0.0, saddle.1), thin(0.08)),
        (at(saddle.0 + 0.1, 0.0, saddle.1), thin(0.05)),
        tyre,
        tyre,
    );
    canvas.stroke((at(grip.0, -0.27, grip.1), thin(0.035)), (at(grip.0, 0.27, grip.1), thin(0.035)), tyre, tyre);
    if basket {
        let weave = light.on(rgb(168, 132, 84));
        canvas.stroke((at(0.56, 0.0, 0.98), thin(0.3)), (at(0.56, 0.0, 0.84), thin(0.24)), weave, weave.times(0.8));
    }
    if !ridden {
        return;
    }

    let skin = light.on(rng.pick(&SKIN).varied(&mut rng, 8.0));
    let top = light.on(top_colour(&mut rng));
    let trousers = light.on(trouser_colour(&mut rng));
    let headgear = light.on(if rng.chance(0.6) { top_colour(&mut rng) } else { rgb(44, 34, 28) });
    let shoe = light.on(rgb(40, 38, 38));
    let hip = (saddle.0, saddle.1 + 0.08);
    let shoulder = (lerp(-0.06, 0.2, sporty), lerp(1.52, 1.40, sporty));
    let cadence = rolled / 4.2 + rng.unit();
    let leg = |canvas: &mut Canvas<'_>, left: bool, shade: f32| {
        let phase = cadence + if left { 0.5 } else { 0.0 };
        let b = if left { 0.09 } else { -0.09 };
        let foot = (crank.0 + 0.165 * cos(phase), crank.1 + 0.165 * sin(-phase));
        let knee = bend(hip, foot, 0.45, 0.46);
        let cloth = trousers.times(shade);
        canvas.stroke((at(hip.0, b, hip.1), thin(0.17)), (at(knee.0, b, knee.1), thin(0.125)), cloth, cloth);
        canvas.stroke(
            (at(knee.0, b, knee.1), thin(0.12)),
            (at(foot.0, b, foot.1 + 0.05), thin(0.08)),
            cloth,
            cloth.times(0.9),
        );
        canvas.stroke(
            (at(foot.0 - 0.06, b, foot.1), thin(0.07)),
            (at(foot.0 + 0.13, b, foot.1), thin(0.06)),
            shoe,
            shoe,
        );
    };
    let arm = |canvas: &mut Canvas<'_>, left: bool, shade: f32| {
        let b = if left { 0.2 } else { -0.2 };
        let elbow = ((shoulder.0 + grip.0) * 0.5 - 0.03, (shoulder.1 + grip.1) * 0.5 - 0.06);
        let sleeve = top.times(shade * 0.94);
        canvas.stroke(
            (at(shoulder.0, b * 0.9, shoulder.1 - 0.03), thin(0.12)),
            (at(elbow.0, b * 1.15, elbow.1), thin(0.095)),
            sleeve,
            sleeve,
        );
        canvas.stroke(
            (at(elbow.0, b * 1.15, elbow.1), thin(0.085)),
            (at(grip.0, b, grip.1), thin(0.07)),
            skin.times(shade),
            skin.times(shade),
        );
    };
    let far_left = figure.left_is_far();
    arm(canvas, far_left, 0.78);
    leg(canvas, far_left, 0.8);
    let broad = lerp(0.40, 0.25, figure.sideways());
    canvas.stroke(
        (at(shoulder.0 - 0.02, 0.0, shoulder.1 - 0.08), thin(broad)),
        (at(hip.0, 0.0, hip.1 + 0.03), thin(broad * 0.86)),
        top.plus(8.0),
        top.times(0.82),
    );
    leg(canvas, !far_left, 1.0);
    arm(canvas, !far_left, 1.0);
    let head = at(shoulder.0 + 0.07, 0.0, shoulder.1 + 0.2);
    canvas.stroke((at(shoulder.0, 0.0, shoulder.1), thin(0.1)), (head, thin(0.1)), skin.times(0.85), skin.times(0.85));
    canvas.ellipse(head, (thin(0.088), thin(0.115)), skin.plus(6.0), skin.times(0.9));
    let crown = at(shoulder.0 + 0.05, 0.0, shoulder.1 + 0.265);
    canvas.ellipse(crown, (thin(0.11), thin(0.085)), headgear, headgear.times(0.85));
}

/// The knee between hip and foot for a thigh and a shin of these lengths, bent forward.
fn bend(hip: (f32, f32), foot: (f32, f32), thigh: f32, shin: f32) -> (f32, f32) {
    let (dx, dy) = (foot.0 - hip.0, foot.1 - hip.1);
    let d = (dx * dx + dy * dy).sqrt().clamp(0.1, thigh + shin - 0.01);
    let along = (thigh * thigh - shin * shin + d * d) / (2.0 * d);
    let out = (thigh * thigh - along * along).max(0.0).sqrt();
    (hip.0 + (dx * along - dy * out) / d, hip.1 + (dy * along + dx * out) / d)
}

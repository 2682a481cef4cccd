//! People: one walking figure, varied by build, clothes, pace and what is carried.

use crate::colour::{Colour, rgb};
use crate::figure::Figure;
use crate::math::{lerp, sin};
use crate::raster::Canvas;
use crate::rng::Rng;

pub const SKIN: [Colour; 6] =
    [rgb(241, 205, 178), rgb(224, 178, 146), rgb(198, 146, 112), rgb(158, 108, 78), rgb(112, 74, 52), rgb(84, 56, 42)];

const TOPS: [Colour; 16] = [
    rgb(196, 44, 48),
    rgb(232, 120, 44),
    rgb(240, 200, 70),
    rgb(70, 150, 84),
    rgb(36, 96, 72),
    rgb(52, 108, 190),
    rgb(30, 48, 92),
    rgb(120, 180, 220),
    rgb(126, 70, 140),
    rgb(220, 130, 160),
    rgb(238, 236, 230),
    rgb(180, 180, 178),
    rgb(108, 110, 114),
    rgb(40, 40, 44),
    rgb(120, 88, 60),
    rgb(196, 170, 130),
];

const TROUSERS: [Colour; 8] = [
    rgb(42, 58, 96),
    rgb(74, 96, 136),
    rgb(34, 34, 40),
    rgb(88, 86, 84),
    rgb(150, 130, 100),
    rgb(70, 62, 44),
    rgb(210, 204, 190),
    rgb(96, 44, 44),
];

const HAIR: [Colour; 7] = [
    rgb(28, 22, 20),
    rgb(60, 40, 28),
    rgb(104, 70, 40),
    rgb(176, 134, 76),
    rgb(212, 186, 128),
    rgb(150, 146, 142),
    rgb(140, 64, 36),
];

pub fn top_colour(rng: &mut Rng) -> Colour {
    rng.pick(&TOPS).varied(rng, 14.0)
}

pub fn trouser_colour(rng: &mut Rng) -> Colour {
    rng.pick(&TROUSERS).varied(rng, 10.0)
}

/// Draws a person with the looks of `rng` who has walked `walked` metres (0 pace: standing).
pub fn draw(canvas: &mut Canvas<'_>, figure: &Figure<'_>, mut rng: Rng, walked: f32, walking: bool) {
    let light = figure.light;
    let s = figure.scale();
    let child = rng.chance(0.12);
    let h = if child { rng.range(1.15, 1.4) } else { rng.range(1.56, 1.93) };
    let stout = rng.range(0.88, 1.28);
    let skin = light.on(rng.pick(&SKIN).varied(&mut rng, 8.0));
    let top = light.on(top_colour(&mut rng));
    let trousers = light.on(trouser_colour(&mut rng));
    let hair = light.on(rng.pick(&HAIR));
    let shoes = light.on(rng.pick(&[rgb(36, 32, 32), rgb(220, 218, 214), rgb(110, 74, 48), rgb(160, 50, 50)]));
    let (skirt, coat) = (rng.chance(0.18), rng.chance(0.25));
    let (long_hair, hat) = (rng.chance(0.35), rng.chance(0.18));
    let bare_arms = rng.chance(0.35);
    let (pack, bag) = (rng.chance(0.22), rng.chance(0.2));
    let hat_colour = light.on(top_colour(&mut rng));
    let stripe = rng.chance(0.15).then(|| light.on(top_colour(&mut rng)));

    let side = figure.sideways();
    let pace = if walking { 1.0 } else { 0.12 };
    let cycle = walked / (0.84 * h) + rng.unit();
    let bob = 0.012 * h * sin(cycle * 2.0) * pace;
    let width = |w: f32| w * h * s;
    let point = |along: f32, left: f32, up: f32| figure.at(along * h, left * h, up * h + bob);

    figure.shadow(canvas, 0.17 * h, h);

    let leg = |canvas: &mut Canvas<'_>, left: bool, shade: f32| {
        let phase = cycle + if left { 0.5 } else { 0.0 };
        let (swing, lift) = (0.085 * sin(phase) * pace, sin(phase + 0.25).max(0.0) * pace);
        let b = if left { 0.05 } else { -0.05 };
        let hip = point(0.0, b, 0.50);
        let knee = point(swing * 1.25 + 0.03 * lift, b, 0.275 + 0.015 * lift);
        let ankle = point(swing * 2.2 - 0.06 * lift, b, 0.045 + 0.07 * lift);
        let toe = point(swing * 2.2 - 0.06 * lift + 0.075, b, 0.02 + 0.05 * lift);
        let (cloth, calf) = if skirt { (skin, skin) } else { (trousers, trousers.times(0.94)) };
        let (cloth, calf, shoe) = (cloth.times(shade), calf.times(shade), shoes.times(shade));
        canvas.stroke((hip, width(0.098 * stout)), (knee, width(0.075 * stout)), cloth, cloth);
        canvas.stroke((knee, width(0.07)), (ankle, width(0.05)), calf, calf.times(0.93));
        canvas.stroke((ankle, width(0.045)), (toe, width(0.04)), shoe, shoe.times(0.8));
    };
    let arm = |canvas: &mut Canvas<'_>, left: bool, shade: f32| {
        let phase = cycle + if left { 0.0 } else { 0.5 };
        let swing = 0.075 * sin(phase) * pace;
        let b = lerp(0.128, 0.115, side) * stout * if left { 1.0 } else { -1.0 };
        let shoulder = point(0.0, b, 0.79);
        let elbow = point(swing * 0.9 - 0.015, b * 1.12, 0.635);
        let hand = point(swing * 2.0 + 0.02, b * 1.12, 0.475);
        let sleeve = top.times(shade * 0.93);
        let lower = if bare_arms { skin.times(shade) } else { sleeve };
        canvas.stroke((shoulder, width(0.072 * stout)), (elbow, width(0.06)), sleeve, sleeve);
        canvas.stroke((elbow, width(0.052)), (hand, width(0.04)), lower, lower);
        canvas.ellipse(hand, (width(0.024), width(0.026)), skin.times(shade), skin.times(shade));
        if bag && left {
            let low = point(swing * 2.0 + 0.02, b * 1.2, 0.36);
            canvas.stroke((hand, width(0.02)), (low, width(0.14)), hat_colour, hat_colour.times(0.8));
        }
    };

    let far_left = figure.left_is_far();
    arm(canvas, far_left, 0.78);
    leg(canvas, far_left, 0.80);
    leg(canvas, !far_left, 1.0);

    // Seen from the front shoulders are wide, from the side the chest is deep.
    let chest = lerp(0.135, 0.088, side) * stout * h * s;
    let waist = lerp(0.098, 0.076, side) * stout * h * s;
    let lean = if walking { 0.012 } else { 0.0 };
    let (neck, waist_at) = (point(lean, 0.0, 0.835), point(0.0, 0.0, 0.49));
    let backpack = |canvas: &mut Canvas<'_>| {
        let (high, low) = (point(-0.095, 0.0, 0.77), point(-0.095, 0.0, 0.60));
        let w = width(lerp(0.19, 0.11, side));
        canvas.stroke((high, w), (low, w), hat_colour, hat_colour.times(0.8));
    };
    let away = figure.heading.1 > 0.0;
    if pack && !away {
        backpack(canvas);
    }
    let torso = [
        (neck.0 - chest * 0.45, neck.1),
        (neck.0 + chest * 0.45, neck.1),
        (neck.0 + chest, neck.1 + width(0.035)),
        (neck.0 + chest, neck.1 + width(0.12)),
        (waist_at.0 + waist, waist_at.1),
        (waist_at.0 - waist, waist_at.1),
        (neck.0 - chest, neck.1 + width(0.12)),
        (neck.0 - chest, neck.1 + width(0.035)),
    ];
    canvas.shaded(&torso, top.plus(8.0), top.times(0.82));
    if let Some(stripe) = stripe {
        let (a, b) = (neck.1 + width(0.13), neck.1 + width(0.18));
        let w = chest * 0.93;
        canvas.polygon(&[(neck.0 - w, a), (neck.0 + w, a), (neck.0 + w, b), (neck.0 - w, b)], stripe);
    }
    if skirt || coat {
        let colour = if coat { top.times(0.9) } else { trousers };
        let hem = point(0.0, 0.0, if coat { 0.36 } else { 0.29 });
        let flare = waist * 1.35 + width(0.02);
        let shape = [
            (waist_at.0 - waist, waist_at.1 - width(0.03)),
            (waist_at.0 + waist, waist_at.1 - width(0.03)),
            (hem.0 + flare, hem.1),
            (hem.0 - flare, hem.1),
        ];
        canvas.shaded(&shape, colour, colour.times(0.82));
    }
    if pack && away {
        backpack(canvas);
    }

    let head = point(lean + 0.012 * side, 0.0, 0.925);
    canvas.stroke((neck, width(0.06)), (head, width(0.06)), skin.times(0.85), skin.times(0.85));
    let (rx, ry) = (width(lerp(0.048, 0.054, side)), width(0.066));
    if long_hair {
        let back = point(lean - 0.02, 0.0, 0.86);
        canvas.stroke((head, rx * 2.3), (back, rx * 1.9), hair, hair.times(0.9));
    }
    let face = if away && side < 0.7 { hair } else { skin };
    canvas.ellipse(head, (rx, ry), face.plus(6.0), face.times(0.92));
    let crown = point(lean - 0.012 * side, 0.0, 0.957);
    let (cap, cap_low) = if hat { (hat_colour, hat_colour.times(0.85)) } else { (hair, hair) };
    canvas.ellipse(crown, (rx * 1.1, ry * 0.68), cap, cap_low);
    if hat && side > 0.3 {
        let brim = point(lean + 0.075, 0.0, 0.945);
        canvas.stroke((crown, width(0.03)), (brim, width(0.018)), cap_low, cap_low);
    }

    arm(canvas, !far_left, 1.0);
}

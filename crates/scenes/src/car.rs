//! Cars as solids: a body and a cabin of flat faces, seen from any side in true perspective.
//!
//! Both solids are convex, so drawing the faces turned to the camera, body before cabin, needs
//! no sorting: the camera is always above the belt line.

use crate::colour::{Colour, rgb, unit};
use crate::figure::Figure;
use crate::math::{lerp, sin};
use crate::raster::{CIRCLE, Canvas};
use crate::rng::Rng;

const PAINTS: [Colour; 14] = [
    rgb(226, 228, 230),
    rgb(196, 200, 204),
    rgb(136, 140, 146),
    rgb(78, 82, 88),
    rgb(34, 36, 40),
    rgb(178, 30, 36),
    rgb(118, 22, 30),
    rgb(34, 74, 150),
    rgb(76, 130, 190),
    rgb(30, 84, 66),
    rgb(214, 168, 40),
    rgb(206, 98, 38),
    rgb(170, 150, 120),
    rgb(92, 66, 50),
];

/// Lengths in metres from bumper to bumper and from the ground up.
struct Shape {
    length: f32,
    width: f32,
    height: f32,
    belt: f32,
    bonnet: f32,
    boot: f32,
    /// How far windscreen and rear window lean in.
    rake: (f32, f32),
}

impl Shape {
    fn choose(rng: &mut Rng) -> Self {
        let mut vary = |x: f32| x * rng.range(0.95, 1.05);
        let saloon = Self {
            length: vary(4.6),
            width: vary(1.8),
            height: vary(1.44),
            belt: 0.9,
            bonnet: 1.15,
            boot: 0.8,
            rake: (0.75, 0.6),
        };
        let hatchback = Self {
            length: vary(4.0),
            width: vary(1.76),
            height: vary(1.5),
            belt: 0.92,
            bonnet: 0.95,
            boot: 0.05,
            rake: (0.7, 0.4),
        };
        let estate = Self {
            length: vary(4.7),
            width: vary(1.85),
            height: vary(1.68),
            belt: 1.02,
            bonnet: 1.1,
            boot: 0.05,
            rake: (0.65, 0.25),
        };
        let van = Self {
            length: vary(5.1),
            width: vary(1.95),
            height: vary(2.15),
            belt: 1.1,
            bonnet: 0.6,
            boot: 0.02,
            rake: (0.7, 0.08),
        };
        let mini = Self {
            length: vary(3.4),
            width: vary(1.65),
            height: vary(1.5),
            belt: 0.9,
            bonnet: 0.7,
            boot: 0.04,
            rake: (0.6, 0.3),
        };
        let [a, b, c, d, e] = [saloon, hatchback, estate, van, mini];
        match rng.below(12) {
            0..=3 => a,
            4..=6 => b,
            7..=8 => c,
            9..=10 => d,
            _ => e,
        }
    }
}

type Corner = [f32; 3];

/// One face seen from outside, and which way it looks.
struct Face {
    corners: [Corner; 4],
    normal: [f32; 3],
}

/// The faces of a solid with eight corners that the camera sees.
/// Corners are lower rear-right, rear-left, front-left, front-right, then the same above.
fn faces(corners: [Corner; 8], eye: Corner) -> impl Iterator<Item = (usize, Face)> {
    // Rear, front, right, left, top: the underside is never seen.
    const SIDES: [[usize; 4]; 5] = [[0, 1, 5, 4], [2, 3, 7, 6], [3, 0, 4, 7], [1, 2, 6, 5], [4, 5, 6, 7]];
    let middle = corners.iter().fold([0.0; 3], |sum, c| [0, 1, 2].map(|i| sum[i] + c[i] / 8.0));
    SIDES.into_iter().enumerate().filter_map(move |(side, indices)| {
        let face = indices.map(|i| corners[i]);
        let less = |a: Corner, b: Corner| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
        let (u, v) = (less(face[1], face[0]), less(face[3], face[0]));
        let mut normal = unit([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]);
        let dot = |a: Corner, b: Corner| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        if dot(normal, less(face[0], middle)) < 0.0 {
            normal = normal.map(|n| -n);
        }
        (dot(normal, less(eye, face[0])) > 0.0).then_some((side, Face { corners: face, normal }))
    })
}

const REAR: usize = 0;
const FRONT: usize = 1;
const TOP: usize = 4;

/// Draws a car with the looks of `rng` that has driven `driven` metres.
pub fn draw(canvas: &mut Canvas<'_>, figure: &Figure<'_>, mut rng: Rng, driven: f32) {
    let light = figure.light;
    let view = figure.view;
    let shape = Shape::choose(&mut rng);
    let paint = rng.pick(&PAINTS).varied(&mut rng, 10.0);
    let roof = if rng.chance(0.12) { rgb(30, 30, 32) } else { paint };
    let panel_van = shape.height > 1.9 && rng.chance(0.5);
    let glass = light.on(rgb(52, 62, 72));
    let rubber = light.on(rgb(28, 28, 30));
    let rim = light.on(rng.pick(&[rgb(176, 178, 182), rgb(120, 122, 126), rgb(60, 60, 64)]));
    let (half, wide) = (shape.length * 0.5, shape.width * 0.5);
    let eye = [0.0, view.above, 0.0];
    let world = |a: f32, b: f32, y: f32| figure.world(a, b, y);
    let pixel = |[x, y, z]: Corner| view.pixel(x, y, z);
    let bounce = 0.01 * sin(driven * 0.13);

    ground_shadow(canvas, figure, half, wide);

    let radius = 0.33;
    let axles = [half - 0.85, -half + 0.8];
    let wheel = |canvas: &mut Canvas<'_>, axle: f32, b: f32, r: f32, colour: Colour| {
        let outline = CIRCLE.map(|(x, y)| pixel(world(axle + r * x, b, radius + r * y)));
        canvas.polygon(&outline, colour);
    };
    for axle in axles {
        for b in [-wide * 0.95, wide * 0.95] {
            wheel(canvas, axle, b, radius, rubber);
        }
    }

    let box_of = |rear: (f32, f32), front: (f32, f32), low: f32, high: f32, b: (f32, f32)| {
        [
            world(rear.0, -b.0, low),
            world(rear.0, b.0, low),
            world(front.0, b.0, low),
            world(front.0, -b.0, low),
            world(rear.1, -b.1, high),
            world(rear.1, b.1, high),
            world(front.1, b.1, high),
            world(front.1, -b.1, high),
        ]
    };
    let belt = shape.belt + bounce;
    let body = box_of((-half, -half + 0.06), (half, half - 0.12), 0.22 + bounce, belt, (wide, wide * 0.97));
    for (side, face) in faces(body, eye) {
        let lit = light.face(paint, face.normal);
        canvas.shaded(&face.corners.map(pixel), lit.plus(6.0), lit.times(if side == TOP { 1.0 } else { 0.8 }));
        let patch = |canvas: &mut Canvas<'_>, u: (f32, f32), v: (f32, f32), colour: Colour| {
            canvas.polygon(&inset(&face.corners, u, v).map(pixel), colour);
        };
        match side {
            TOP => {}
            FRONT | REAR => {
                patch(canvas, (0.02, 0.98), (0.0, 0.22), light.on(rgb(44, 44, 46)));
                patch(canvas, (0.38, 0.62), (0.26, 0.42), light.on(rgb(226, 224, 200)));
                let (lamp, edge) = if side == FRONT { (rgb(250, 246, 226), 0.22) } else { (rgb(196, 28, 30), 0.18) };
                let lamp = if light.lamps { lamp.plus(20.0) } else { light.on(lamp) };
                patch(canvas, (0.03, edge), (0.55, 0.80), lamp);
                patch(canvas, (1.0 - edge, 0.97), (0.55, 0.80), lamp);
                if side == FRONT {
                    patch(canvas, (0.30, 0.70), (0.50, 0.76), light.on(rgb(36, 38, 40)));
                }
            }
            _ => {
                patch(canvas, (0.0, 1.0), (0.0, 0.12), light.on(rgb(48, 48, 50)));
                patch(canvas, (0.08, 0.92), (0.62, 0.66), lit.times(0.82));
                // Left is drawn rear to front, right front to rear.
                let b = if side == 3 { wide } else { -wide };
                for axle in axles {
                    wheel(canvas, axle, b, radius + 0.05, rubber.times(0.7));
                    wheel(canvas, axle, b, radius, rubber);
                    wheel(canvas, axle, b, radius * 0.62, rim);
                    wheel(canvas, axle, b, radius * 0.2, rubber);
                }
            }
        }
    }

    let (front, rear) = (half - shape.bonnet, -half + shape.boot);
    let cabin = box_of(
        (rear, rear + shape.rake.1),
        (front, front - shape.rake.0),
        belt,
        shape.height + bounce,
        (wide * 0.95, wide * 0.78),
    );
    for (side, face) in faces(cabin, eye) {
        let lit = light.face(if side == TOP { roof } else { paint }, face.normal);
        canvas.shaded(&face.corners.map(pixel), lit.plus(4.0), lit.times(0.95));
        let shine = glass.plus(light.contrast * 26.0 * face.normal[1].max(0.0));
        let mut window = |u: (f32, f32)| {
            canvas.shaded(&inset(&face.corners, u, (0.08, 0.88)).map(pixel), shine.plus(14.0), shine);
        };
        match side {
            TOP => {}
            FRONT => window((0.05, 0.95)),
            REAR if !panel_van => window((0.08, 0.92)),
            REAR => {}
            // The side near the windscreen keeps its window in a panel van.
            3 if panel_van => window((0.70, 0.95)),
            2 if panel_van => window((0.05, 0.30)),
            _ => {
                window((0.06, 0.47));
                window((0.51, 0.94));
            }
        }
    }
}

fn ground_shadow(canvas: &mut Canvas<'_>, figure: &Figure<'_>, half: f32, wide: f32) {
    let corners = [(half, wide), (half, -wide), (-half, wide), (-half, -wide)];
    let spread = corners.map(|(a, b)| figure.at(a * 1.03, b * 1.05, 0.0));
    let (mut x, mut y) = ((f32::MAX, f32::MIN), (f32::MAX, f32::MIN));
    for (px, py) in spread {
        x = (x.0.min(px), x.1.max(px));
        y = (y.0.min(py), y.1.max(py));
    }
    let reach = -figure.light.sun[0] * figure.light.contrast * 0.6 * figure.scale();
    let centre = (0.5 * (x.0 + x.1) + reach, 0.5 * (y.0 + y.1));
    let radii = (0.54 * (x.1 - x.0) + reach.abs(), 0.62 * (y.1 - y.0));
    canvas.veil(centre, radii, 0.0, lerp(0.66, 0.52, figure.light.contrast));
}

/// The part of a face between shares `u` of its width and `v` of its height from below.
fn inset(face: &[Corner; 4], u: (f32, f32), v: (f32, f32)) -> [Corner; 4] {
    let at =
        |u: f32, v: f32| [0, 1, 2].map(|i| lerp(lerp(face[0][i], face[1][i], u), lerp(face[3][i], face[2][i], u), v));
    [at(u.0, v.0), at(u.1, v.0), at(u.1, v.1), at(u.0, v.1)]
}

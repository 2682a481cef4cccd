//! A thing with a place and a heading: its own axes to pixels.

use crate::camera::View;
use crate::colour::Light;
use crate::raster::Canvas;

/// Where something stands and which way it faces, seen by a camera.
#[derive(Clone, Copy)]
pub struct Figure<'a> {
    pub view: &'a View,
    pub light: &'a Light,
    pub x: f32,
    pub z: f32,
    /// Heading on the ground as (x, z), unit length.
    pub heading: (f32, f32),
}

impl Figure<'_> {
    /// World coordinates of a point `along` the heading, to its `left`, and `up`.
    pub fn world(&self, along: f32, left: f32, up: f32) -> [f32; 3] {
        let (hx, hz) = self.heading;
        [self.x + along * hx - left * hz, up, self.z + along * hz + left * hx]
    }

    pub fn at(&self, along: f32, left: f32, up: f32) -> (f32, f32) {
        let [x, y, z] = self.world(along, left, up);
        self.view.pixel(x, y, z)
    }

    /// Pixels per metre where it stands.
    pub fn scale(&self) -> f32 {
        self.view.scale(self.z)
    }

    /// How far its left side is turned away from the camera: 1 when heading to the right.
    pub fn left_is_far(&self) -> bool {
        self.heading.0 > 0.0
    }

    /// How much of its side the camera sees: 1 across the picture, 0 along the optical axis.
    pub fn sideways(&self) -> f32 {
        self.heading.0.abs()
    }

    /// The dark patch under it, and the cast shadow where the light casts one.
    pub fn shadow(&self, canvas: &mut Canvas<'_>, radius: f32, tall: f32) {
        let s = self.scale();
        let flat = (self.view.above / self.z).clamp(0.12, 0.6);
        let foot = self.view.pixel(self.x, 0.0, self.z);
        canvas.veil(foot, (radius * s, radius * s * flat), 0.0, 0.72);
        if self.light.contrast > 0.5 {
            let reach = -self.light.sun[0] * tall;
            let centre = (foot.0 + 0.5 * reach * s, foot.1);
            let wide = (radius + 0.5 * reach.abs()) * s;
            canvas.veil(centre, (wide, radius * s * flat * 0.8), 0.0, 0.74);
        }
    }
}

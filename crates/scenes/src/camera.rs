//! The pinhole camera: metres on the ground to pixels, and back.
//!
//! World axes: x to the right, y up from the ground, z away from the camera. The optical axis
//! is level and the picture is cut from a shifted window, so verticals stay vertical, as an
//! architect's lens has it; a tilted camera would cost a division more and look no better.

#[derive(Clone, Copy)]
pub struct View {
    pub width: f32,
    pub height: f32,
    /// Focal length in pixels.
    pub focal: f32,
    /// Height of the camera above the ground in metres.
    pub above: f32,
    /// Row of the horizon.
    pub horizon: f32,
    /// Column of the optical axis.
    pub axis: f32,
}

impl View {
    pub fn pixel(&self, x: f32, y: f32, z: f32) -> (f32, f32) {
        let scale = self.scale(z);
        (self.axis + x * scale, self.horizon + (self.above - y) * scale)
    }

    /// Pixels per metre at a distance.
    pub fn scale(&self, z: f32) -> f32 {
        self.focal / z.max(0.5)
    }

    /// How far to the side the picture reaches at a distance.
    pub fn half_width(&self, z: f32) -> f32 {
        0.5 * self.width * z / self.focal
    }

    /// Distance at which a point at height `y` leaves the picture through its lower edge.
    pub fn bottom(&self, y: f32) -> f32 {
        self.focal * (self.above - y) / (self.height - self.horizon)
    }

    /// Distance as one byte, larger when nearer and never 0: the depth the masks hold.
    pub fn depth(&self, z: f32) -> u8 {
        let nearest = 3.0;
        (1.0 + 254.0 * nearest / z.max(nearest)) as u8
    }

    pub fn shifted(&self, x: f32, y: f32) -> Self {
        Self { horizon: self.horizon + y, axis: self.axis + x, ..*self }
    }
}

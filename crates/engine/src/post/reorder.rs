//! The reorder window: results come from many instances in any order and leave in each camera's order.

use std::collections::VecDeque;

use omma_frame::CameraIndex;

/// One window per camera, over the dense ordinals that the batcher gave. Every ordinal arrives exactly once, as a result
/// or as a failure (a tombstone), so a window never waits for what will not come; it is as wide as the camera's frames
/// that are in batches at the same time, no wider.
#[derive(Default)]
pub struct Reorder<T> {
    windows: Vec<Window<T>>,
    held: usize,
}

struct Window<T> {
    next: u64,
    /// `ahead[i]` is ordinal `next + 1 + i`.
    ahead: VecDeque<Option<T>>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { next: 0, ahead: VecDeque::new() }
    }
}

/// An ordinal that has been there before; carries the item back.
#[derive(Debug, PartialEq, Eq)]
pub struct SeenBefore<T>(pub T);

impl<T> Reorder<T> {
    #[must_use]
    pub fn new() -> Self {
        Self { windows: Vec::new(), held: 0 }
    }

    /// Takes the camera's item `ordinal` and appends to `ready` all items whose turn has come.
    ///
    /// # Errors
    /// The ordinal has been there before: a frame was about to be settled twice.
    pub fn insert(
        &mut self,
        camera: CameraIndex,
        ordinal: u64,
        item: T,
        ready: &mut Vec<T>,
    ) -> Result<(), SeenBefore<T>> {
        if self.windows.len() <= camera.slot() {
            self.windows.resize_with(camera.slot() + 1, Window::default);
        }
        let window = &mut self.windows[camera.slot()];
        if ordinal < window.next {
            return Err(SeenBefore(item));
        }
        if ordinal > window.next {
            let place = (ordinal - window.next - 1) as usize;
            if window.ahead.len() <= place {
                window.ahead.resize_with(place + 1, || None);
            }
            let slot = &mut window.ahead[place];
            if slot.is_some() {
                return Err(SeenBefore(item));
            }
            *slot = Some(item);
            self.held += 1;
            return Ok(());
        }
        ready.push(item);
        window.next += 1;
        while let Some(front) = window.ahead.pop_front() {
            let Some(item) = front else { break };
            ready.push(item);
            window.next += 1;
            self.held -= 1;
        }
        Ok(())
    }

    /// Items that wait for an earlier one of their camera.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_leave_in_order_as_soon_as_their_turn_has_come() {
        let mut reorder = Reorder::new();
        let camera = CameraIndex(2);
        // (ordinal that arrives) -> (ordinals that leave)
        let table: [(u64, &[u64]); 6] = [(1, &[]), (0, &[0, 1]), (2, &[2]), (5, &[]), (4, &[]), (3, &[3, 4, 5])];
        for (ordinal, expected) in table {
            let mut ready = Vec::new();
            assert_eq!(reorder.insert(camera, ordinal, ordinal, &mut ready), Ok(()));
            assert_eq!(ready, expected, "after {ordinal}");
        }
        assert_eq!(reorder.held(), 0);
    }

    #[test]
    fn one_camera_that_waits_does_not_hold_another() {
        let mut reorder = Reorder::new();
        let mut ready = Vec::new();
        assert_eq!(reorder.insert(CameraIndex(0), 1, "late", &mut ready), Ok(()));
        assert_eq!(reorder.insert(CameraIndex(1), 0, "free", &mut ready), Ok(()));
        assert_eq!((ready, reorder.held()), (vec!["free"], 1));
    }

    #[test]
    fn an_ordinal_that_comes_twice_is_given_back() {
        let mut reorder = Reorder::new();
        let mut ready = Vec::new();
        let camera = CameraIndex(0);
        assert_eq!(reorder.insert(camera, 0, "first", &mut ready), Ok(()));
        assert_eq!(reorder.insert(camera, 0, "again", &mut ready), Err(SeenBefore("again")));
        assert_eq!(reorder.insert(camera, 2, "ahead", &mut ready), Ok(()));
        assert_eq!(reorder.insert(camera, 2, "again", &mut ready), Err(SeenBefore("again")));
        assert_eq!(ready, ["first"]);
    }

    proptest! {
        /// Any interleaving of any cameras' permutations comes out as each camera's order, complete, nothing held.
        #[test]
        fn any_order_in_is_each_cameras_order_out(
            arrivals in (1..5u32, 1..40u64)
                .prop_map(|(cameras, count)| (0..cameras).flat_map(|c| (0..count).map(move |o| (c, o))).collect::<Vec<_>>())
                .prop_shuffle(),
        ) {
            let mut reorder = Reorder::new();
            let mut ready = Vec::new();
            for (camera, ordinal) in &arrivals {
                prop_assert!(reorder.insert(CameraIndex(*camera), *ordinal, (*camera, *ordinal), &mut ready).is_ok());
            }
            prop_assert_eq!(reorder.held(), 0);
            prop_assert_eq!(ready.len(), arrivals.len());
            for camera in 0..5 {
                let order: Vec<u64> = ready.iter().filter(|(c, _)| *c == camera).map(|(_, o)| *o).collect();
                prop_assert!(order.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            }
        }
    }
}

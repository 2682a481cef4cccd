//! A bound on the bytes of all requests that are being read or answered.
//!
//! Each connection alone is bounded too, but a thousand of them with the largest body each would fill the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::{ApiError, Kind};

/// The bytes that all requests together may hold.
pub struct Budget {
    most: usize,
    held: AtomicUsize,
}

/// What one request holds of it; given back when dropped.
pub struct Lease {
    budget: Arc<Budget>,
    held: AtomicUsize,
}

impl Budget {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: AtomicUsize::new(0) })
    }

    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { budget: Arc::clone(self), held: AtomicUsize::new(0) }
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Takes some bytes more.
    ///
    /// # Errors
    /// All requests together would hold more than they may.
    pub fn take(&self, bytes: usize) -> Result<(), ApiError> {
        let budget = &self.budget;
        let room = |held: usize| held.checked_add(bytes).filter(|held| *held <= budget.most);
        if budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(ApiError::new(
                Kind::Unavailable,
                format!("the requests under way hold all of the {} bytes that they may, try again later", budget.most),
            ));
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A part of what it holds, never more than that, to be held apart from it.
    #[must_use]
    pub fn part(&self, bytes: usize) -> Self {
        let less = |held: usize| Some(held.saturating_sub(bytes));
        let before = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        Self { budget: Arc::clone(&self.budget), held: AtomicUsize::new(bytes.min(before)) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(*self.held.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_comes_back() {
        let budget = Budget::new(10);
        let (one, other) = (budget.lease(), budget.lease());
        assert_eq!(one.take(6), Ok(()));
        assert_eq!(other.take(5).expect_err("too much").kind, Kind::Unavailable);
        assert_eq!(other.take(usize::MAX).expect_err("too much").kind, Kind::Unavailable);
        assert_eq!(other.take(4), Ok(()));
        drop(one.part(2));
        assert_eq!(budget.held(), 8);
        let rest = one.part(100);
        assert_eq!(budget.held(), 8);
        drop(rest);
        assert_eq!(budget.held(), 4);
        drop((one, other));
        assert_eq!(budget.held(), 0);
    }
}

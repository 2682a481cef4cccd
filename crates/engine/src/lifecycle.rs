//! The phases of an engine's life, in their order. A phase is entered once and never left backwards.

use std::sync::atomic::{AtomicU8, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Models load and warm up; nothing is read.
    Starting,
    Running,
    /// Nothing more is read; what was read goes its way.
    Draining,
    /// The last results are on their way into the sinks.
    Flushing,
    Stopped,
}

impl Phase {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Flushing => "flushing",
            Self::Stopped => "stopped",
        }
    }
}

/// The phase of an engine, read by its threads and by the control plane.
pub struct Lifecycle(AtomicU8);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }
}

impl Lifecycle {
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Draining,
            3 => Phase::Flushing,
            _ => Phase::Stopped,
        }
    }

    /// Enters `phase` unless a later one has been entered; says whether it did.
    pub fn enter(&self, phase: Phase) -> bool {
        self.0.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8
    }
}

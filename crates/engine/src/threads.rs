//! What a thread is for, so that whoever starts the engine can tell the operating system. The engine itself asks it for
//! nothing.

/// What a thread of the engine does with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Hands frames and results on: runs for microseconds, and a frame waits for each of its wake-ups.
    Relay,
    /// Decodes and runs models: takes all the time there is.
    Compute,
}

/// Called once on each thread as it begins.
pub type Begin = fn(Role);

/// Leaves threads as the system starts them.
pub fn leave(_role: Role) {}

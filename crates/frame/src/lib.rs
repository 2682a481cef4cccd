//! The words of omma: cameras, frames, payloads, results. No I/O, no threads.

//! Pure batching: which frames go together, and when. No clock, no thread, no lock, no I/O; time is an argument.

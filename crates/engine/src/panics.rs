//! What a caught panic said, for the message that tells of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls what others wrote and this process must survive; `Err` is what a panic in it said.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // What the call leaves behind half-done is its owner's: each caller here gives up or opens anew what has panicked.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| said(panic.as_ref()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

//! What crates/fuzzing may see of the parser here: a worker's answer as plain values.

use super::wire::{self, Answer};

/// What a worker said of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Of each output its first byte in the output memory, and its bytes by shape and type; of each failure its frame.
    Done {
        outputs: Vec<(usize, usize)>,
        failures: Vec<(usize, String)>,
    },
    Failed(String),
}

/// Reads the answer to batch `number` of `count` pictures.
///
/// # Errors
/// It is none.
pub fn answer(packet: &[u8], number: u64, count: usize, memory_bytes: usize) -> Result<Said, String> {
    Ok(match wire::decode(packet, number, count, memory_bytes)? {
        Answer::Done { outputs, failures } => {
            let place = |output: &wire::Output| {
                let values: usize = output.shape.iter().product();
                (output.offset, values * output.dtype.byte_len())
            };
            Said::Done { outputs: outputs.iter().map(place).collect(), failures }
        }
        Answer::Failed(text) | Answer::WrongCount(text) => Said::Failed(text),
    })
}

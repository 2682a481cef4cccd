//! What the workloads on a real Redis have in common: a server of their own, a producer, a consumer and a do-nothing
//! reader in processes of their own (this program, executed again), and what is measured of them from outside.

pub mod board;
pub mod consumers;
pub mod offer;
pub mod omma;
pub mod reader;
pub mod resp;
pub mod role;
pub mod stand;

/// Plays the role of this name.
///
/// # Errors
/// Why it cannot go on.
pub fn play(name: &str, told: &str) -> Result<(), String> {
    match name {
        "producer" => role::play(told, offer::run),
        "omma" => role::play(told, omma::run),
        "reader" => role::play(told, reader::run),
        _ => Err(format!("no role {name:?}")),
    }
}

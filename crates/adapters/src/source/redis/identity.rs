//! Who a process is, so that its own leases are told from those of another, and those of a dead one from those of a slow
//! one.

use std::path::Path;
use std::sync::OnceLock;

/// What tells a process of this machine from every other, past and present.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    /// The machine since it was started, and the space in which process ids count (a container has its own).
    machine: String,
    pid: u32,
    /// When it began, in the kernel's ticks; ids are used again.
    began: String,
}

/// This process in one line, the same for all its sources.
pub(super) fn own() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| {
        let process = this_process();
        let unique = read("/proc/sys/kernel/random/uuid");
        format!("{}|{}|{}|{unique}", process.machine, process.pid, process.began)
    })
}

fn this_process() -> Process {
    let pid = std::process::id();
    Process { machine: machine(), pid, began: began(pid).unwrap_or_default() }
}

fn machine() -> String {
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let host = read("/proc/sys/kernel/hostname").replace('|', "");
    format!("{host}/{}/{}", read("/proc/sys/kernel/random/boot_id"), space.display())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The 22nd field of its `stat`; the name before it may hold anything, so it is counted from the last bracket.
fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether a process is known to be dead: it was one of this machine, and is there no more, or another has its number. Of
/// other machines nothing is known but that their leases run out; nor of one whose `stat` is kept from us (`hidepid`).
pub(super) fn is_dead(identity: &str) -> bool {
    let mut parts = identity.split('|');
    let (Some(there), Some(pid), Some(since)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    if there != machine() || since.is_empty() {
        return false;
    }
    match began(pid) {
        Some(began) => began != since,
        None => !exists(pid),
    }
}

fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: a call without pointers that sends nothing.
    unsafe { libc::kill(pid, 0) == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_this_machine_is_known_to_be_dead() {
        let here = machine();
        let process = this_process();
        let table = [
            (own().to_owned(), false),
            (format!("{here}|{}|{}|x", process.pid, process.began), false),
            (format!("{here}|{}|1|x", process.pid), true),
            (format!("{here}|4194305|77|x"), true),
            (format!("elsewhere|{}|1|x", process.pid), false),
            ("garbage".to_owned(), false),
            (String::new(), false),
            (format!("{here}|{}||x", process.pid), false),
        ];
        table.iter().for_each(|(identity, dead)| assert_eq!(is_dead(identity), *dead, "{identity}"));
    }
}

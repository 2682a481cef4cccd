//! Pins an instance to cores: for machines with several memory nodes, or to keep models out of one another's way.
//!
//! Called on the thread that is to be pinned, before the runtime makes threads of its own: they inherit it. Off unless
//! cores are configured; the system places threads well on ordinary machines.

/// The cores of instance `number`: `each` of them, in turn, from the beginning again after the last.
pub(super) fn cores_of(cores: &[usize], number: usize, each: usize) -> Vec<usize> {
    let each = each.clamp(1, cores.len().max(1));
    let mut own: Vec<usize> =
        cores.iter().copied().cycle().skip((number % cores.len().max(1)) * each).take(each).collect();
    own.sort_unstable();
    own.dedup();
    own
}

/// Lets the calling thread, and threads that it starts, run on these cores only.
///
/// # Errors
/// This process may not run on one of them, or there is no such core.
#[cfg(target_os = "linux")]
pub(super) fn pin(cores: &[usize]) -> Result<(), String> {
    // SAFETY: an all-zero set is an empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores {
        if core >= libc::CPU_SETSIZE as usize {
            return Err(format!("cores = {cores:?}: {core} is beyond {}", libc::CPU_SETSIZE - 1));
        }
        // SAFETY: within the set's size, as checked.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the set lives through the call and its size is told; 0 means the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("cores = {cores:?}: this process cannot run there: {error}"));
    }
    // The system takes a set of which one core exists; what is missing would show only as a slow instance.
    // SAFETY: as above.
    let mut got: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut got) } == 0 {
        // SAFETY: each core is within the set's size.
        let missing: Vec<usize> =
            cores.iter().copied().filter(|&core| !unsafe { libc::CPU_ISSET(core, &got) }).collect();
        if !missing.is_empty() {
            return Err(format!("cores = {cores:?}: this process cannot run on {missing:?}"));
        }
    }
    Ok(())
}

/// # Errors
/// Always: only Linux is asked for it.
#[cfg(not(target_os = "linux"))]
pub(super) fn pin(cores: &[usize]) -> Result<(), String> {
    Err(format!("cores = {cores:?}: instances can be pinned on Linux only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_take_cores_in_turn() {
        let table: [(&[usize], usize, usize, &[usize]); 7] = [
            (&[0, 1], 0, 1, &[0]),
            (&[0, 1], 1, 1, &[1]),
            (&[0, 1], 2, 1, &[0]),
            (&[4, 5, 6, 7], 0, 2, &[4, 5]),
            (&[4, 5, 6, 7], 1, 2, &[6, 7]),
            (&[4, 5, 6, 7], 2, 2, &[4, 5]),
            (&[3], 5, 8, &[3]),
        ];
        for (cores, number, each, expected) in table {
            assert_eq!(cores_of(cores, number, each), expected, "{cores:?}, instance {number}, {each} each");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_core_that_is_not_there_is_an_error_that_names_it() {
        // On a thread of its own, which keeps what it is pinned to.
        std::thread::spawn(|| {
            assert!(pin(&[1023]).expect_err("no such core").contains("cores = [1023]"));
            assert!(pin(&[4000]).expect_err("no such core").contains("4000 is beyond 1023"));
            // SAFETY: a call without pointers.
            let here = unsafe { libc::sched_getcpu() } as usize;
            assert_eq!(pin(&[here]), Ok(()));
            // SAFETY: as above.
            assert_eq!(unsafe { libc::sched_getcpu() } as usize, here);
        })
        .join()
        .expect("no panic");
    }
}

//! A segment that is truncated while it is mapped must cost its frames, not the process.
//!
//! Touching a mapped page that its file no longer has raises SIGBUS. No check beforehand can prevent that (the file may
//! shrink between check and use), and a copy through `pread` would cost what handles are there to save. So there is one
//! handler for the process: if the address lies in one of our mappings, the mapping is marked *lost*, ordinary zero pages
//! are laid over it, and the read goes on over zeros; whoever reads looks at the mark afterwards and gives the frame up.
//! This costs nothing as long as nothing happens. Every other SIGBUS goes to the handler that was there before, or has
//! its ordinary effect.
//!
//! The handler runs on the thread that touched the page, and does only what a signal handler may: atomic loads and
//! stores, `mmap`, `sigaction`.

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many mappings of rings one process may have: half of what Linux gives a process by default (`vm.max_map_count`,
/// 65,530). The table is a megabyte of zeros, of which only what is used takes memory.
const REGIONS_MAX: usize = 32_768;

/// A mapping that the handler knows.
struct Region {
    taken: AtomicBool,
    /// Zero while there is none: the handler looks at nothing else then.
    start: AtomicUsize,
    bytes: AtomicUsize,
    writable: AtomicBool,
    lost: AtomicBool,
}

static REGIONS: [Region; REGIONS_MAX] = [const {
    Region {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        writable: AtomicBool::new(false),
        lost: AtomicBool::new(false),
    }
}; REGIONS_MAX];

/// Where the search for a free region begins.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The handler that was there before ours; `None` inside: its address could not be learnt.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A mapping under the handler's care, until it is dropped, which must be before the memory is unmapped.
#[derive(Debug)]
pub(crate) struct Guarded {
    index: usize,
}

impl Guarded {
    /// # Errors
    /// There are too many mappings, or the system takes no handler.
    pub(crate) fn new(start: usize, bytes: usize, writable: bool) -> io::Result<Self> {
        install()?;
        // From behind the last one on: many that are mapped one after the other do not all look at those before.
        let next = NEXT.load(Ordering::Relaxed);
        let free = (next..REGIONS_MAX).chain(0..next).find(|&index| {
            let taken = &REGIONS[index].taken;
            taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        let index = free.ok_or_else(|| {
            io::Error::other(format!("this process maps {REGIONS_MAX} segments already, expected no more"))
        })?;
        NEXT.store((index + 1) % REGIONS_MAX, Ordering::Relaxed);
        let region = &REGIONS[index];
        region.bytes.store(bytes, Ordering::Relaxed);
        region.writable.store(writable, Ordering::Relaxed);
        region.lost.store(false, Ordering::Relaxed);
        // Last: from here on the handler looks at the rest.
        region.start.store(start, Ordering::Release);
        Ok(Self { index })
    }

    /// Whether the file has lost pages that were touched. To be asked after the memory was read, behind a fence.
    pub(crate) fn lost(&self) -> bool {
        REGIONS[self.index].lost.load(Ordering::Acquire)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let region = &REGIONS[self.index];
        region.start.store(0, Ordering::Release);
        region.taken.store(false, Ordering::Release);
    }
}

/// Sets the handler, once in the life of the process.
fn install() -> io::Result<()> {
    static DONE: OnceLock<Result<(), i32>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        // SAFETY: a zeroed `sigaction` is a valid one; both calls are given valid pointers.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) != 0 {
                return Err(io::Error::last_os_error().raw_os_error().unwrap_or_default());
            }
            // Before ours is set: it may be needed at once.
            let _ = PREVIOUS.set(previous);
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_bus_error as *const () as usize;
            // On the alternate stack, where the handler before ours may expect to run (Rust's own does).
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut ours.sa_mask);
            if libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error().raw_os_error().unwrap_or_default());
            }
        }
        Ok(())
    });
    done.map_err(io::Error::from_raw_os_error)
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid `info`; the address is one only if the kernel itself raised the signal, which
    // positive codes tell.
    let fault = unsafe { if (*info).si_code > 0 { Some((*info).si_addr() as usize) } else { None } };
    if fault.is_some_and(replace) {
        return;
    }
    // SAFETY: called as the kernel called us.
    unsafe { pass_on(signal, info, context, fault.is_some()) };
}

/// Lays zeros over the mapping that holds `address`; `false` if none of ours does, or it cannot be done.
fn replace(address: usize) -> bool {
    for region in &REGIONS {
        let start = region.start.load(Ordering::Acquire);
        let bytes = region.bytes.load(Ordering::Relaxed);
        if start == 0 || address < start || address - start >= bytes {
            continue;
        }
        // Before the zeros can be seen.
        region.lost.store(true, Ordering::SeqCst);
        let mut protection = libc::PROT_READ;
        if region.writable.load(Ordering::Relaxed) {
            protection |= libc::PROT_WRITE;
        }
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the range is a mapping of ours that the interrupted thread reads and therefore keeps; the new one takes
        // its place at once, so that nobody ever finds none. `errno` belongs to the interrupted code.
        unsafe {
            let errno = *libc::__errno_location();
            let mapped = libc::mmap(start as *mut libc::c_void, bytes, protection, flags, -1, 0);
            *libc::__errno_location() = errno;
            return mapped != libc::MAP_FAILED;
        }
    }
    false
}

/// What the process did with a SIGBUS before we came.
///
/// # Safety
/// To be called from a handler of `signal`, with the handler's own arguments.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, fault: bool) {
    let previous = PREVIOUS.get().map_or((libc::SIG_DFL, 0), |previous| (previous.sa_sigaction, previous.sa_flags));
    // SAFETY: a handler's address together with the flag that says how it is called, as the system gave them.
    unsafe {
        match previous {
            (libc::SIG_IGN, _) if !fault => {}
            (libc::SIG_DFL | libc::SIG_IGN, _) => {
                // A fault happens again on return and then ends the process; a signal that was sent must be sent again.
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                if !fault {
                    libc::raise(signal);
                }
            }
            (handler, flags) if flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
            (handler, _) => {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

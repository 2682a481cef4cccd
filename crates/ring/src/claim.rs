//! Whose a segment's name is: taking it, giving it up, and telling the living from the dead.
//!
//! A producer holds an exclusive `flock` on its file from before the file has a name until the process is gone, however
//! it goes; a file of that name which can be locked is therefore a dead producer's, and stays one. Whoever removes a file
//! holds its lock and has seen that the name still means it. Two consequences make this sound:
//! * a name appears with a whole, locked ring behind it (the file is made without a name, `O_TMPFILE`, and linked), so a
//!   kill at any point leaves either nothing or a ring;
//! * nobody can remove a file that is not the one it has locked, because a name changes hands only by removal.
//!
//! The lock is the open file's, not the process's: a child of the producer that keeps the file open without `exec` keeps
//! the name taken. Files are opened so that `exec` closes them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::CreateError;
use crate::layout::{FileHeader, HeaderFault, RESERVED_AT, SLOT_HEADER_BYTES, WRITTEN_TIME_AT};

/// How long a lock must be held for its holder to count as a producer: a sweep holds it for some microseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// How often a name is tried for that others take and give up meanwhile.
const TRIES_MAX: usize = 100;

/// A file's identity: device and inode.
pub(crate) type Identity = (u64, u64);

pub(crate) fn identity(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Opens a segment for reading: a regular file, not followed if it is a link, never waited for if it is a pipe.
///
/// # Errors
/// The system's; `InvalidInput` if it is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<(File, std::fs::Metadata)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok((file, metadata))
}

/// Whether `path` still names the file of this identity.
pub(crate) fn names(path: &Path, expected: Identity) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| identity(&metadata) == expected)
}

/// # Errors
/// `WouldBlock`: somebody else holds it.
pub(crate) fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: a call on an open file.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a ring's file says that nobody has mapped.
pub(crate) struct Found {
    pub header: FileHeader,
    pub reserved: u64,
    /// When it was created or last written to, in nanoseconds since 1970.
    pub active_at: u64,
}

/// Reads a ring's header through the file, so that nothing that happens to the file can hurt.
///
/// # Errors
/// The file is no ring.
pub(crate) fn inspect(file: &File, file_bytes: u64) -> Result<Found, HeaderFault> {
    let mut bytes = [0; SLOT_HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(|_| HeaderFault::Short { bytes: file_bytes })?;
    let header = FileHeader::read(&bytes, file_bytes)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at as u64).map_or(0, |()| u64::from_le_bytes(bytes))
    };
    Ok(Found { header, reserved: number(RESERVED_AT), active_at: header.created_at.0.max(number(WRITTEN_TIME_AT)) })
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::Io { path, what, source }
}

/// Removes what a dead producer has left at `path`, and says up to where it had reserved; `None` if nothing is there.
///
/// # Errors
/// A producer is alive there, or something that is no ring is there.
pub(crate) fn take_over(path: &Path) -> Result<Option<u64>, CreateError> {
    let begun = Instant::now();
    for _ in 0..TRIES_MAX {
        let (file, metadata) = match open(path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // A link, a folder, a pipe, a device.
            Err(error) if error.kind() == ErrorKind::InvalidInput || error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(CreateError::Foreign { path: path.to_owned() });
            }
            Err(error) => return Err(failed(path, "open what is there")(error)),
        };
        let found = inspect(&file, metadata.len());
        while let Err(error) = try_lock(&file) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(failed(path, "lock what is there")(error));
            }
            if begun.elapsed() > LOCK_PATIENCE {
                let pid = found.map_or(0, |found| found.header.pid);
                return Err(CreateError::InUse { path: path.to_owned(), pid });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        if !names(path, identity(&metadata)) {
            continue;
        }
        // One that was truncated to nothing is nobody's; anything else that is no ring may be somebody's.
        if found.is_err() && metadata.len() > 0 {
            return Err(CreateError::Foreign { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed(path, "remove a dead producer's segment"))?;
        return Ok(Some(found.map_or(0, |found| found.reserved)));
    }
    Err(CreateError::Contended { path: path.to_owned() })
}

/// A new file in `folder` that has no name yet, of `bytes` that are really there, locked.
///
/// # Errors
/// No room, or the folder's file system knows no files without a name (tmpfs does).
pub(crate) fn nameless(folder: &Path, bytes: u64, mode: u32) -> Result<File, CreateError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .mode(mode)
        .open(folder)
        .map_err(failed(folder, "create a segment without a name in this folder"))?;
    // Pages that do not exist yet would be asked for while writing, where the answer "no room" is a signal.
    let length = libc::off_t::try_from(bytes).unwrap_or(libc::off_t::MAX);
    // SAFETY: a call on an open file.
    let allocated = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    if allocated != 0 {
        let source = io::Error::from_raw_os_error(allocated);
        return Err(CreateError::NoRoom { path: folder.to_owned(), bytes, source });
    }
    try_lock(&file).map_err(failed(folder, "lock a new segment"))?;
    Ok(file)
}

/// Gives a nameless file its name; `false` if the name is taken.
///
/// # Errors
/// The system's.
pub(crate) fn link(file: &File, path: &Path) -> Result<bool, CreateError> {
    use std::os::unix::ffi::OsStrExt;
    let refused = failed(path, "name the segment (through /proc)");
    let source = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    let target = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| CreateError::Foreign { path: path.to_owned() })?;
    // SAFETY: two texts that end with zero.
    let linked = unsafe {
        libc::linkat(libc::AT_FDCWD, source.as_ptr().cast(), libc::AT_FDCWD, target.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    };
    if linked == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        error => Err(refused(error)),
    }
}

/// Calls `make` until it has got the name, removing what dead producers leave there; at most [`TRIES_MAX`] times.
///
/// # Errors
/// Those of the steps.
pub(crate) fn claim<T>(
    path: &Path,
    mut make: impl FnMut(u64) -> Result<Option<T>, CreateError>,
) -> Result<T, CreateError> {
    let mut reserved = 0;
    for _ in 0..TRIES_MAX {
        reserved = reserved.max(take_over(path)?.unwrap_or(0));
        if let Some(made) = make(reserved)? {
            return Ok(made);
        }
    }
    Err(CreateError::Contended { path: path.to_owned() })
}

//! The socket of packets between omma and a worker: a message is one packet, whole or not at all.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A pair of connected ends.
///
/// # Errors
/// There are no descriptors left.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: an array of two; both are owned at once.
    unsafe {
        if libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Sends one packet, with a descriptor if one is to go along.
///
/// # Errors
/// The other end is gone, or the packet too large.
pub(super) fn send(socket: &OwnedFd, packet: &[u8], along: Option<BorrowedFd<'_>>) -> io::Result<()> {
    /// Room for one descriptor's control message, aligned as its head must be.
    #[repr(C, align(8))]
    struct Control([u8; 32]);
    let mut control = Control([0; 32]);
    let mut piece = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: plain data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    if let Some(along) = along {
        // SAFETY: the control buffer is aligned and has room for one head and one descriptor; all of it lives through
        // the call below.
        unsafe {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
            libc::CMSG_DATA(head).cast::<i32>().write_unaligned(along.as_raw_fd());
        }
    }
    loop {
        // SAFETY: the message and all that it points to live through the call, which only reads them.
        if unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A packet of that many bytes, which may be more than there was room for.
    Packet(usize),
    Nothing,
    /// The other end is closed.
    End,
}

/// Waits for one packet, at most so long.
///
/// # Errors
/// The socket itself fails.
pub(super) fn receive(socket: &OwnedFd, packet: &mut [u8], span: Duration) -> io::Result<Came> {
    let mut wait = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let millis = i32::try_from(span.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: one entry, alive through the call.
    let woken = unsafe { libc::poll(&raw mut wait, 1, millis) };
    if woken == 0 {
        return Ok(Came::Nothing);
    }
    if woken > 0 {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: a buffer of that length, alive through the call.
        let count = unsafe { libc::recv(socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), flags) };
        match usize::try_from(count) {
            Ok(0) => return Ok(Came::End),
            Ok(count) => return Ok(Came::Packet(count)),
            Err(_) => {}
        }
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(Came::Nothing),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(Came::End),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn packets_come_whole_and_the_end_shows() {
        let (one, other) = pair().expect("a pair");
        let mut packet = [0; 8];
        assert_eq!(receive(&one, &mut packet, Duration::ZERO).ok(), Some(Came::Nothing));
        send(&other, b"abc", Some(other.as_fd())).expect("sent");
        send(&other, &[1; 100], None).expect("sent");
        assert_eq!(receive(&one, &mut packet, Duration::ZERO).ok(), Some(Came::Packet(3)));
        assert_eq!(&packet[..3], b"abc");
        assert_eq!(receive(&one, &mut packet, Duration::ZERO).ok(), Some(Came::Packet(100)), "what was left out shows");
        drop(other);
        assert_eq!(receive(&one, &mut packet, Duration::from_secs(1)).ok(), Some(Came::End));
        assert!(send(&one, b"x", None).is_err());
    }
}

//! The Python package `omma`, carried in the binary: workers import it from memory, so that nothing need be installed
//! beside the interpreter and the two sides are always of one version.
//!
//! A zip archive in an anonymous file; Python imports from it by its path below `/proc/self/fd`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};

const FILES: [(&str, &str); 4] = [
    ("omma/__init__.py", include_str!("../../../../../python/omma/__init__.py")),
    ("omma/_outputs.py", include_str!("../../../../../python/omma/_outputs.py")),
    ("omma/_wire.py", include_str!("../../../../../python/omma/_wire.py")),
    ("omma/worker.py", include_str!("../../../../../python/omma/worker.py")),
];

/// # Errors
/// The system has no memory or no descriptors left.
pub(super) fn package() -> io::Result<OwnedFd> {
    // SAFETY: a call with valid arguments; the descriptor is owned at once.
    let file = unsafe {
        let file = libc::memfd_create(c"omma-python".as_ptr(), libc::MFD_CLOEXEC);
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(file)
    };
    let mut file = File::from(file);
    file.write_all(&archive(&FILES))?;
    Ok(file.into())
}

/// The files as a zip archive without compression.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let start = body.len() as u32;
        // Version 2.0, no flags, stored, 1 January 1980, checksum, both sizes, length of the name, no extra field.
        let mut common = Vec::new();
        for field in [20_u16, 0, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        common.extend(checksum(text.as_bytes()).to_le_bytes());
        common.extend((text.len() as u32).to_le_bytes());
        common.extend((text.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        body.extend(b"PK\x03\x04");
        body.extend(&common);
        body.extend(name.as_bytes());
        body.extend(text.as_bytes());
        directory.extend(b"PK\x01\x02");
        directory.extend(20_u16.to_le_bytes());
        directory.extend(&common);
        // No comment, disk 0, no attributes.
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = files.len() as u16;
    let (at, bytes) = (body.len() as u32, directory.len() as u32);
    body.extend(directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend(count.to_le_bytes());
    body.extend(count.to_le_bytes());
    body.extend(bytes.to_le_bytes());
    body.extend(at.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body
}

/// CRC-32 as zip has it. Bit by bit: 40 KB once per start need no table.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }
}

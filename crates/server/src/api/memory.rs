//! System shared memory: regions that clients on this host have registered, read and written where they are used.
//!
//! A region is an open file of the shared-memory file system, read with one `pread` straight into the batch's slot and
//! written with one `pwrite`. It is not mapped: a client that truncates its region would kill this process with a bus
//! error in the middle of the copy; so it gets an error instead. The copy costs the same.
//!
//! Off unless the configuration says otherwise: whoever may register a region can read and write any shared memory that
//! this process can.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use omma_protocol::{SharedMemory, quoted};
use parking_lot::RwLock;

use super::error::{ApiError, Kind};

/// Where the system keeps shared memory.
const FOLDER: &str = "/dev/shm";
const REGIONS_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 255;

/// What a client says of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub name: String,
    /// Its name in the system.
    pub key: String,
    pub offset: u64,
    pub byte_size: u64,
}

/// An open region.
pub struct Region {
    pub told: Told,
    file: File,
}

/// All regions that are registered.
#[derive(Default)]
pub struct Regions {
    on: bool,
    regions: RwLock<BTreeMap<String, Arc<Region>>>,
}

impl Regions {
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on, regions: RwLock::default() }
    }

    fn switched_on(&self) -> Result<(), ApiError> {
        if self.on {
            return Ok(());
        }
        Err(ApiError::new(
            Kind::Refused,
            "shared memory of clients is switched off: direct.client_shared_memory = true in the configuration allows it",
        ))
    }

    /// # Errors
    /// It is switched off, there is no such shared memory, it is shorter than said, or the name is taken.
    pub fn register(&self, told: Told) -> Result<(), ApiError> {
        self.switched_on()?;
        if told.name.is_empty() || told.name.len() > NAME_BYTES_MAX {
            return Err(ApiError::invalid(format!("a region's name has {} bytes, expected 1 to 255", told.name.len())));
        }
        let file = open(&told)?;
        let mut regions = self.regions.write();
        if regions.contains_key(&told.name) {
            return Err(ApiError::invalid(format!(
                "region {} is registered already, unregister it first",
                quoted(&told.name)
            )));
        }
        if regions.len() >= REGIONS_MAX {
            return Err(ApiError::new(
                Kind::Unavailable,
                format!("{REGIONS_MAX} regions are registered, the most there may be"),
            ));
        }
        regions.insert(told.name.clone(), Arc::new(Region { told, file }));
        Ok(())
    }

    /// Forgets one region, or all of them for the empty name. One that is not registered is as good as forgotten.
    pub fn unregister(&self, name: &str) {
        let mut regions = self.regions.write();
        if name.is_empty() {
            regions.clear();
        } else {
            regions.remove(name);
        }
    }

    /// One region, or all of them for the empty name.
    ///
    /// # Errors
    /// There is no region of this name.
    pub fn status(&self, name: &str) -> Result<Vec<Told>, ApiError> {
        if name.is_empty() {
            return Ok(self.regions.read().values().map(|region| region.told.clone()).collect());
        }
        Ok(vec![self.region(name)?.told.clone()])
    }

    fn region(&self, name: &str) -> Result<Arc<Region>, ApiError> {
        self.regions.read().get(name).cloned().ok_or_else(|| {
            ApiError::new(Kind::NotFound, format!("there is no registered shared memory region {}", quoted(name)))
        })
    }

    /// The place that a tensor's parameters name.
    ///
    /// # Errors
    /// It is switched off, there is no such region, or the place is not inside.
    pub fn place(&self, wanted: &SharedMemory) -> Result<Place, ApiError> {
        self.switched_on()?;
        let region = self.region(&wanted.region)?;
        let (offset, size) = (wanted.offset as u64, wanted.byte_size as u64);
        match offset.checked_add(size) {
            Some(end) if end <= region.told.byte_size => {
                Ok(Place { from: region.told.offset + offset, byte_size: wanted.byte_size, region })
            }
            _ => Err(ApiError::invalid(format!(
                "{size} bytes at {offset} of region {}, which has {}",
                quoted(&wanted.region),
                region.told.byte_size
            ))),
        }
    }
}

/// A part of a region.
pub struct Place {
    region: Arc<Region>,
    /// In the file.
    from: u64,
    pub byte_size: usize,
}

impl Place {
    /// As the request named it.
    #[must_use]
    pub fn told(&self) -> SharedMemory {
        let offset = usize::try_from(self.from - self.region.told.offset).unwrap_or(usize::MAX);
        SharedMemory { region: self.region.told.name.clone(), offset, byte_size: self.byte_size }
    }

    /// # Errors
    /// The region has become shorter than its owner said.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), ApiError> {
        self.region.file.read_exact_at(into, self.from + at as u64).map_err(|error| self.failed("read", &error))
    }

    /// # Errors
    /// The system refuses.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<(), ApiError> {
        self.region.file.write_all_at(bytes, self.from + at as u64).map_err(|error| self.failed("written", &error))
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> ApiError {
        ApiError::invalid(format!(
            "region {} cannot be {what} ({error}): is it shorter than it was registered?",
            quoted(&self.region.told.name)
        ))
    }
}

fn open(told: &Told) -> Result<File, ApiError> {
    let key = quoted(&told.key);
    let name = told.key.strip_prefix('/').unwrap_or(&told.key);
    // One name in one folder, never a path: a client must not reach any other file.
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." || name.len() > NAME_BYTES_MAX {
        return Err(ApiError::invalid(format!("the key {key}, expected the name of a shared memory object")));
    }
    let mut path = PathBuf::from(FOLDER);
    path.push(name);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let failed =
        |error: std::io::Error| ApiError::invalid(format!("the shared memory {key} cannot be opened: {error}"));
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(ApiError::invalid(format!("the key {key} is no shared memory object")));
    }
    match told.offset.checked_add(told.byte_size) {
        Some(end) if end <= about.len() && told.byte_size > 0 => Ok(file),
        _ => Err(ApiError::invalid(format!(
            "{} bytes at {} of the shared memory {key}, which has {}",
            told.byte_size,
            told.offset,
            about.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Object(String);

    impl Object {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let key = format!("omma-test-{}-{name}", std::process::id());
            std::fs::write(format!("{FOLDER}/{key}"), bytes).expect("shared memory can be made");
            Self(key)
        }
    }

    impl Drop for Object {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(format!("{FOLDER}/{}", self.0));
        }
    }

    fn told(name: &str, key: &str, offset: u64, byte_size: u64) -> Told {
        Told { name: name.into(), key: key.into(), offset, byte_size }
    }

    fn at(region: &str, offset: usize, byte_size: usize) -> SharedMemory {
        SharedMemory { region: region.into(), offset, byte_size }
    }

    #[test]
    fn a_region_is_read_and_written_in_its_bounds_until_it_is_unregistered() {
        let object = Object::new("used", b"0123456789");
        let regions = Regions::new(true);
        regions.register(told("r", &format!("/{}", object.0), 2, 6)).expect("registered");
        let place = regions.place(&at("r", 1, 4)).expect("inside");
        let mut read = [0; 2];
        place.read(1, &mut read).expect("read");
        assert_eq!(&read, b"45");
        place.write(0, b"ab").expect("written");
        assert_eq!(std::fs::read(format!("{FOLDER}/{}", object.0)).expect("there"), b"012ab56789");
        for outside in [at("r", 3, 4), at("r", 7, 0), at("r", usize::MAX, 2), at("s", 0, 1)] {
            assert!(regions.place(&outside).is_err(), "{outside:?}");
        }
        assert_eq!(regions.status("").expect("all").len(), 1);
        assert!(regions.register(told("r", &object.0, 0, 1)).is_err(), "the name is taken");
        regions.unregister("r");
        assert!(regions.place(&at("r", 0, 1)).is_err());
        assert!(regions.status("r").is_err());
    }

    #[test]
    fn a_region_that_its_owner_cuts_off_is_an_error_and_no_crash() {
        let object = Object::new("cut", &[7; 100_000]);
        let regions = Regions::new(true);
        regions.register(told("r", &object.0, 0, 100_000)).expect("registered");
        let place = regions.place(&at("r", 0, 100_000)).expect("inside");
        std::fs::write(format!("{FOLDER}/{}", object.0), b"").expect("cut off");
        let error = place.read(0, &mut vec![0; 100_000]).expect_err("nothing to read");
        assert!(error.message.contains("shorter than it was registered"), "{error}");
    }

    #[test]
    fn what_is_no_shared_memory_is_refused() {
        let object = Object::new("refused", b"0123");
        let regions = Regions::new(true);
        for (key, offset, byte_size) in [
            ("", 0, 1),
            ("/", 0, 1),
            ("..", 0, 1),
            ("../etc/passwd", 0, 1),
            ("a/b", 0, 1),
            ("nul\0", 0, 1),
            ("omma-test-not-there", 0, 1),
            (object.0.as_str(), 0, 0),
            (object.0.as_str(), 0, 5),
            (object.0.as_str(), u64::MAX, 2),
        ] {
            let error = regions.register(told("r", key, offset, byte_size)).expect_err(key);
            assert_eq!(error.kind, Kind::Invalid, "{error}");
        }
        let link = format!("{FOLDER}/omma-test-{}-link", std::process::id());
        std::os::unix::fs::symlink("/etc/passwd", &link).expect("a link");
        let refused = regions.register(told("r", link.rsplit('/').next().expect("a name"), 0, 1));
        std::fs::remove_file(link).expect("removed");
        assert!(refused.is_err(), "links are not followed");
        let off = Regions::new(false).register(told("r", &object.0, 0, 4)).expect_err("off");
        assert_eq!(off.kind, Kind::Refused);
    }
}

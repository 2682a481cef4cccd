//! A reader's segments: mapped when a message first names them, kept while they are used.
//!
//! Belongs to one thread (a source's); the handles it gives may go anywhere and keep their segment mapped. A handle to a
//! mapped segment costs a look into a table and at one counter; one to a segment that is not mapped costs some system
//! calls, of which nothing is remembered if they fail, so that a producer that comes late is found at once.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use omma_frame::{Handle, Payload, Unreadable};

use crate::claim::{self, Identity, identity};
use crate::segment::invalid;
use crate::sweep::{Swept, sweep};
use crate::{DEFAULT_FOLDER, RingSegment, SegmentName};

/// How a reader finds segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingsOptions {
    pub folder: PathBuf,
    /// Segments kept mapped at once; beyond it, the one unused for longest goes.
    pub mapped_max: usize,
}

impl Default for RingsOptions {
    fn default() -> Self {
        // One for each of 10,000 cameras, and room for those that have just been made anew.
        Self { folder: DEFAULT_FOLDER.into(), mapped_max: 16_384 }
    }
}

/// The segments that one reader has mapped.
#[derive(Debug)]
pub struct Rings {
    options: RingsOptions,
    mapped: HashMap<Box<str>, Mapped>,
    /// Had to go while handles to them were on their way: those keep them mapped, and a second mapping would only add to it.
    lent: HashMap<Identity, Weak<RingSegment>>,
    /// Counts handles: what has been used last.
    uses: u64,
    /// At the last [`Rings::refresh`].
    uses_refreshed: u64,
}

#[derive(Debug)]
struct Mapped {
    segment: Arc<RingSegment>,
    identity: Identity,
    /// The producer was seen beyond here.
    written: u64,
    used: u64,
}

impl Rings {
    #[must_use]
    pub fn new(options: RingsOptions) -> Self {
        Self { options, mapped: HashMap::new(), lent: HashMap::new(), uses: 0, uses_refreshed: 0 }
    }

    /// The handle that a message means: the segment is mapped (as long as the handle lives), the picture is looked at
    /// when it is read.
    ///
    /// # Errors
    /// `handle_invalid`: no such name, no such segment, no ring, or a generation that it has not reached.
    pub fn handle(&mut self, segment: &str, generation: u64, byte_len: u64) -> Result<Handle, Unreadable> {
        self.uses += 1;
        let known = self.mapped.get_mut(segment).and_then(|mapped| mapped.for_generation(generation, self.uses));
        let found = match known {
            Some(known) => known,
            None => self.find(segment, generation)?,
        };
        let byte_len = usize::try_from(byte_len).unwrap_or(usize::MAX);
        Ok(Handle { segment: found, generation, byte_len })
    }

    /// As [`Rings::handle`], as what a source hands over: a frame that cannot be read goes its way all the same.
    pub fn payload(&mut self, segment: &str, generation: u64, byte_len: u64) -> Payload {
        match self.handle(segment, generation, byte_len) {
            Ok(handle) => Payload::Handle(handle),
            Err(what) => Payload::Unreadable(Arc::new(what)),
        }
    }

    /// Maps what the name means now, in the place of what it meant before.
    fn find(&mut self, segment: &str, generation: u64) -> Result<Arc<RingSegment>, Unreadable> {
        // Shown only if it is a name: then it is short and harmless.
        let name = SegmentName::parse(segment)
            .map_err(|what| Unreadable { reason: omma_frame::DropReason::HandleInvalid, message: what.to_string() })?;
        let name = name.as_str();
        let path = self.options.folder.join(name);
        let (file, metadata) = claim::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => invalid(name, format_args!("there is none in {}", self.options.folder.display())),
            _ => invalid(name, format_args!("cannot be opened: {error}")),
        })?;
        let identity = identity(&metadata);
        let known = self.mapped.get(name).filter(|known| known.identity == identity);
        let known = known.map(|known| Arc::clone(&known.segment));
        let known = known.or_else(|| self.lent.get(&identity).and_then(Weak::upgrade));
        let found = match known.filter(|known| !known.lost()) {
            Some(known) => known,
            None => Arc::new(RingSegment::open(&file, name)?),
        };
        let written = found.written();
        if generation >= written {
            let what = format_args!("generation {generation} is not written yet, the ring is written up to {written}");
            return Err(invalid(name, what));
        }
        self.make_room(name);
        let mapped = Mapped { segment: Arc::clone(&found), identity, written, used: self.uses };
        self.mapped.insert(name.into(), mapped);
        Ok(found)
    }

    fn make_room(&mut self, name: &str) {
        if self.mapped.contains_key(name) || self.mapped.len() < self.options.mapped_max.max(1) {
            return;
        }
        let oldest = self.mapped.iter().min_by_key(|(_, mapped)| mapped.used).map(|(name, _)| name.clone());
        let Some(oldest) = oldest.and_then(|oldest| self.mapped.remove(&oldest)) else { return };
        // No more stay than there are segments with handles on their way.
        self.lent.retain(|_, segment| segment.strong_count() > 0);
        self.lent.insert(oldest.identity, Arc::downgrade(&oldest.segment));
    }

    /// Lets go of segments that are gone, replaced or lost, and of those without a handle since the last call. To be
    /// called every few seconds: it makes one system call for each segment. Returns how many were let go.
    pub fn refresh(&mut self) -> usize {
        let before = self.mapped.len();
        let (folder, since) = (&self.options.folder, self.uses_refreshed);
        self.mapped.retain(|name, mapped| {
            let whole = std::fs::symlink_metadata(folder.join(&**name))
                .is_ok_and(|now| identity(&now) == mapped.identity && now.len() >= mapped.segment.file_bytes());
            whole && mapped.used > since && !mapped.segment.lost()
        });
        self.lent.retain(|_, segment| segment.strong_count() > 0);
        self.uses_refreshed = self.uses;
        before - self.mapped.len()
    }

    /// Removes what dead producers have left in the folder: see [`sweep`].
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sweep(&self, grace: Duration) -> std::io::Result<Swept> {
        sweep(&self.options.folder, grace)
    }

    /// How many segments are mapped.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.mapped.len()
    }
}

impl Mapped {
    /// The segment, if its producer has got there. Looks at the producer's counter only if what was seen of it last is
    /// not enough.
    fn for_generation(&mut self, generation: u64, used: u64) -> Option<Arc<RingSegment>> {
        if generation >= self.written {
            self.written = self.segment.written();
        }
        if generation >= self.written || self.segment.lost() {
            return None;
        }
        self.used = used;
        Some(Arc::clone(&self.segment))
    }
}

//! Random histories of writes, restarts and reads against a model that knows of every block whose it is.

use std::path::Path;

use omma_frame::{DropReason, PictureView, UnixNanos};
use omma_ring::{Format, Meta, Producer, RingOptions, Rings, RingsOptions};
use proptest::prelude::*;

const CAPACITY: usize = 4096;
const BLOCKS: usize = CAPACITY / 64;

#[derive(Debug, Clone)]
enum Step {
    Write {
        len: usize,
    },
    /// A payload whose making fails in the middle.
    Fail {
        len: usize,
    },
    /// Reads one of the payloads that were ever written.
    Read {
        which: usize,
    },
    /// Reads, and meanwhile writes.
    ReadWhile {
        which: usize,
        len: usize,
    },
    /// The producer is killed: its segment stays.
    Kill,
    /// The producer ends: its segment is removed.
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1..200_usize, 1..4033_usize, Just(64_usize), Just(4032_usize)];
    prop_oneof![
        6 => len.clone().prop_map(|len| Step::Write { len }),
        1 => len.clone().prop_map(|len| Step::Fail { len }),
        6 => any::<usize>().prop_map(|which| Step::Read { which }),
        2 => (any::<usize>(), len).prop_map(|(which, len)| Step::ReadWhile { which, len }),
        1 => Just(Step::Kill),
        1 => Just(Step::End),
    ]
}

fn payload(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 89 + at * 7) as u8).collect()
}

/// A payload that was written, in whichever ring.
#[derive(Debug, Clone, Copy)]
struct Written {
    ring: usize,
    number: usize,
    generation: u64,
    len: usize,
}

/// What the layout says of one ring.
struct Model {
    /// By block of the data area: the payload whose slot it was last given to.
    owners: Vec<usize>,
    position: u64,
}

impl Model {
    /// Gives a payload its slot, and says where it begins.
    fn give(&mut self, number: usize, len: usize) -> u64 {
        let blocks = (64 + len).div_ceil(64);
        let offset = self.position as usize % BLOCKS;
        let at = if offset + blocks > BLOCKS { 0 } else { offset };
        let skipped = if at == offset { 0 } else { BLOCKS - offset };
        let generation = self.position + skipped as u64;
        self.owners[at..at + blocks].fill(number);
        self.position = generation + blocks as u64;
        generation
    }

    fn holds(&self, what: &Written) -> bool {
        let at = what.generation as usize % BLOCKS;
        self.owners[at..at + (64 + what.len).div_ceil(64)].iter().all(|owner| *owner == what.number)
    }
}

struct World<'a> {
    folder: &'a Path,
    producer: Option<Producer>,
    rings: Rings,
    /// The last one is the living producer's.
    models: Vec<Model>,
    payloads: usize,
    written: Vec<Written>,
}

impl World<'_> {
    fn start(&mut self) {
        let options = RingOptions { folder: self.folder.to_owned(), ..RingOptions::new(CAPACITY as u64) };
        let mut producer = Producer::create("model", &options).expect("a ring");
        // Its first one tells where its positions begin: behind all that were used.
        let meta = Meta::encoded(Format::Jpeg, 0, UnixNanos(0));
        let first = producer.write(&meta, &payload(self.payloads, 1)).expect("room");
        assert!(self.models.last().is_none_or(|before| first >= before.position), "a generation is used twice");
        let mut model = Model { owners: vec![usize::MAX; BLOCKS], position: first };
        assert_eq!(model.give(self.payloads, 1), first);
        self.producer = Some(producer);
        self.written.push(Written { ring: self.models.len(), number: self.payloads, generation: first, len: 1 });
        self.models.push(model);
        self.payloads += 1;
    }

    fn write(&mut self, len: usize) {
        let meta = Meta::encoded(Format::Jpeg, 0, UnixNanos(0));
        let bytes = payload(self.payloads, len);
        let generation = self.producer.as_mut().expect("alive").write(&meta, &bytes).expect("room");
        let ring = self.models.len() - 1;
        assert_eq!(generation, self.models[ring].give(self.payloads, len));
        self.written.push(Written { ring, number: self.payloads, generation, len });
        self.payloads += 1;
    }

    fn fail(&mut self, len: usize) {
        let meta = Meta::encoded(Format::Jpeg, 0, UnixNanos(0));
        let producer = self.producer.as_mut().expect("alive");
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            producer.write_with(&meta, len, |room| {
                room.fill(0xEE);
                // Not a panic with its message: this happens thousands of times.
                std::panic::resume_unwind(Box::new("no picture"));
            })
        }));
        assert!(made.is_err());
        let ring = self.models.len() - 1;
        let generation = self.models[ring].give(self.payloads, len);
        self.payloads += 1;
        // No handle was given out; nor would one that is guessed show anything.
        let read = self.rings.handle("omma-model", generation, len as u64);
        let read = read.and_then(|handle| handle.segment.read(generation, &mut |_| panic!("half a payload")));
        assert_eq!(read.expect_err("nothing there").reason, DropReason::HandleInvalid);
    }

    fn read(&mut self, which: usize, meanwhile: Option<usize>) {
        let what = self.written[which % self.written.len()];
        let handle = self.rings.handle("omma-model", what.generation, what.len as u64);
        let mut seen = None;
        let read = handle.and_then(|handle| {
            handle.segment.read(what.generation, &mut |view| {
                let PictureView::Encoded(bytes) = view else { panic!("not what was written") };
                seen = Some(bytes.to_vec());
                if let Some(len) = meanwhile {
                    self.write(len);
                }
            })
        });
        let model = &self.models[what.ring];
        match read {
            Ok(()) => {
                assert_eq!(seen, Some(payload(what.number, what.len)), "{what:?}");
                assert!(model.holds(&what), "accepted, and not whole: {what:?}");
            }
            Err(error) => {
                assert_eq!(error.reason, DropReason::HandleOverwritten, "{what:?}: {}", error.message);
                // A ring that is no longer mapped is gone with all that was in it.
                let gone = model.position - what.generation > BLOCKS as u64;
                assert!(gone || what.ring + 1 < self.models.len(), "refused, and there: {what:?}: {}", error.message);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_is_whole_and_what_is_refused_is_gone(steps in proptest::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm");
        let options = RingsOptions { folder: folder.path().to_owned(), ..RingsOptions::default() };
        let (producer, rings) = (None, Rings::new(options));
        let (models, written) = (Vec::new(), Vec::new());
        let mut world = World { folder: folder.path(), producer, rings, models, payloads: 0, written };
        world.start();
        for step in steps {
            match step {
                Step::Write { len } => world.write(len),
                Step::Fail { len } => world.fail(len),
                Step::Read { which } => world.read(which, None),
                Step::ReadWhile { which, len } => world.read(which, Some(len)),
                Step::Kill => {
                    world.producer.take().expect("alive").leave();
                    world.start();
                }
                Step::End => {
                    drop(world.producer.take());
                    world.start();
                }
            }
        }
        drop(world.producer.take());
        prop_assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }
}

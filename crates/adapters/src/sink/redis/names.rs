//! Which stream a result goes to: a pattern with `{camera}` or `{shard}` in it.

use omma_engine::cameras::Camera;
use omma_frame::CameraId;

use crate::redis::link::{Place, slot_of};

const CAMERA: &str = "{camera}";
const SHARD: &str = "{shard}";
const PATTERN_BYTES_MAX: usize = 512;

/// What has a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Camera,
    /// Cameras are pinned to shards by a stable hash of their ids, the same in every process.
    Shard,
}

/// `omma:results:{camera}`, in its two halves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultNames {
    head: String,
    tail: String,
    per: Per,
}

/// A stream, as commands name it.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub key: Vec<u8>,
    /// The key of what is remembered beside the stream, in the same slot of a cluster.
    pub guard: Vec<u8>,
    pub place: Place,
}

impl ResultNames {
    /// `None`: the pattern has neither `{camera}` nor `{shard}`, or more than one of them.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        let (hole, per) = match (pattern.matches(CAMERA).count(), pattern.matches(SHARD).count()) {
            (1, 0) => (CAMERA, Per::Camera),
            (0, 1) => (SHARD, Per::Shard),
            _ => return None,
        };
        let (head, tail) = pattern.split_once(hole)?;
        let printable = pattern.len() <= PATTERN_BYTES_MAX && !pattern.chars().any(char::is_control);
        printable.then(|| Self { head: head.to_owned(), tail: tail.to_owned(), per })
    }

    #[must_use]
    pub fn per(&self) -> Per {
        self.per
    }

    /// The pattern, as it was written.
    #[must_use]
    pub fn shown(&self) -> String {
        let hole = if self.per == Per::Camera { CAMERA } else { SHARD };
        [&self.head, hole, &self.tail].concat()
    }

    /// The place of a camera's stream among all of them.
    pub(super) fn number(&self, camera: &Camera) -> usize {
        match self.per {
            Per::Camera => camera.index.slot(),
            Per::Shard => camera.shard as usize,
        }
    }

    /// The name of a camera's stream.
    pub(super) fn key(&self, camera: &CameraId, shard: u32) -> String {
        match self.per {
            Per::Camera => [&self.head, camera.as_str(), &self.tail].concat(),
            Per::Shard => [&self.head, shard.to_string().as_str(), &self.tail].concat(),
        }
    }

    pub(super) fn stream(&self, camera: &Camera) -> Stream {
        let key = self.key(&camera.plan.id, camera.shard);
        let tagged =
            key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty());
        let guard = if tagged { format!("{key}:seen") } else { format!("{{{key}}}:seen") };
        Stream { place: Place::Slot(slot_of(key.as_bytes())), key: key.into(), guard: guard.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_testkit::sink::cameras;

    #[test]
    fn patterns() {
        // (pattern, camera) -> (stream, what is beside it); the camera's shard is 3 of 32.
        let table = [
            ("omma:results:{camera}", "cam-1", Some(("omma:results:cam-1", "{omma:results:cam-1}:seen"))),
            ("r:{camera}:out", "{s07}:cam", Some(("r:{s07}:cam:out", "r:{s07}:cam:out:seen"))),
            ("omma:results:{shard}", "cam-1", Some(("omma:results:S", "{omma:results:S}:seen"))),
            ("{r{shard}}", "cam-1", Some(("{rS}", "{rS}:seen"))),
            ("results", "a", None),
            ("{camera}{camera}", "a", None),
            ("{camera}{shard}", "a", None),
            ("{camera}\n", "a", None),
        ];
        for (pattern, camera, expected) in table {
            let camera = &cameras(&[camera])[0];
            let names = ResultNames::parse(pattern);
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            let found = names.as_ref().map(|names| names.stream(camera)).map(|s| (text(s.key), text(s.guard)));
            let shard = camera.shard.to_string();
            let expected = expected.map(|(key, guard)| (key.replace('S', &shard), guard.replace('S', &shard)));
            assert_eq!(found, expected, "{pattern}");
            if let Some(names) = names {
                assert_eq!(names.shown(), pattern);
                let stream = names.stream(camera);
                assert_eq!(slot_of(&stream.key), slot_of(&stream.guard), "one slot of a cluster");
            }
        }
    }
}

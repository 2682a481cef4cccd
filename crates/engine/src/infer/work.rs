//! What waits at the desk and travels through a model: camera frames, and direct requests that somebody waits for.

use omma_frame::{
    CameraIndex, DropReason, Frame, FrameResult, Mono, Outcome, Payload, ServedBy, Settlement, Size, Timing, Token,
    UnixNanos,
};

use super::direct::Item;

/// The camera index of direct requests, which have none.
pub const NO_CAMERA: CameraIndex = CameraIndex(u32::MAX);

/// Somebody who waits for a direct answer.
pub trait Caller: Send {
    /// Whether they still wait; a request whose caller has left is not run.
    fn waits(&self) -> bool;
    /// Hands over the answer. Must not block.
    fn answer(self: Box<Self>, result: FrameResult);
    /// Of a caller who answers for one item of a request: whoever waits for the whole, unanswered.
    fn whole(self: Box<Self>) -> Option<Box<dyn Caller>> {
        None
    }
}

/// What a batcher holds.
pub enum Work {
    Frame(Frame),
    Direct { input: Input, received_at: Mono, caller: Box<dyn Caller> },
}

/// What goes into a slot of the batch.
pub enum Input {
    /// A picture to decode; the model's output is decoded too.
    Picture(Payload),
    /// One item of tensors, whose outputs are taken as the model gives them.
    Tensors(Item),
}

/// A frame in a batch: its result as far as it is known, and whom it goes to.
pub struct Pending {
    pub result: FrameResult,
    pub to: Destination,
}

pub enum Destination {
    /// The reorder window of the result's camera, at this place.
    Camera {
        ordinal: u64,
    },
    Caller(Box<dyn Caller>),
}

impl Work {
    /// Parts with the input and starts the result, which until then says that the engine stopped.
    #[must_use]
    pub fn begin(self, ordinal: u64, batched: Mono, served_by: ServedBy) -> (Input, Pending) {
        let start = |camera, sequence, token, captured_at, received| FrameResult {
            camera,
            sequence,
            token,
            captured_at,
            size: Size::default(),
            served_by,
            timing: Timing { received, batched, prepared: batched, inferred: batched },
            outcome: Outcome::Dropped { reason: DropReason::Shutdown, detail: None },
            name: None,
        };
        match self {
            Self::Frame(frame) => {
                let result = start(frame.camera, frame.sequence, frame.token, frame.captured_at, frame.received_at);
                let result = FrameResult { name: frame.name, ..result };
                (Input::Picture(frame.payload), Pending { result, to: Destination::Camera { ordinal } })
            }
            Self::Direct { input, received_at, caller } => {
                let result = start(NO_CAMERA, 0, Token::default(), UnixNanos::default(), received_at);
                (input, Pending { result, to: Destination::Caller(caller) })
            }
        }
    }

    /// Drops it before it was in any batch. A frame's settlement comes back; a caller is told at once.
    #[must_use]
    pub fn refuse(self, reason: DropReason, now: Mono) -> Option<Settlement> {
        match self {
            Self::Frame(frame) => Some(Settlement {
                camera: frame.camera,
                sequence: frame.sequence,
                token: frame.token,
                fate: omma_frame::Fate::Dropped(reason),
            }),
            direct @ Self::Direct { .. } => {
                let (_, mut pending) = direct.begin(0, now, ServedBy::default());
                pending.fail(reason, None);
                if let Destination::Caller(caller) = pending.to {
                    caller.answer(pending.result);
                }
                None
            }
        }
    }
}

impl Pending {
    pub fn fail(&mut self, reason: DropReason, detail: Option<&str>) {
        self.result.outcome = Outcome::Dropped { reason, detail: detail.map(Into::into) };
    }
}

//! Results into Redis Streams: one per camera, or one per shard, each frame's result exactly once.
//!
//! Lives on its writer's thread, one pipeline per [`PIPELINE_BYTES_MAX`] of results, all encoded into buffers that are
//! used again. What makes it exact:
//!
//! - In a camera's own stream a result of a frame out of Redis has the frame's own entry id, and Redis takes no id that
//!   is not above the stream's last. A refused id is looked for: it is there (this, or the process before it, has
//!   written it), or its place has been trimmed away, or later results of its camera were written first, by another
//!   process or because its frame was redelivered. Then it is appended behind them, once, with its own id in the field
//!   `entry`: out of order, since its place is closed for ever, but not lost.
//! - In a shard's stream ids are the server's, and a script remembers the last ids of each camera that it has written: it
//!   appends what is above them, and what is below them and not among them (taken over from a dead process while newer
//!   frames flowed).
//! - Frames that have no entry ids (`entry_ids` of a camera's plan: what its source is decides) get ids from the server.
//!   When the answer to such a result is lost, the end of the stream is read and compared with what was sent.
//!
//! Results of one camera in one pipeline are one transaction, so that none is taken while one before it is refused.

mod entry;
mod fates;
mod lanes;
mod lookup;
mod names;
mod round;
mod scripts;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use omma_engine::cameras::Camera;
use omma_engine::sink::{Retry, Sink, SinkError};
use omma_frame::{FrameResult, Token};

pub use self::entry::Form;
use self::entry::Values;
use self::fates::{Fate, Fates};
pub use self::lanes::Lanes;
use self::lookup::Found;
use self::names::Stream;
pub use self::names::{Per, ResultNames};
use self::round::{Round, Shape};
use self::verdict::{Verdict, verdict};
use crate::redis::{Link, LinkError, RedisOptions};
use crate::sink::encode::{ModelLabels, ResultEncoder};

/// A pipeline ends with the camera or shard whose results go beyond this.
const PIPELINE_BYTES_MAX: usize = 512 << 10;
/// From one pipeline to the next: each wakes the server and this thread, whether it holds one result or many.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Refused ids that are looked for with one question.
const LOOKED_UP_MAX: usize = 256;

/// What is written, and where.
#[derive(Debug, Clone)]
pub struct RedisSinkOptions {
    pub redis: RedisOptions,
    pub names: ResultNames,
    pub form: Form,
    /// About how many entries each stream keeps; `None`: all.
    pub entries_max: Option<u64>,
    /// A larger result is refused by name.
    pub result_bytes_max: usize,
}

impl RedisSinkOptions {
    #[must_use]
    pub fn new(redis: RedisOptions, names: ResultNames) -> Self {
        Self { redis, names, form: Form::default(), entries_max: None, result_bytes_max: 8 << 20 }
    }
}

/// Publishes results to Redis Streams.
pub struct RedisSink {
    options: RedisSinkOptions,
    shape: Shape,
    link: Link,
    /// The last pipeline was answered, so that a lost connection is worth another attempt at once.
    well: bool,
    encoder: ResultEncoder,
    /// By camera or by shard; made on first use.
    streams: Vec<Option<Stream>>,
    values: Values,
    fates: Fates,
    round: Round,
    /// What is to be sent: the number of its stream, its place.
    order: Vec<(usize, usize)>,
}

impl RedisSink {
    /// Connects with the first result. `models` in the order of the plan's.
    ///
    /// # Errors
    /// The options cannot be right.
    pub fn new(options: RedisSinkOptions, models: Vec<ModelLabels>) -> Result<Self, LinkError> {
        Ok(Self {
            shape: Shape { form: options.form, keep: options.entries_max },
            link: Link::new(options.redis.clone())?,
            options,
            well: false,
            encoder: ResultEncoder::new(models),
            streams: Vec::new(),
            values: Values::default(),
            fates: Fates::default(),
            round: Round::default(),
            order: Vec::new(),
        })
    }

    fn stream(&mut self, camera: &Camera) -> Stream {
        let number = self.options.names.number(camera);
        self.open_stream(number, camera);
        self.streams[number].clone().unwrap_or_else(|| self.options.names.stream(camera))
    }

    fn open_stream(&mut self, number: usize, camera: &Camera) {
        if self.streams.len() <= number {
            self.streams.resize(number + 1, None);
        }
        if self.streams[number].is_none() {
            self.streams[number] = Some(self.options.names.stream(camera));
        }
    }

    /// Sends what is open, stream by stream, until all of it is settled or something keeps it waiting.
    fn send(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), LinkError> {
        self.order.clear();
        let number = |place: usize| self.options.names.number(&cameras[results[place].camera.slot()]);
        self.order.extend(self.fates.places(Fate::Open).map(|place| (number(place), place)));
        self.order.sort_unstable();
        let mut next = 0;
        while next < self.order.len() {
            next = self.fill(next, results, cameras);
            if self.round.is_empty() {
                continue;
            }
            self.round.run(&mut self.link, &mut self.fates);
            if let Some(error) = self.round.failure.take() {
                return Err(error);
            }
            self.well = true;
            self.look_up(results, cameras)?;
        }
        Ok(())
    }

    /// Fills a pipeline from the `next`-th on; returns where the one after it begins.
    fn fill(&mut self, mut next: usize, results: &[FrameResult], cameras: &[Arc<Camera>]) -> usize {
        self.round.begin();
        let mut bytes = 0;
        let width = self.shape.form.names().len();
        let mut entries: Vec<(usize, Option<Token>)> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        while next < self.order.len() && bytes < PIPELINE_BYTES_MAX {
            let (number, first) = self.order[next];
            self.open_stream(number, &cameras[results[first].camera.slot()]);
            self.values.clear();
            entries.clear();
            names.clear();
            while let Some(&(_, place)) = self.order.get(next).filter(|(of, _)| *of == number)
                && bytes + self.values.byte_len() < PIPELINE_BYTES_MAX
            {
                next += 1;
                let result = &results[place];
                let camera = &cameras[result.camera.slot()];
                let (before, start) = (self.values.len(), self.values.byte_len());
                self.values.append(self.shape.form, &self.encoder, result, camera);
                debug_assert_eq!(self.values.len(), before + width);
                let size = self.values.byte_len() - start;
                if size > self.options.result_bytes_max {
                    self.values.truncate(before);
                    let most = self.options.result_bytes_max;
                    let message = format!("a result of {size} bytes, expected at most {most} (result_bytes_max)");
                    self.round.refuse_for_good(place, &message, &mut self.fates);
                    continue;
                }
                entries.push((place, camera.plan.entry_ids.then_some(result.token)));
                names.push(camera.plan.id.as_str());
            }
            bytes += self.values.byte_len();
            let Some(stream) = self.streams[number].as_ref().filter(|_| !entries.is_empty()) else { continue };
            match self.options.names.per() {
                Per::Camera => self.round.add(stream, self.shape, &entries, &self.values),
                Per::Shard => self.round.append(stream, self.shape, &entries, &names, &self.values),
            }
        }
        next
    }

    /// Finds out about results whose ids are not above their streams' last.
    fn look_up(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), LinkError> {
        let places = std::mem::take(&mut self.round.not_above);
        for part in places.chunks(LOOKED_UP_MAX) {
            let streams: Vec<Stream> =
                part.iter().map(|&place| self.stream(&cameras[results[place].camera.slot()])).collect();
            let sought: Vec<_> =
                streams.iter().zip(part).map(|(stream, &place)| (stream, results[place].token)).collect();
            let found = lookup::find(&mut self.link, &sought)?;
            for ((&place, stream), found) in part.iter().zip(&streams).zip(found) {
                match found {
                    Ok(Found::There | Found::Past) => self.fates.set(place, Fate::Taken),
                    Ok(Found::Missing) => self.append_late(place, stream, results, cameras)?,
                    Err(said) => self.refused(place, &said)?,
                }
            }
        }
        Ok(())
    }

    fn append_late(
        &mut self,
        place: usize,
        stream: &Stream,
        results: &[FrameResult],
        cameras: &[Arc<Camera>],
    ) -> Result<(), LinkError> {
        let result = &results[place];
        self.values.clear();
        self.values.append(self.shape.form, &self.encoder, result, &cameras[result.camera.slot()]);
        let fields: Vec<_> = self.shape.form.names().iter().copied().zip(self.values.iter_from(0)).collect();
        let written = lookup::append_late(&mut self.link, stream, result.token, self.shape.keep, &fields)?;
        match written {
            Ok(()) => self.fates.set(place, Fate::Taken),
            Err(said) => self.refused(place, &said)?,
        }
        Ok(())
    }

    /// A refusal where a stream was asked.
    fn refused(&mut self, place: usize, said: &str) -> Result<(), LinkError> {
        match verdict(said) {
            Verdict::Later(error) => return Err(error),
            Verdict::Never(message) => self.round.refuse_for_good(place, &message, &mut self.fates),
            // Tried again with the next attempt.
            Verdict::NotAbove | Verdict::Aborted => {}
        }
        Ok(())
    }

    /// Finds out about results whose answers were lost.
    fn resolve(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), LinkError> {
        let mut doubtful: Vec<(usize, usize)> = self
            .fates
            .places(Fate::Doubtful)
            .map(|place| (self.options.names.number(&cameras[results[place].camera.slot()]), place))
            .collect();
        doubtful.sort_unstable();
        for same in doubtful.chunk_by(|one, other| one.0 == other.0) {
            let stream = self.stream(&cameras[results[same[0].1].camera.slot()]);
            let encoded = |&(_, place): &(usize, usize)| {
                let mut values = Values::default();
                values.append(self.shape.form, &self.encoder, &results[place], &cameras[results[place].camera.slot()]);
                values.iter_from(values.len().saturating_sub(1)).flatten().copied().collect()
            };
            let sought: Vec<Vec<u8>> = same.iter().map(encoded).collect();
            match lookup::among_last(&mut self.link, &stream, &sought)? {
                Ok(there) => {
                    for (&(_, place), there) in same.iter().zip(there) {
                        self.fates.set(place, if there { Fate::Taken } else { Fate::Open });
                    }
                }
                // They stay doubtful while the server cannot say (it comes back and is loading).
                Err(said) => same.iter().try_for_each(|&(_, place)| self.refused(place, &said))?,
            }
        }
        Ok(())
    }

    fn error(&mut self, published: usize, refused: Vec<usize>, error: LinkError) -> SinkError {
        // A connection that has just worked may only have been closed for its idleness.
        let retry =
            if std::mem::take(&mut self.well) && error.retry == Retry::Backoff { Retry::Now } else { error.retry };
        // The link's own words are `Never` when the options are wrong; a server's refusals have been judged before.
        SinkError { sink: self.options.names.shown(), published, refused, message: error.message, retry }
    }
}

impl Sink for RedisSink {
    fn interval_min(&self) -> Duration {
        INTERVAL_MIN
    }

    fn publish(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), SinkError> {
        self.fates.begin(results);
        self.round.refused = None;
        self.round.refused_count = 0;
        let outcome = self.resolve(results, cameras).and_then(|()| self.send(results, cameras));
        let (published, refused) = self.fates.end(results);
        if let Err(error) = outcome {
            return Err(self.error(published, refused, error));
        }
        if let Some((place, message)) = self.round.refused.take() {
            let camera = &cameras[results[place].camera.slot()].plan.id;
            let more = match self.round.refused_count {
                1 => String::new(),
                count => format!(" ({count} results are refused)"),
            };
            let message = format!("camera {camera}: frame {}: {message}{more}", results[place].sequence);
            return Err(SinkError {
                sink: self.options.names.shown(),
                published,
                refused,
                message,
                retry: Retry::Backoff,
            });
        }
        if published < results.len() {
            let error = LinkError { message: "some results are still open".to_owned(), retry: Retry::Backoff };
            return Err(self.error(published, refused, error));
        }
        if !refused.is_empty() {
            let message = "results that were refused before".to_owned();
            return Err(SinkError {
                sink: self.options.names.shown(),
                published,
                refused,
                message,
                retry: Retry::Backoff,
            });
        }
        Ok(())
    }
}

//! One result as one line of JSON: the fields that `docs/ref/results.md` lists, straight into a reused buffer.
//!
//! Pure, and without an allocation per result. Floats that JSON cannot say (NaN and infinities, which a raw tensor may
//! hold) become `null`.

use std::fmt;

use omma_engine::cameras::Camera;
use omma_frame::{
    ClassScore, Detection, DropReason, FrameResult, Mono, Outcome, Output, OwnedTensor, Timing, UnixNanos,
};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The version in the field `v`. It changes when a field goes or changes its meaning; a new field does not change it.
pub const VERSION: u32 = 1;

/// A model's names as results tell them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelLabels {
    pub name: String,
    /// By class id; a class beyond the list has no label.
    pub labels: Vec<String>,
}

/// Writes results as JSON.
#[derive(Debug)]
pub struct ResultEncoder {
    models: Vec<ModelLabels>,
}

impl ResultEncoder {
    /// `models` in the order of the plan's models: a result names one of them by its place.
    #[must_use]
    pub fn new(models: Vec<ModelLabels>) -> Self {
        Self { models }
    }

    /// Appends one line, with its newline.
    pub fn encode(&self, result: &FrameResult, camera: &Camera, out: &mut Vec<u8>) {
        self.line(result, Some(camera), out);
    }

    /// Appends the answer to a direct request, as [`ResultEncoder::encode`] would write a frame's result, without what only
    /// a camera's frame has.
    pub fn encode_direct(&self, result: &FrameResult, out: &mut Vec<u8>) {
        self.line(result, None, out);
    }

    fn line(&self, result: &FrameResult, camera: Option<&Camera>, out: &mut Vec<u8>) {
        let start = out.len();
        let line = Line { result, camera, model: self.models.get(result.served_by.model as usize) };
        if serde_json::to_writer(&mut *out, &line).is_err() {
            // Memory takes every write and every key is text, so this cannot be; half a line it must not be.
            out.truncate(start);
            return;
        }
        out.push(b'\n');
    }
}

struct Line<'a> {
    result: &'a FrameResult,
    /// `None`: a direct request's, which has neither camera nor sequence nor time.
    camera: Option<&'a Camera>,
    model: Option<&'a ModelLabels>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { result, camera, model } = self;
        let mut map = serializer.serialize_map(None)?;
        // `v` comes first: whoever reads a stream of lines can tell the version before anything else.
        map.serialize_entry("v", &VERSION)?;
        if let Some(camera) = camera {
            map.serialize_entry("camera", &camera.plan.id)?;
            map.serialize_entry("sequence", &result.sequence)?;
            map.serialize_entry("captured_at", &Shown(Rfc3339(result.captured_at)))?;
            map.serialize_entry("captured_at_ns", &result.captured_at)?;
        }
        if result.size.width > 0 && result.size.height > 0 {
            map.serialize_entry("size", &result.size)?;
        }
        if let Some(model) = model {
            map.serialize_entry("model", &model.name)?;
        }
        if result.served_by.version > 0 {
            map.serialize_entry("model_version", &result.served_by.version)?;
        }
        let labels = model.map_or(&[][..], |model| &model.labels);
        match &result.outcome {
            Outcome::Inferred(Output::Nothing) => {}
            Outcome::Inferred(Output::Detections(found)) => {
                map.serialize_entry("detections", &Each(found, |detection| DetectionFields { detection, labels }))?;
            }
            Outcome::Inferred(Output::Classes(classes)) => {
                map.serialize_entry("classes", &Each(classes, |class| ClassFields { class, labels }))?;
            }
            Outcome::Inferred(Output::Embedding(values)) => map.serialize_entry("embedding", values)?,
            Outcome::Inferred(Output::Tensors(tensors)) => {
                map.serialize_entry("tensors", &Each(tensors, TensorFields))?
            }
            Outcome::Dropped { reason, detail } => {
                map.serialize_entry("error", &ErrorFields { reason: *reason, detail: detail.as_deref() })?;
            }
        }
        map.serialize_entry("timing_ms", &TimingFields(&result.timing))?;
        map.end()
    }
}

/// A slice as an array, each item through a view of it.
struct Each<'a, T, F>(&'a [T], F);

impl<'a, T, V: Serialize, F: Fn(&'a T) -> V> Serialize for Each<'a, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(&self.1))
    }
}

struct DetectionFields<'a> {
    detection: &'a Detection,
    labels: &'a [String],
}

impl Serialize for DetectionFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Detection { class, score, x1, y1, x2, y2 } = self.detection;
        let mut map = serializer.serialize_map(None)?;
        class_entries(&mut map, *class, *score, self.labels)?;
        // A hundredth of a pixel is below what any detector means, and half the bytes of a full float.
        map.serialize_entry("box", &[x1, y1, x2, y2].map(|at| rounded(*at, 100.0)))?;
        map.end()
    }
}

struct ClassFields<'a> {
    class: &'a ClassScore,
    labels: &'a [String],
}

impl Serialize for ClassFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        class_entries(&mut map, self.class.class, self.class.score, self.labels)?;
        map.end()
    }
}

fn class_entries<M: SerializeMap>(map: &mut M, class: u32, score: f32, labels: &[String]) -> Result<(), M::Error> {
    map.serialize_entry("class", &class)?;
    if let Some(label) = labels.get(class as usize) {
        map.serialize_entry("label", label)?;
    }
    map.serialize_entry("score", &rounded(score, 10_000.0))
}

/// Rounded to a decimal fraction; shortest digits then say exactly that fraction.
fn rounded(value: f32, parts: f32) -> f32 {
    let scaled = value * parts;
    // Beyond this a float has no fraction left to round (and the product might overflow).
    if scaled.abs() < 8_388_608.0 { scaled.round() / parts } else { value }
}

struct TensorFields<'a>(&'a OwnedTensor);

impl Serialize for TensorFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.0.name)?;
        map.serialize_entry("shape", &self.0.shape)?;
        map.serialize_entry("values", &self.0.values)?;
        map.end()
    }
}

struct ErrorFields<'a> {
    reason: DropReason,
    detail: Option<&'a str>,
}

impl Serialize for ErrorFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("reason", self.reason.name())?;
        if let Some(detail) = self.detail {
            map.serialize_entry("detail", detail)?;
        }
        map.end()
    }
}

struct TimingFields<'a>(&'a Timing);

impl Serialize for TimingFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Timing { received, batched, prepared, inferred } = *self.0;
        let mut map = serializer.serialize_map(None)?;
        let spans = [
            ("wait", received, batched),
            ("prepare", batched, prepared),
            ("infer", prepared, inferred),
            ("total", received, inferred),
        ];
        for (name, from, to) in spans {
            // A point that was never reached is zero: its span is left out, not told as nothing.
            if from != Mono::default() && to != Mono::default() {
                let micros = (to.since(from).as_nanos() + 500) / 1000;
                map.serialize_entry(name, &(micros as f64 / 1000.0))?;
            }
        }
        map.end()
    }
}

/// A text that is made while it is written.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time as RFC 3339 says it, in UTC, to the nanosecond.
struct Rfc3339(UnixNanos);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.0 / 1_000_000_000, self.0.0 % 1_000_000_000);
        let (year, month, day) = civil(seconds / 86_400);
        let second = seconds % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
    }
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Counts in years that begin in March, so that
/// the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_400_YEARS: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_400_YEARS, days % DAYS_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, january) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + january, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_frame::CameraIndex;
    use omma_testkit::sink::{cameras, outcomes, result};

    const HEAD: &str = r#"{"v":1,"camera":"gate \"3\"","sequence":7,"captured_at":"2025-12-31T23:59:59.123456789Z","captured_at_ns":1767225599123456789,"size":{"width":640,"height":480},"model":"yolo","model_version":3,"#;
    const TAIL: &str = r#""timing_ms":{"wait":3.0,"prepare":2.0,"infer":7.0,"total":12.0}}"#;

    fn encode(result: &FrameResult) -> String {
        let encoder = ResultEncoder::new(vec![ModelLabels {
            name: "yolo".into(),
            labels: vec!["person".into(), "a \"car\"".into()],
        }]);
        let mut out = Vec::new();
        encoder.encode(result, &cameras(&["gate \"3\""])[0], &mut out);
        let line = String::from_utf8(out).expect("JSON is UTF-8");
        assert_eq!(line.find('\n'), Some(line.len() - 1), "one line, with its newline: {line}");
        line.trim_end().to_owned()
    }

    #[test]
    fn every_kind_of_outcome() {
        let expected = [
            "",
            r#""detections":[],"#,
            r#""detections":[{"class":0,"label":"person","score":0.9877,"box":[0.0,12.35,640.0,480.0]},{"class":4000000000,"score":1.0,"box":[0.0,12.35,640.0,480.0]}],"#,
            r#""classes":[{"class":1,"label":"a \"car\"","score":0.5}],"#,
            r#""embedding":[0.1,-0.2,1e-20,3.4028235e+38],"#,
            r#""tensors":[{"name":"out \"put\"\n","shape":[1,2],"values":[null,null]}],"#,
            r#""error":{"reason":"picture_corrupt","detail":"no end \\ \u0007 of picture"},"#,
            r#""error":{"reason":"overtaken"},"#,
        ];
        for (outcome, fields) in outcomes().into_iter().zip(expected) {
            assert_eq!(encode(&result(CameraIndex(0), 7, outcome)), format!("{HEAD}{fields}{TAIL}"));
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut dropped = result(CameraIndex(0), 7, outcomes()[7].clone());
        dropped.size = omma_frame::Size::default();
        dropped.timing = Timing { received: Mono(5), ..Timing::default() };
        let line = encode(&dropped);
        assert!(!line.contains("size") && line.ends_with(r#""timing_ms":{}}"#), "{line}");
    }

    #[test]
    fn times() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (18_446_744_073, "2554-07-21T23:34:33.000000000Z"),
        ] {
            assert_eq!(Rfc3339(UnixNanos(seconds * 1_000_000_000)).to_string(), shown);
        }
    }

    #[test]
    fn rounding_keeps_what_it_cannot_round() {
        for (value, expect) in
            [(0.123_456, 0.12), (-0.005_1, -0.01), (1e30, 1e30), (f32::MAX, f32::MAX), (123_456.78, 123_456.78)]
        {
            assert_eq!(rounded(value, 100.0), expect);
        }
        assert!(rounded(f32::NAN, 100.0).is_nan());
    }
}

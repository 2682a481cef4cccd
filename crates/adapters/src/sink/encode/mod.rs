//! One result as JSON or MessagePack: the fields that `docs/ref/results.md` lists, straight into a reused buffer. Every
//! sink that writes results in omma's own form writes them with this.
//!
//! Pure, and without an allocation per result. Floats that JSON cannot say (NaN and infinities, which a raw tensor may
//! hold) become `null`; MessagePack says them. The maps know their lengths, which MessagePack wants before the entries.

mod text;

use omma_engine::cameras::Camera;
use omma_frame::{ClassScore, Detection, DropReason, FrameResult, Mono, Outcome, Output, OwnedTensor, Timing};
use serde::ser::{Serialize, SerializeMap, Serializer};

pub(crate) use self::text::{EntryId, Rfc3339};

/// The version in the field `v`. It changes when a field goes or changes its meaning; a new field does not change it.
pub const VERSION: u32 = 1;

/// A model's names as results tell them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelLabels {
    pub name: String,
    /// By class id; a class beyond the list has no label.
    pub labels: Vec<String>,
}

/// Writes results.
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

    /// Appends one line of JSON, with its newline.
    pub fn line(&self, result: &FrameResult, camera: &Camera, out: &mut Vec<u8>) {
        Self::fields_line(&self.fields(result, camera), out);
    }

    /// Appends the answer to a direct request, as [`ResultEncoder::line`] would write a frame's result, without what only
    /// a camera's frame has.
    pub fn encode_direct(&self, result: &FrameResult, out: &mut Vec<u8>) {
        Self::fields_line(&Fields { result, camera: None, model: self.model(result) }, out);
    }

    /// Appends one JSON object.
    #[cfg(feature = "redis")]
    pub fn json(&self, result: &FrameResult, camera: &Camera, out: &mut Vec<u8>) {
        json(&self.fields(result, camera), out);
    }

    /// Appends one MessagePack map of the same fields.
    #[cfg(feature = "redis")]
    pub fn message_pack(&self, result: &FrameResult, camera: &Camera, out: &mut Vec<u8>) {
        let start = out.len();
        let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
        if self.fields(result, camera).serialize(&mut serializer).is_err() {
            out.truncate(start);
        }
    }

    fn fields_line(fields: &Fields<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        json(fields, out);
        if out.len() > start {
            out.push(b'\n');
        }
    }

    /// The model that a result came from.
    pub(crate) fn model(&self, result: &FrameResult) -> Option<&ModelLabels> {
        self.models.get(result.served_by.model as usize)
    }

    pub(crate) fn fields<'a>(&'a self, result: &'a FrameResult, camera: &'a Camera) -> Fields<'a> {
        Fields { result, camera: Some(camera), model: self.model(result) }
    }
}

fn json(fields: &Fields<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, fields).is_err() {
        // Memory takes every write and every key is text, so this cannot be; half an object it must not be.
        out.truncate(start);
    }
}

pub(crate) struct Fields<'a> {
    result: &'a FrameResult,
    /// `None`: a direct request's, which has neither camera nor sequence nor time.
    camera: Option<&'a Camera>,
    model: Option<&'a ModelLabels>,
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { result, camera, model } = self;
        let sized = result.size.width > 0 && result.size.height > 0;
        let said = !matches!(result.outcome, Outcome::Inferred(Output::Nothing));
        let versioned = result.served_by.version > 0;
        let has_entry = camera.is_some_and(|camera| camera.plan.entry_ids);
        let always = if camera.is_some() { 6 } else { 2 };
        let optional = [has_entry, sized, model.is_some(), versioned, said];
        let mut map = serializer.serialize_map(Some(always + optional.into_iter().filter(|there| *there).count()))?;
        // `v` comes first: whoever reads a stream of lines can tell the version before anything else.
        map.serialize_entry("v", &VERSION)?;
        if let Some(camera) = camera {
            map.serialize_entry("camera", &camera.plan.id)?;
            map.serialize_entry("sequence", &result.sequence)?;
            if camera.plan.entry_ids {
                map.serialize_entry("entry", EntryId::of(result.token).as_str())?;
            }
            map.serialize_entry("captured_at", Rfc3339::of(result.captured_at).as_str())?;
            map.serialize_entry("captured_at_ns", &result.captured_at)?;
        }
        if sized {
            map.serialize_entry("size", &result.size)?;
        }
        if let Some(model) = model {
            map.serialize_entry("model", &model.name)?;
        }
        if versioned {
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
        let mut map = serializer.serialize_map(Some(class_entries_len(*class, self.labels) + 1))?;
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
        let mut map = serializer.serialize_map(Some(class_entries_len(self.class.class, self.labels)))?;
        class_entries(&mut map, self.class.class, self.class.score, self.labels)?;
        map.end()
    }
}

fn class_entries_len(class: u32, labels: &[String]) -> usize {
    2 + usize::from((class as usize) < labels.len())
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
        let mut map = serializer.serialize_map(Some(3))?;
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
        let mut map = serializer.serialize_map(Some(1 + usize::from(self.detail.is_some())))?;
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
        let spans = [
            ("wait", received, batched),
            ("prepare", batched, prepared),
            ("infer", prepared, inferred),
            ("total", received, inferred),
        ];
        // A point that was never reached is zero: its span is left out, not told as nothing.
        let reached = |(_, from, to): &&(&str, Mono, Mono)| *from != Mono::default() && *to != Mono::default();
        let mut map = serializer.serialize_map(Some(spans.iter().filter(reached).count()))?;
        for (name, from, to) in spans.iter().filter(reached) {
            let micros = (to.since(*from).as_nanos() + 500) / 1000;
            map.serialize_entry(name, &(micros as f64 / 1000.0))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_frame::CameraIndex;
    use omma_testkit::sink::{cameras, cameras_out_of_redis, outcomes, result};

    const HEAD: &str = r#"{"v":1,"camera":"gate \"3\"","sequence":7,"captured_at":"2025-12-31T23:59:59.123456789Z","captured_at_ns":1767225599123456789,"size":{"width":640,"height":480},"model":"yolo","model_version":3,"#;
    const TAIL: &str = r#""timing_ms":{"wait":3.0,"prepare":2.0,"infer":7.0,"total":12.0}}"#;

    fn encode(result: &FrameResult) -> String {
        let encoder = ResultEncoder::new(vec![ModelLabels {
            name: "yolo".into(),
            labels: vec!["person".into(), "a \"car\"".into()],
        }]);
        let mut out = Vec::new();
        encoder.line(result, &cameras(&["gate \"3\""])[0], &mut out);
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
    fn a_frame_out_of_redis_says_which_entry_it_was() {
        let mut result = result(CameraIndex(0), 7, outcomes()[0].clone());
        result.token = omma_frame::Token(1_700_000_000_000, 12);
        let mut out = Vec::new();
        ResultEncoder::new(vec![]).line(&result, &cameras_out_of_redis(&["a"])[0], &mut out);
        let text = String::from_utf8(out).expect("JSON is UTF-8");
        assert!(text.contains(r#""sequence":7,"entry":"1700000000000-12","captured_at""#), "{text}");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn message_pack_says_the_same() {
        let encoder = ResultEncoder::new(vec![ModelLabels { name: "yolo".into(), labels: vec!["person".into()] }]);
        let camera = &cameras(&["gate"])[0];
        for outcome in outcomes() {
            let result = result(CameraIndex(0), 7, outcome);
            let (mut json, mut packed) = (Vec::new(), Vec::new());
            encoder.json(&result, camera, &mut json);
            encoder.message_pack(&result, camera, &mut packed);
            // Through the same values; what JSON cannot say is null in both then.
            let packed: serde_json::Value = rmp_serde::from_slice(&packed).expect("MessagePack");
            let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            // Floats of 32 bits become others of 64 when they are read back.
            assert_eq!(rounded_numbers(packed), rounded_numbers(json));
        }
    }

    #[cfg(feature = "redis")]
    fn rounded_numbers(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Number(number) if number.is_f64() => {
                number.as_f64().map(|float| format!("{:.5e}", float as f32)).map_or(Value::Null, Value::String)
            }
            Value::Array(items) => items.into_iter().map(rounded_numbers).collect(),
            Value::Object(map) => map.into_iter().map(|(key, value)| (key, rounded_numbers(value))).collect(),
            other => other,
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

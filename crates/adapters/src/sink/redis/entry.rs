//! A result as the fields of a stream's entry, in the form that was chosen.

use std::borrow::Cow;

use omma_engine::cameras::Camera;
use omma_frame::{Detection, FrameResult, Outcome, Output};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::sink::encode::{ModelLabels, ResultEncoder};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `data`: a JSON object, as `docs/ref/results.md` has it.
    #[default]
    Json,
    /// `data`: the same fields as MessagePack. The first byte tells: JSON begins with `{`.
    MessagePack,
    /// The fields of the Python pipeline that omma replaces.
    Compat,
}

impl Form {
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Json | Self::MessagePack => &["data"],
            Self::Compat => &["frame_id", "camera_id", "message_key", "data"],
        }
    }
}

/// The values of entries, one after the other in one buffer that is used again and again.
#[derive(Default)]
pub(super) struct Values {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Values {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// From the `n`-th on.
    pub fn iter_from(&self, n: usize) -> impl Iterator<Item = &[u8]> {
        (n..self.ends.len()).map(|at| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[at]]
        })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets all behind the `n`-th.
    pub fn truncate(&mut self, n: usize) {
        self.ends.truncate(n);
        self.bytes.truncate(self.ends.last().copied().unwrap_or_default());
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// Appends the values of one entry, in the order of [`Form::names`].
    pub fn append(&mut self, form: Form, encoder: &ResultEncoder, result: &FrameResult, camera: &Camera) {
        match form {
            Form::Json => encoder.json(result, camera, &mut self.bytes),
            Form::MessagePack => encoder.message_pack(result, camera, &mut self.bytes),
            Form::Compat => {
                let frame_id = match &result.name {
                    Some(name) => Cow::Borrowed(name.as_str()),
                    None => Cow::Owned(result.sequence.to_string()),
                };
                self.text(&frame_id);
                self.text(camera.plan.id.as_str());
                self.text(&frame_id);
                let compat = Compat { encoder, result, camera, frame_id: &frame_id };
                // Memory takes every write and every key is text, so that this cannot fail.
                let _ = serde_json::to_writer(&mut self.bytes, &compat);
            }
        }
        self.end();
    }
}

/// What the Python pipeline puts into `data`.
struct Compat<'a> {
    encoder: &'a ResultEncoder,
    result: &'a FrameResult,
    camera: &'a Camera,
    frame_id: &'a str,
}

impl Serialize for Compat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoder, result, camera, frame_id } = self;
        let labels = encoder.model(result).map_or(&[][..], |model: &ModelLabels| &model.labels);
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("post_processing_result", &encoder.fields(result, camera))?;
        map.serialize_entry("model_result", &ModelResult { outcome: &result.outcome, labels })?;
        map.serialize_entry("metadata", &serde_json::Map::new())?;
        let took = result.timing.inferred.since(result.timing.received).as_secs_f64();
        map.serialize_entry("processing_time", &took)?;
        map.serialize_entry("stream_key", &camera.plan.id)?;
        map.serialize_entry("frame_id", frame_id)?;
        map.end()
    }
}

/// The model's answer in that pipeline's words; `null` for a frame that has none.
struct ModelResult<'a> {
    outcome: &'a Outcome,
    labels: &'a [String],
}

impl Serialize for ModelResult<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let category = |class: u32| self.labels.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
        match self.outcome {
            Outcome::Dropped { .. } => serializer.serialize_unit(),
            Outcome::Inferred(Output::Nothing) => serializer.collect_seq(std::iter::empty::<()>()),
            Outcome::Inferred(Output::Detections(found)) => {
                serializer.collect_seq(found.iter().map(|found| Box { found, category: category(found.class) }))
            }
            Outcome::Inferred(Output::Classes(classes)) => serializer.collect_seq(classes.iter().map(|class| {
                std::collections::BTreeMap::from([
                    ("category", serde_json::Value::from(category(class.class))),
                    ("confidence", class.score.into()),
                ])
            })),
            Outcome::Inferred(Output::Embedding(values)) => values.serialize(serializer),
            Outcome::Inferred(Output::Tensors(tensors)) => {
                serializer.collect_seq(tensors.iter().map(|tensor| &tensor.values))
            }
        }
    }
}

struct Box<'a> {
    found: &'a Detection,
    category: String,
}

impl Serialize for Box<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Detection { score, x1, y1, x2, y2, .. } = self.found;
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("category", &self.category)?;
        map.serialize_entry("confidence", score)?;
        let corners = [("xmin", x1), ("ymin", y1), ("xmax", x2), ("ymax", y2)];
        map.serialize_entry("bounding_box", &std::collections::BTreeMap::from(corners))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_frame::{CameraIndex, FrameName};
    use omma_testkit::sink::{cameras, outcomes, result};
    use serde_json::{Value, json};

    fn values(form: Form, outcome: Outcome) -> Vec<Vec<u8>> {
        let encoder = ResultEncoder::new(vec![ModelLabels { name: "yolo".into(), labels: vec!["person".into()] }]);
        let mut values = Values::default();
        values.append(form, &encoder, &result(CameraIndex(0), 41, outcome), &cameras(&["gate"])[0]);
        assert_eq!(values.len(), form.names().len());
        values.iter_from(0).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn json_and_message_pack_are_told_apart_by_their_first_byte() {
        for outcome in outcomes() {
            assert_eq!(values(Form::Json, outcome.clone())[0][0], b'{');
            let first = values(Form::MessagePack, outcome)[0][0];
            assert!((0x80..=0x8f).contains(&first), "{first:x}");
        }
    }

    #[test]
    fn compat_is_what_the_python_pipeline_writes() {
        let expected = [
            json!([]),
            json!([]),
            json!([
                { "category": "person", "confidence": 0.987_654_3_f32, "bounding_box": { "xmin": 0.0, "ymin": 12.345_678_f32, "xmax": 640.0, "ymax": 479.999_f32 } },
                { "category": "4000000000", "confidence": 1.0, "bounding_box": { "xmin": 0.0, "ymin": 12.345_678_f32, "xmax": 640.0, "ymax": 479.999_f32 } },
            ]),
            json!([{ "category": "1", "confidence": 0.5 }]),
            json!([0.1_f32, -0.2_f32, 1e-20_f32, f32::MAX]),
            json!([[null, null]]),
            Value::Null,
            Value::Null,
        ];
        for (outcome, model_result) in outcomes().into_iter().zip(expected) {
            let values = values(Form::Compat, outcome.clone());
            assert_eq!(values[..3], [b"41".to_vec(), b"gate".to_vec(), b"41".to_vec()]);
            let data: Value = serde_json::from_slice(&values[3]).expect("JSON");
            let names: Vec<_> = data.as_object().expect("an object").keys().map(String::as_str).collect();
            let same =
                ["frame_id", "metadata", "model_result", "post_processing_result", "processing_time", "stream_key"];
            assert_eq!(names, same, "the keys of that pipeline, no others");
            assert_eq!((&data["frame_id"], &data["stream_key"]), (&json!("41"), &json!("gate")));
            assert_eq!((&data["metadata"], &data["processing_time"]), (&json!({}), &json!(0.012)));
            assert_eq!(data["post_processing_result"]["sequence"], 41);
            // Read back as 64 bits, whatever was written: compared as it was written.
            assert_eq!(narrowed(&data["model_result"]), narrowed(&model_result), "{outcome:?}");
        }
    }

    #[test]
    fn compat_tells_a_frame_by_its_producers_own_id() {
        let encoder = ResultEncoder::new(Vec::new());
        let mut values = Values::default();
        let named = FrameResult {
            name: Some(FrameName::new("5f2c")),
            ..result(CameraIndex(0), 0, Outcome::Inferred(Output::Nothing))
        };
        values.append(Form::Compat, &encoder, &named, &cameras(&["gate"])[0]);
        let values: Vec<&[u8]> = values.iter_from(0).collect();
        assert_eq!(values[..3], [b"5f2c", b"gate", b"5f2c"]);
        let data: Value = serde_json::from_slice(values[3]).expect("JSON");
        assert_eq!((&data["frame_id"], &data["post_processing_result"]["sequence"]), (&json!("5f2c"), &json!(0)));
    }

    fn narrowed(value: &Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_f64().map(|float| float as f32)),
            Value::Array(items) => items.iter().map(narrowed).collect(),
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), narrowed(value))).collect(),
            other => other.clone(),
        }
    }
}

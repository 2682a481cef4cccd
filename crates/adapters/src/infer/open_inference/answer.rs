//! A server's answer, as the engine's views: every name, type, shape and length of it is checked before a value is read.
//!
//! Values stay where they came in (the message, or shared memory); they are copied only where they are not aligned for
//! their type, or are halves, which the engine does not know.

use bytes::Bytes;
use half::{bf16, f16};
use omma_engine::tensor::{DType, TensorView, Values};
use omma_protocol::wire::ModelInferResponse;
use omma_protocol::{Datatype, SharedMemory, quoted, shape};

use super::describe::Output;
use super::segment::Lease;

/// One output of an answer.
pub(super) struct Answered {
    name: String,
    shape: Vec<usize>,
    content: Content,
}

enum Content {
    Received(DType, Bytes),
    Shared(DType, Lease, std::ops::Range<usize>),
    F32(Vec<f32>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Where in a segment the server was asked to put an output.
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) byte_size: usize,
}

/// Where in shared memory the outputs of one request lie, in the order in which they are declared.
pub(super) struct Places {
    pub(super) lease: Lease,
    pub(super) places: Vec<Place>,
}

/// # Errors
/// The answer is not what the model's description promises: what was found, and what is expected.
pub(super) fn read(
    response: &ModelInferResponse,
    declared: &[Output],
    places: Option<&Places>,
) -> Result<Vec<Answered>, String> {
    let at = |(number, output): (usize, &Output)| {
        let name = quoted(&output.name);
        one(response, number, output, places).map_err(|error| format!("output {name}: {error}"))
    };
    declared.iter().enumerate().map(at).collect()
}

fn one(
    response: &ModelInferResponse,
    number: usize,
    declared: &Output,
    places: Option<&Places>,
) -> Result<Answered, String> {
    let Some(index) = response.outputs.iter().position(|output| output.name == declared.name) else {
        let names: Vec<_> = response.outputs.iter().take(8).map(|output| quoted(&output.name)).collect();
        return Err(format!("the answer has none of this name, but {}", names.join(", ")));
    };
    let output = &response.outputs[index];
    if output.datatype != declared.datatype.name() {
        return Err(format!("it holds {}, the model declares {}", quoted(&output.datatype), declared.datatype.name()));
    }
    let sizes = shape::sizes(&output.shape).map_err(|error| error.to_string())?;
    let fits = sizes.len() == declared.shape.len()
        // How many rows there are is for the engine to say.
        && sizes.iter().zip(&declared.shape).skip(1).all(|(size, declared)| declared.is_none_or(|declared| declared == *size));
    if !fits {
        let declared: Vec<_> =
            declared.shape.iter().map(|size| size.map_or_else(|| "any".to_owned(), |size| size.to_string())).collect();
        return Err(format!("it has shape {sizes:?}, the model declares [{}]", declared.join(", ")));
    }
    let bytes = shape::bytes(declared.datatype, &output.shape).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("{} has no size", declared.datatype.name()))?;
    let said = SharedMemory::of(&output.parameters).map_err(|error| error.to_string())?;
    let received = response.raw_output_contents.get(index);
    let (lease, range) = match (places, received) {
        (Some(places), received)
            if said.is_some() || received.is_none_or(|received| received.is_empty() && bytes > 0) =>
        {
            let place = places.places.get(number).ok_or("it was not asked for in shared memory")?;
            if bytes > place.byte_size {
                return Err(format!("it has {bytes} bytes in shared memory, there is room for {}", place.byte_size));
            }
            (Some(&places.lease), place.offset..place.offset + bytes)
        }
        (None, _) if said.is_some() => return Err("it lies in shared memory, where it was not asked for".to_owned()),
        (_, Some(received)) if received.len() == bytes => (None, 0..bytes),
        (_, Some(received)) => return Err(format!("it has {} bytes, its shape needs {bytes}", received.len())),
        (_, None) => return Err("it has no raw contents".to_owned()),
    };
    let values = match (lease, received) {
        (Some(lease), _) => lease
            .segment()
            .and_then(|segment| segment.bytes().get(range.clone()))
            .ok_or("it lies outside of its segment")?,
        (None, received) => received.map_or(&[][..], |received| received),
    };
    let content = copied(declared.datatype, values).unwrap_or_else(|| match (lease, received) {
        (Some(lease), _) => Content::Shared(declared.dtype(), lease.clone(), range),
        (None, received) => Content::Received(declared.dtype(), received.cloned().unwrap_or_default()),
    });
    Ok(Answered { name: declared.name.clone(), shape: sizes, content })
}

/// The values in memory of their own, where they cannot be read as they lie.
fn copied(datatype: Datatype, bytes: &[u8]) -> Option<Content> {
    macro_rules! values {
        ($size:literal, $read:expr) => {
            bytes.as_chunks::<$size>().0.iter().map(|&chunk| $read(chunk)).collect()
        };
    }
    let aligned = |size: usize| bytes.as_ptr().align_offset(size) == 0;
    match datatype {
        Datatype::Fp16 => Some(Content::F32(values!(2, |half| f16::from_le_bytes(half).to_f32()))),
        Datatype::Bf16 => Some(Content::F32(values!(2, |half| bf16::from_le_bytes(half).to_f32()))),
        Datatype::Fp32 if !aligned(align_of::<f32>()) => Some(Content::F32(values!(4, f32::from_le_bytes))),
        Datatype::Int32 if !aligned(align_of::<i32>()) => Some(Content::I32(values!(4, i32::from_le_bytes))),
        Datatype::Int64 if !aligned(align_of::<i64>()) => Some(Content::I64(values!(8, i64::from_le_bytes))),
        _ => None,
    }
}

impl Answered {
    pub(super) fn view(&self) -> TensorView<'_> {
        let values = match &self.content {
            Content::Received(dtype, bytes) => values(*dtype, bytes),
            Content::Shared(dtype, lease, range) => {
                let bytes = lease.segment().and_then(|segment| segment.bytes().get(range.clone()));
                values(*dtype, bytes.unwrap_or_default())
            }
            Content::F32(values) => Values::F32(values),
            Content::I32(values) => Values::I32(values),
            Content::I64(values) => Values::I64(values),
        };
        TensorView { name: &self.name, shape: &self.shape, values }
    }
}

fn values(dtype: DType, bytes: &[u8]) -> Values<'_> {
    // SAFETY: every bit pattern is a value of these types; what is not aligned was copied, so that the ends are empty.
    unsafe {
        match dtype {
            // Half floats are widened before.
            DType::U8 | DType::F16 => Values::U8(bytes),
            DType::F32 => Values::F32(bytes.align_to().1),
            DType::I32 => Values::I32(bytes.align_to().1),
            DType::I64 => Values::I64(bytes.align_to().1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_protocol::wire::model_infer_response::InferOutputTensor;
    use proptest::prelude::*;

    fn declared(datatype: Datatype, shape: &[Option<usize>]) -> Output {
        Output { name: "out".into(), datatype, shape: shape.into() }
    }

    fn response(datatype: &str, shape: &[i64], content: impl Into<Bytes>) -> ModelInferResponse {
        let output = InferOutputTensor {
            name: "out".into(),
            datatype: datatype.into(),
            shape: shape.into(),
            ..Default::default()
        };
        ModelInferResponse { outputs: vec![output], raw_output_contents: vec![content.into()], ..Default::default() }
    }

    #[test]
    fn values_come_out_whatever_their_alignment() {
        let values = [1.5_f32, -2.0, 3.25];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for shift in 0..4 {
            let content = Bytes::from([vec![0; shift], bytes.clone()].concat()).slice(shift..);
            let answer =
                read(&response("FP32", &[3], content), &[declared(Datatype::Fp32, &[None])], None).expect("read");
            assert_eq!(answer[0].view().values, Values::F32(&values));
        }
        let halves: Vec<u8> =
            [0x3c00_u16, 0xc000, 0x0001, 0x7c00, 0x8000].iter().flat_map(|half| half.to_le_bytes()).collect();
        let answer = read(&response("FP16", &[5], halves), &[declared(Datatype::Fp16, &[None])], None).expect("read");
        assert_eq!(answer[0].view().values, Values::F32(&[1.0, -2.0, 2f32.powi(-24), f32::INFINITY, -0.0]));
        let answer =
            read(&response("BF16", &[1], &[0xc0, 0x3f][..]), &[declared(Datatype::Bf16, &[None])], None).expect("read");
        assert_eq!(answer[0].view().values, Values::F32(&[1.5]));
    }

    #[test]
    fn answers_that_break_the_models_promise_say_how() {
        let two = &[None, Some(2)];
        for (answer, expected) in [
            (response("INT64", &[1, 2], vec![0; 16]), "output \"out\": it holds \"INT64\", the model declares FP32"),
            (response("FP32", &[1, 3], vec![0; 12]), "it has shape [1, 3], the model declares [any, 2]"),
            (response("FP32", &[2], vec![0; 8]), "it has shape [2], the model declares [any, 2]"),
            (response("FP32", &[-1, 2], vec![0; 8]), "has dimension -1, expected 0 or more"),
            (response("FP32", &[i64::MAX, 2], vec![0; 8]), "can be counted"),
            (response("FP32", &[2, 2], vec![0; 8]), "it has 8 bytes, its shape needs 16"),
            (ModelInferResponse::default(), "the answer has none of this name"),
            (
                ModelInferResponse { raw_output_contents: vec![], ..response("FP32", &[1, 2], vec![]) },
                "it has no raw contents",
            ),
        ] {
            let error = read(&answer, &[declared(Datatype::Fp32, two)], None).err().expect(expected);
            assert!(error.contains(expected), "{error}");
        }
        let place = SharedMemory { region: "r".into(), offset: 0, byte_size: 8 };
        let mut answer = response("FP32", &[1, 2], vec![]);
        answer.outputs[0].parameters = place.parameters();
        let error = read(&answer, &[declared(Datatype::Fp32, two)], None).err().expect("not asked for");
        assert!(error.contains("it lies in shared memory, where it was not asked for"), "{error}");
    }

    proptest! {
        /// Whatever is read fills its shape: no view promises more values than it has.
        #[test]
        fn no_answer_makes_it_panic(
            datatype in prop_oneof![Just("FP32"), Just("FP16"), Just("INT64"), Just("BOOL"), Just("X")],
            kind in prop_oneof![Just(Datatype::Fp32), Just(Datatype::Fp16), Just(Datatype::Int64), Just(Datatype::Bool)],
            shape in proptest::collection::vec(prop_oneof![any::<i64>(), -2_i64..5], 0..5),
            content in proptest::collection::vec(any::<u8>(), 0..100),
            rank in 0_usize..5,
        ) {
            let declared = declared(kind, &vec![None; rank]);
            if let Ok(answer) = read(&response(datatype, &shape, content), &[declared], None) {
                let view = answer[0].view();
                prop_assert_eq!(view.values.len(), view.shape.iter().product::<usize>());
            }
        }
    }
}

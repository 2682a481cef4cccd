//! What models elsewhere answer: workers in Python, servers that speak the Open Inference Protocol.

use bytes::Bytes;
use omma_adapters::fuzzing::{Said, server_answer, worker_answer as read_worker};
use omma_protocol::wire::ModelInferResponse;
use omma_protocol::wire::model_infer_response::InferOutputTensor;
use omma_protocol::{Datatype, SharedMemory};

use crate::input::Input;

const MEMORY_BYTES: usize = 4096;
const NUMBER: u64 = 7;
/// The name of an output of an answer is cut in a message.
const MESSAGE_CHARS_MAX: usize = 2000;

const NAMES: [&str; 3] = ["out", "scores", ""];
const DATATYPES: [Datatype; 9] = [
    Datatype::Fp32,
    Datatype::Fp16,
    Datatype::Bf16,
    Datatype::Uint8,
    Datatype::Bool,
    Datatype::Int32,
    Datatype::Int64,
    Datatype::Fp64,
    Datatype::Bytes,
];

/// A worker's answer, behind the number of frames.
pub fn worker_answer(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let count = input.below(17);
    let packet = input.rest();
    match read_worker(packet, NUMBER, count, MEMORY_BYTES) {
        Ok(Said::Done { outputs, failures }) => {
            assert!(outputs.iter().all(|(offset, bytes)| offset + bytes <= MEMORY_BYTES), "{outputs:?}");
            assert!(failures.iter().all(|(frame, _)| *frame < count), "{failures:?} of {count}");
            assert!(!outputs.is_empty() || failures.len() == count, "nothing is said of some of {count}");
            let text: usize = failures.iter().map(|(_, text)| text.chars().count()).sum();
            assert!(text <= packet.len(), "{text} characters out of {} bytes", packet.len());
        }
        Ok(Said::Failed(text)) => assert!(text.chars().count() <= packet.len()),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// A server's answer to a request of a model that declares one or two outputs.
pub fn server_outputs(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let declared: Vec<(String, Datatype, Vec<Option<usize>>)> = (0..=input.below(2))
        .map(|_| {
            let (name, datatype) = (input.pick(&NAMES).to_owned(), input.pick(&DATATYPES));
            let shape = (0..input.below(5)).map(|_| Some(input.below(6)).filter(|size| *size < 5)).collect();
            (name, datatype, shape)
        })
        .collect();
    let mut response = ModelInferResponse::default();
    for _ in 0..input.below(4) {
        let name = input.pick(&NAMES).to_owned();
        let datatype = if input.byte() == 255 { "WORDS" } else { input.pick(&DATATYPES).name() }.to_owned();
        let dimension = |input: &mut Input<'_>| match input.byte() {
            size @ 0..200 => i64::from(size % 5),
            200..250 => -1,
            _ => i64::from(input.u32()) << 31,
        };
        let shape = (0..input.below(6)).map(|_| dimension(&mut input)).collect();
        let place = SharedMemory { region: "r".to_owned(), offset: 0, byte_size: 8 };
        let parameters = if input.byte() > 240 { place.parameters() } else { Default::default() };
        response.outputs.push(InferOutputTensor { name, datatype, shape, parameters, contents: None });
    }
    for _ in 0..input.below(4) {
        let (shift, length) = (input.below(8), input.below(130));
        let content: Vec<u8> = (0..shift + length).map(|_| input.byte()).collect();
        // Answers are pieces of messages: they lie anywhere.
        response.raw_output_contents.push(Bytes::from(content).slice(shift..));
    }
    match server_answer(&response, &declared) {
        Some(Ok(answered)) => {
            assert_eq!(answered.len(), declared.len());
            for ((name, shape, values), (expected, _, sizes)) in answered.iter().zip(&declared) {
                assert_eq!(name, expected);
                assert_eq!(Some(*values), shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size)));
                assert_eq!(shape.len(), sizes.len());
                let mut inner = shape.iter().zip(sizes).skip(1);
                assert!(inner.all(|(size, declared)| declared.is_none_or(|declared| declared == *size)), "{shape:?}");
            }
        }
        Some(Err(why)) => assert!(!why.is_empty() && why.chars().count() <= MESSAGE_CHARS_MAX, "{why}"),
        None => {}
    }
}

pub(crate) fn worker_answer_seeds() -> Vec<Vec<u8>> {
    let head = |count: u8, status: u32, outputs: u32, failures: u32, text: u32| {
        let mut bytes = vec![count];
        bytes.extend(0x3141_4d4f_u32.to_le_bytes());
        bytes.extend(status.to_le_bytes());
        bytes.extend(NUMBER.to_le_bytes());
        for field in [outputs, failures, text] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(1 + 64, 0);
        bytes
    };
    let mut done = head(3, 0, 1, 1, 11);
    let mut name = b"scores".to_vec();
    name.resize(64, 0);
    done.extend(name);
    done.extend([1_u32, 2].map(u32::to_le_bytes).concat());
    done.extend([64_u64, 3, 5, 0, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat());
    done.extend([1_u32, 3].map(u32::to_le_bytes).concat());
    done.extend(b"bad");
    let failed = [head(3, 1, 0, 0, 8), b"it broke".to_vec()].concat();
    vec![done, failed, head(0, 0, 0, 0, 0)]
}

pub(crate) fn server_outputs_seeds() -> Vec<Vec<u8>> {
    // One output "out" of FP32 [any, 2], answered with [1, 2] and with [2, 2] that has too few bytes.
    let declared = [0, 0, 0, 2, 5, 2];
    let answer = |rows: u8| [&[1, 0, 0, 0, 2, rows, 2, 0, 1, 1, 8][..], &[0; 9]].concat();
    vec![[&declared[..], &answer(1)].concat(), [&declared[..], &answer(2)].concat()]
}

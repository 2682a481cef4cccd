//! The fixed layouts that omma and a worker exchange over a socket of packets, little-endian: requests out, answers in.
//!
//! Pure. An answer is a worker's word and nothing more: every count, offset and length in it is held against the output
//! memory before anything is read there. The other side is python/omma/_wire.py; every test with a real worker
//! holds the two together.

use omma_engine::tensor::DType;

pub(super) const PROTOCOL: u32 = 1;
pub(super) const REQUEST_BYTES: usize = 64;
/// The largest answer: its head, the most outputs, the most text (which a batch's failures share), well below what a socket
/// takes as one packet.
pub(super) const ANSWER_BYTES_MAX: usize = HEAD_BYTES + OUTPUTS_MAX * OUTPUT_BYTES + (128 << 10);
/// The largest load request.
pub(super) const LOAD_BYTES_MAX: usize = 128 << 10;

const REQUEST_MAGIC: u32 = 0x3151_4d4f;
const ANSWER_MAGIC: u32 = 0x3141_4d4f;
const FLAG_REGION: u32 = 1;
const HEAD_BYTES: usize = 64;
const OUTPUT_BYTES: usize = 144;
const NAME_BYTES: usize = 64;
const OUTPUTS_MAX: usize = 32;
const RANK_MAX: usize = 8;

/// One batch: where it lies and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) region: u64,
    /// The region's descriptor comes along: the worker has not seen it yet.
    pub(super) shows_region: bool,
    pub(super) region_bytes: u64,
    /// A region that is gone; 0: none.
    pub(super) forget: u64,
    pub(super) count: u32,
    pub(super) dtype: DType,
    pub(super) dims: [u32; 3],
}

impl Request {
    pub(super) fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut packet = [0; REQUEST_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            packet[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&REQUEST_MAGIC.to_le_bytes());
        put(&(if self.shows_region { FLAG_REGION } else { 0 }).to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&self.region.to_le_bytes());
        put(&self.forget.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&(dtype_code(self.dtype)).to_le_bytes());
        for dim in self.dims {
            put(&dim.to_le_bytes());
        }
        put(&0_u32.to_le_bytes());
        put(&self.region_bytes.to_le_bytes());
        packet
    }
}

/// One output of a batch, inside the output memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
    /// The number of values: the shape's product.
    pub(super) values: usize,
}

/// What a worker said of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done { outputs: Vec<Output>, failures: Vec<(usize, String)> },
    Failed(String),
    WrongCount(String),
}

/// Reads the answer to batch `number` of `count` pictures, whose outputs lie in a memory of `memory_bytes`.
///
/// # Errors
/// It is none; what is wrong with it.
pub(super) fn decode(packet: &[u8], number: u64, count: usize, memory_bytes: usize) -> Result<Answer, String> {
    let mut fields = Fields { bytes: packet };
    let magic = fields.u32()?;
    if magic != ANSWER_MAGIC {
        return Err(format!("an answer begins with {magic:#x}, expected {ANSWER_MAGIC:#x}"));
    }
    let status = fields.u32()?;
    let answered = fields.u64()?;
    if answered != number {
        return Err(format!("an answer to batch {answered}, expected one to batch {number}"));
    }
    let (outputs, failures, text) = (fields.u32()? as usize, fields.u32()? as usize, fields.u32()? as usize);
    fields.take(HEAD_BYTES - 28)?;
    if outputs > OUTPUTS_MAX || failures > count {
        return Err(format!("{outputs} outputs and {failures} failures of {count} frames"));
    }
    if status != 0 {
        let text = String::from_utf8_lossy(fields.take(text)?).into_owned();
        return Ok(if status == 2 { Answer::WrongCount(text) } else { Answer::Failed(text) });
    }
    let outputs = (0..outputs).map(|_| output(&mut fields, memory_bytes)).collect::<Result<Vec<_>, String>>()?;
    let failures = (0..failures).map(|_| failure(&mut fields, count)).collect::<Result<Vec<_>, String>>()?;
    if outputs.is_empty() && failures.len() < count {
        return Err(format!("no outputs, but only {} failures of {count} frames", failures.len()));
    }
    Ok(Answer::Done { outputs, failures })
}

fn output(fields: &mut Fields<'_>, memory_bytes: usize) -> Result<Output, String> {
    let name = fields.take(NAME_BYTES)?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| "an output whose name is no UTF-8".to_owned())?.to_owned();
    let dtype = match fields.u32()? {
        0 => DType::U8,
        1 => DType::F32,
        2 => DType::I32,
        3 => DType::I64,
        other => return Err(format!("output `{name}` has type {other}, expected 0 to 3")),
    };
    let rank = fields.u32()? as usize;
    let offset = fields.u64()?;
    let dims: Vec<u64> = (0..RANK_MAX).map(|_| fields.u64()).collect::<Result<_, _>>()?;
    if name.is_empty() || !(1..=RANK_MAX).contains(&rank) {
        return Err(format!("output `{name}` has {rank} dimensions, expected 1 to {RANK_MAX}"));
    }
    let size = |dim: &u64| usize::try_from(*dim).ok();
    let shape: Option<Vec<usize>> = dims[..rank].iter().map(size).collect();
    let values = shape.as_ref().and_then(|shape| shape.iter().try_fold(1_usize, |all, dim| all.checked_mul(*dim)));
    let end = values.and_then(|values| values.checked_mul(dtype.byte_len())).and_then(|bytes| {
        let offset = usize::try_from(offset).ok()?;
        bytes.checked_add(offset)
    });
    match (shape, values, end) {
        (Some(shape), Some(values), Some(end)) if end <= memory_bytes && offset % 8 == 0 => {
            Ok(Output { name, dtype, shape, offset: offset as usize, values })
        }
        _ => Err(format!(
            "output `{name}` of shape {:?} at byte {offset} does not lie in the output memory of {memory_bytes} bytes",
            &dims[..rank]
        )),
    }
}

fn failure(fields: &mut Fields<'_>, count: usize) -> Result<(usize, String), String> {
    let (index, bytes) = (fields.u32()? as usize, fields.u32()? as usize);
    if index >= count {
        return Err(format!("a failure of frame {index} of {count}"));
    }
    Ok((index, String::from_utf8_lossy(fields.take(bytes)?).into_owned()))
}

pub(super) fn dtype_code(dtype: DType) -> u32 {
    match dtype {
        DType::U8 => 0,
        DType::F32 => 1,
        DType::I32 => 2,
        DType::I64 => 3,
        DType::F16 => 4,
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or_else(|| "an answer that ends too early".to_owned())?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "an answer that ends too early".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(status: u32, number: u64, outputs: u32, failures: u32, text: u32) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend(ANSWER_MAGIC.to_le_bytes());
        packet.extend(status.to_le_bytes());
        packet.extend(number.to_le_bytes());
        for field in [outputs, failures, text] {
            packet.extend(field.to_le_bytes());
        }
        packet.resize(HEAD_BYTES, 0);
        packet
    }

    fn described(name: &str, dtype: u32, rank: u32, offset: u64, dims: &[u64]) -> Vec<u8> {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(NAME_BYTES, 0);
        bytes.extend(dtype.to_le_bytes());
        bytes.extend(rank.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        for at in 0..RANK_MAX {
            bytes.extend(dims.get(at).copied().unwrap_or(0).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn answers_are_read() {
        let mut packet = head(0, 7, 1, 1, 11);
        packet.extend(described("scores", 1, 2, 64, &[3, 5]));
        packet.extend(1_u32.to_le_bytes());
        packet.extend(3_u32.to_le_bytes());
        packet.extend(b"bad");
        let output = Output { name: "scores".into(), dtype: DType::F32, shape: vec![3, 5], offset: 64, values: 15 };
        let expected = Answer::Done { outputs: vec![output], failures: vec![(1, "bad".into())] };
        assert_eq!(decode(&packet, 7, 3, 124), Ok(expected));
        for (status, expected) in [(1, Answer::Failed("it broke".into())), (2, Answer::WrongCount("it broke".into()))] {
            let mut packet = head(status, 7, 0, 0, 8);
            packet.extend(b"it broke");
            assert_eq!(decode(&packet, 7, 3, 0), Ok(expected));
        }
    }

    #[test]
    fn what_a_worker_must_not_say_is_refused() {
        let with = |output: Vec<u8>| [head(0, 7, 1, 0, 0), output].concat();
        for (packet, expected) in [
            (vec![], "an answer that ends too early"),
            (vec![1; 64], "an answer begins with 0x1010101, expected 0x31414d4f"),
            (head(0, 6, 0, 0, 0), "an answer to batch 6, expected one to batch 7"),
            (head(0, 7, 33, 0, 0), "33 outputs and 0 failures of 3 frames"),
            (head(0, 7, 0, 4, 0), "0 outputs and 4 failures of 3 frames"),
            (head(0, 7, 1, 0, 0), "an answer that ends too early"),
            (head(1, 7, 0, 0, u32::MAX), "an answer that ends too early"),
            (head(0, 7, 0, 0, 0), "no outputs, but only 0 failures of 3 frames"),
            (with(described("a", 4, 1, 0, &[3])), "output `a` has type 4, expected 0 to 3"),
            (with(described("a", 1, 9, 0, &[3])), "output `a` has 9 dimensions, expected 1 to 8"),
            (with(described("", 1, 1, 0, &[3])), "output `` has 1 dimensions, expected 1 to 8"),
            (
                with(described("a", 1, 1, 8, &[3])),
                "output `a` of shape [3] at byte 8 does not lie in the output memory of 16 bytes",
            ),
            (
                with(described("a", 0, 1, 1, &[3])),
                "output `a` of shape [3] at byte 1 does not lie in the output memory of 16 bytes",
            ),
            (
                with(described("a", 1, 2, u64::MAX - 7, &[3, 1])),
                "output `a` of shape [3, 1] at byte 18446744073709551608 does not lie in the output memory of 16 bytes",
            ),
            (
                with(described("a", 1, 3, 0, &[3, u64::MAX, 2])),
                "output `a` of shape [3, 18446744073709551615, 2] at byte 0 does not lie in the output memory of 16 bytes",
            ),
        ] {
            assert_eq!(decode(&packet, 7, 3, 16), Err(expected.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_reach_outside(mut packet in proptest::collection::vec(any::<u8>(), 0..600)) {
            let start = head(0, 7, 2, 1, 0);
            let whole = packet.len().min(28);
            packet[..whole].copy_from_slice(&start[..whole]);
            if let Ok(Answer::Done { outputs, .. }) = decode(&packet, 7, 3, 4096) {
                for output in outputs {
                    prop_assert!(output.offset + output.values * output.dtype.byte_len() <= 4096);
                }
            }
        }
    }
}

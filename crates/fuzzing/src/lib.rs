//! What must hold of each parser of outside bytes, whatever the bytes: one function for each, for fuzzers and for tests.
//!
//! A target panics if its law does not hold; the parser's own panic is a finding too. `fuzz/` runs the targets under
//! libFuzzer (`scripts/fuzz.sh`), `tests/mutations.rs` runs the same functions over mutated seeds in the ordinary suite,
//! so that they cannot rot. Seeds are made by code: no binary is kept.
//!
//! What is absent: parsers that are other people's and see outside bytes only through ours (TOML, PNG and JPEG
//! libraries are fuzzed by way of our calls; the heads of HTTP requests are parsed by hyper).

mod backends;
mod configuration;
mod http;
mod input;
mod models;
mod outputs;
mod pictures;
mod redis;
mod requests;
mod rings;
mod streams;

pub use backends::{server_outputs, worker_answer};
pub use configuration::{configuration, labels};
pub use http::{challenge, http_head, url};
pub use models::{guess, onnx};
pub use outputs::outputs;
pub use pictures::{jpeg, png, raw};
pub use redis::{redis_answer, redis_message};
pub use requests::{form_file, infer_body, infer_message, model_description};
pub use rings::ring_header;
pub use streams::{mjpeg_file, multipart};

/// A parser, and what must hold of it.
pub struct Target {
    /// Also the name of the file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Beyond "no panic, no hang, no memory without bound".
    pub law: &'static str,
    /// Panics if the law does not hold of these bytes.
    pub check: fn(&[u8]),
    /// Where mutation begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them, by name.
pub const TARGETS: [Target; 22] = [
    Target {
        name: "challenge",
        law: "an answer is one header line whose quotes are closed; a nonce's uses are counted",
        check: challenge,
        seeds: http::challenge_seeds,
    },
    Target {
        name: "configuration",
        law: "a sound one reads back from its effective text; an unsound one has problems with places in the text; passwords show in neither",
        check: configuration,
        seeds: configuration::configuration_seeds,
    },
    Target {
        name: "form_file",
        law: "a file that is found lies between a part's head and the next boundary",
        check: form_file,
        seeds: requests::form_file_seeds,
    },
    Target {
        name: "guess",
        law: "a guessed decoder has a plan without problems",
        check: guess,
        seeds: models::guess_seeds,
    },
    Target {
        name: "http_head",
        law: "texts of the camera's are bounded, without control characters and passwords",
        check: http_head,
        seeds: http::http_head_seeds,
    },
    Target {
        name: "infer_body",
        law: "values are no more than the body can say, one for each input outside of shared memory, and read back as they are written",
        check: infer_body,
        seeds: requests::infer_body_seeds,
    },
    Target {
        name: "infer_message",
        law: "pieces change nothing; contents are no more than the message",
        check: infer_message,
        seeds: requests::infer_message_seeds,
    },
    Target {
        name: "jpeg",
        law: "a slot is written completely or the frame fails by name; both libraries see one size; the next picture is unharmed",
        check: jpeg,
        seeds: pictures::jpeg_seeds,
    },
    Target {
        name: "labels",
        law: "the configuration and the engine read one file alike",
        check: labels,
        seeds: configuration::labels_seeds,
    },
    Target {
        name: "mjpeg_file",
        law: "each byte is given out once; pictures are whole; memory is bounded; pieces change nothing",
        check: mjpeg_file,
        seeds: streams::mjpeg_file_seeds,
    },
    Target {
        name: "model_description",
        law: "names and shapes are no more than the body can say; what is wrong is told in a line",
        check: model_description,
        seeds: requests::model_description_seeds,
    },
    Target {
        name: "multipart",
        law: "pieces change no part; parts and memory are bounded; nothing is skipped that did not come",
        check: multipart,
        seeds: streams::multipart_seeds,
    },
    Target {
        name: "onnx",
        law: "a file that passes does not pass without its last byte",
        check: onnx,
        seeds: models::onnx_seeds,
    },
    Target {
        name: "outputs",
        law: "detections are inside the picture, sorted and bounded; scores are 0 to 1; the same again is the same",
        check: outputs,
        seeds: outputs::seeds,
    },
    Target {
        name: "png",
        law: "a slot is written completely or the frame fails by name; the next picture is unharmed",
        check: png,
        seeds: pictures::png_seeds,
    },
    Target {
        name: "raw",
        law: "exactly the pictures that have the bytes of their size and format are taken, and fill the slot",
        check: raw,
        seeds: pictures::raw_seeds,
    },
    Target {
        name: "redis_answer",
        law: "pieces change nothing; what is passed over ends where it ends when it is read",
        check: redis_answer,
        seeds: redis::redis_answer_seeds,
    },
    Target {
        name: "redis_message",
        law: "a picture is what one field said, within its bound, and reads back as it is written; what is wrong is told in a line",
        check: redis_message,
        seeds: redis::redis_message_seeds,
    },
    Target {
        name: "ring_header",
        law: "what is shown lies inside the segment and is what its header says; what may be overwritten is refused",
        check: ring_header,
        seeds: rings::ring_header_seeds,
    },
    Target {
        name: "server_outputs",
        law: "what is read is what is declared, and has as many values as its shape says",
        check: server_outputs,
        seeds: backends::server_outputs_seeds,
    },
    Target {
        name: "url",
        law: "what goes into a request stays in its line; what is shown has no password and reads back",
        check: url,
        seeds: http::url_seeds,
    },
    Target {
        name: "worker_answer",
        law: "outputs lie inside the output memory, failures are frames of the batch, and something is said of each frame",
        check: worker_answer,
        seeds: backends::worker_answer_seeds,
    },
];

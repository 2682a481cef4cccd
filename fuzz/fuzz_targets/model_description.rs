//! See `omma_fuzzing::TARGETS` for the law.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omma_fuzzing::model_description(data));

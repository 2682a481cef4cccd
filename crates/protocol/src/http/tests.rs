//! Bodies there and back, and bodies that are none.

use proptest::prelude::*;

use super::*;
use crate::elements;
use crate::parameters::{flag, number, text};

fn input(name: &str, datatype: Datatype, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.into(), datatype: datatype.name().into(), shape: shape.into(), ..Default::default() }
}

fn joined(body: &Body) -> Bytes {
    body.parts.concat().into()
}

#[test]
fn requests_come_back_as_they_went() {
    let place = SharedMemory { region: "pool".into(), offset: 64, byte_size: 8 };
    let request = ModelInferRequest {
        id: "7".into(),
        parameters: [("priority".to_owned(), number(2)), ("note".to_owned(), text("a \"b\""))].into(),
        inputs: vec![
            input("a", Datatype::Uint8, &[1, 3]),
            InferInputTensor { parameters: place.parameters(), ..input("b", Datatype::Fp32, &[2]) },
            input("c", Datatype::Bytes, &[1]),
        ],
        outputs: vec![InferRequestedOutputTensor { name: "out".into(), parameters: place.parameters() }],
        raw_input_contents: vec![Bytes::from_static(b"xyz"), Bytes::from_static(b"\x01\0\0\0q")],
        ..Default::default()
    };
    let body = encode_request(&request).unwrap();
    assert_eq!(body.parts.len(), 3, "the header, and two tensors");
    let mut back = decode_request(body.header_length, &joined(&body)).unwrap();
    assert!(Binary::of(&back).unwrap().has("out"));
    assert_eq!(back.parameters.remove("binary_data_output"), Some(flag(true)));
    assert_eq!(back, request);
}

#[test]
fn responses_come_back_as_they_went_binary_or_not() {
    let output = |name: &str, datatype: Datatype, shape: &[i64]| InferOutputTensor {
        name: name.into(),
        datatype: datatype.name().into(),
        shape: shape.into(),
        ..Default::default()
    };
    let response = ModelInferResponse {
        model_name: "m".into(),
        model_version: "1".into(),
        outputs: vec![
            output("f", Datatype::Fp32, &[2]),
            output("i", Datatype::Int64, &[1, 2]),
            output("t", Datatype::Bytes, &[2]),
            output("b", Datatype::Bool, &[3]),
        ],
        raw_output_contents: vec![
            Bytes::from([0.1_f32.to_le_bytes(), (-3.5_f32).to_le_bytes()].concat()),
            Bytes::from([i64::MIN.to_le_bytes(), i64::MAX.to_le_bytes()].concat()),
            elements::join(&["", "ü"]).unwrap(),
            Bytes::from_static(&[0, 1, 0]),
        ],
        ..Default::default()
    };
    for binary in [true, false] {
        let body = encode_response(&response, &Binary { named: Vec::new(), others: binary }).unwrap();
        assert_eq!(body.header_length.is_some(), binary);
        assert_eq!(decode_response(body.header_length, &joined(&body)), Ok(response.clone()), "binary: {binary}");
    }
}

#[test]
fn values_in_json_may_be_nested_and_must_fit_type_and_shape() {
    let read = |datatype: &str, shape: &str, data: &str| {
        let text = format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#);
        decode_request(None, &Bytes::from(text)).map(|request| request.raw_input_contents[0].to_vec())
    };
    assert_eq!(read("UINT8", "[2,2]", "[[1,2],[3,4]]"), Ok(vec![1, 2, 3, 4]));
    assert_eq!(read("FP32", "[2]", "[1, 2.5]"), Ok([1_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat()));
    assert_eq!(read("BYTES", "[1]", r#"["ab"]"#), Ok(b"\x02\0\0\0ab".to_vec()));
    assert_eq!(read("BOOL", "[3]", "[true, 0, 1]"), Ok(vec![1, 0, 1]));
    for (datatype, shape, data, expected) in [
        ("UINT8", "[1]", "[256]", "256, expected a value of UINT8"),
        ("INT32", "[1]", "[1.5]", "1.5, expected a value of INT32"),
        ("FP32", "[1]", r#"["1"]"#, "a text, expected a value of FP32"),
        ("FP32", "[1]", "[null]", "invalid type: null, expected values of FP32, or lists of them"),
        ("FP32", "[3]", "[1,2]", "data: 2 value(s), expected 3"),
        ("FP32", "[1]", "[1,2]", "more than 1 value(s)"),
        ("FP16", "[1]", "[1]", "FP16 as JSON values, expected as a binary tensor"),
        ("FP99", "[1]", "[1]", "datatype \"FP99\", expected one such as FP32"),
        ("FP32", "[-1]", "[1]", "dimension -1, expected 0 or more"),
    ] {
        let error = read(datatype, shape, data).expect_err(data).to_string();
        assert!(error.starts_with("tensor \"x\": ") && error.contains(expected), "{data}: {error}");
    }
}

#[test]
fn bodies_that_are_no_request_say_what_is_wrong() {
    for (length, body, expected) in [
        (None, "", "the JSON header: EOF"),
        (None, "[]", "the JSON header: invalid"),
        (None, "{}", "missing field `inputs`"),
        (Some(9), "{}", "a header of 9 bytes in a body of 2"),
        (None, r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}"#, "neither data nor binary_data_size"),
        (
            None,
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#,
            "4 binary bytes, 0 are left in the body",
        ),
        (
            None,
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}"#,
            "more than one of data, binary_data_size and shared memory",
        ),
        (
            None,
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":-4}}]}"#,
            "parameter binary_data_size is -4, expected a count",
        ),
        (
            None,
            r#"{"inputs":[],"parameters":{"a":[[[0,0]]]}}"#,
            "invalid type: sequence, expected a number, a text, true or false as parameter \"a\" at line 1 column 32",
        ),
        (Some(13), r#"{"inputs":[]}rest"#, "4 byte(s) after the last tensor"),
    ] {
        let error = decode_request(length, &Bytes::from_static(body.as_bytes())).expect_err(body).to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[test]
fn lists_that_cost_many_times_their_text_are_bounded() {
    let list = |one: &dyn Fn(usize) -> String, count| (0..count).map(one).collect::<Vec<_>>().join(",");
    let tensor = |_| r#"{"name":"x","datatype":"BOOL","shape":[0],"data":[]}"#.to_owned();
    let wanted = |number| format!(r#"{{"name":"{number}"}}"#);
    let parameter = |number| format!(r#""{number}":1"#);
    for (tensors, outputs, parameters, expected) in [
        (256, 256, 64, None),
        (257, 0, 0, Some("invalid length 257, expected a list of at most 256 tensors")),
        (0, 257, 0, Some("invalid length 257, expected a list of at most 256 tensors")),
        (0, 0, 65, Some("invalid length 65, expected at most 64 parameters by name")),
    ] {
        let body = format!(
            r#"{{"inputs":[{}],"outputs":[{}],"parameters":{{{}}}}}"#,
            list(&tensor, tensors),
            list(&wanted, outputs),
            list(&parameter, parameters)
        );
        let found = decode_request(None, &body.into()).err().map(|error| error.to_string());
        let as_expected = match (&found, expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => found.contains(expected),
            _ => false,
        };
        assert!(as_expected, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn values_that_json_has_not_are_refused_by_name() {
    for (datatype, content, expected) in [
        (
            Datatype::Fp32,
            f32::NAN.to_le_bytes().to_vec(),
            "output \"x\": a value is not finite: ask for it as a binary",
        ),
        (Datatype::Fp64, f64::INFINITY.to_le_bytes().to_vec(), "output \"x\": a value is not finite"),
        (Datatype::Bytes, vec![1, 0, 0, 0, 0xFF], "output \"x\": an element is no UTF-8 text"),
        (Datatype::Fp16, vec![0, 0], "output \"x\": FP16 as JSON values: ask for it as a binary tensor"),
        (Datatype::Int32, vec![0, 0], "output \"x\": 2 bytes do not fill shape [1]"),
    ] {
        let output = InferOutputTensor {
            name: "x".into(),
            datatype: datatype.name().into(),
            shape: vec![1],
            ..Default::default()
        };
        let response = ModelInferResponse {
            outputs: vec![output],
            raw_output_contents: vec![content.into()],
            ..Default::default()
        };
        let error = encode_response(&response, &Binary { named: Vec::new(), others: false }).expect_err(expected);
        assert!(error.0.starts_with(expected), "{error}");
    }
}

#[test]
fn a_long_text_in_the_wrong_place_is_not_said_again_in_full() {
    let body = format!(r#"{{"inputs":"{}"}}"#, "ü".repeat(1_000_000));
    for error in [
        decode_request(None, &body.clone().into()).expect_err("no list"),
        decode_metadata(body.as_bytes()).expect_err("no list"),
    ] {
        assert!(error.0.chars().count() < 600, "{} characters", error.0.chars().count());
        assert!(error.0.contains("invalid type: string \"üü") && error.0.contains("at line 1 column"), "{error}");
    }
}

#[test]
fn errors_are_read_even_if_they_are_none() {
    assert_eq!(decode_error(&encode_error("no \"such\" model")), "no \"such\" model");
    assert_eq!(decode_error(b"<html>"), "\"<html>\"");
}

/// A response of one tensor with these contents, as JSON.
fn written(datatype: Datatype, content: &[u8]) -> Option<(ModelInferResponse, Body)> {
    let count = content.len() / datatype.size()?;
    let output = InferOutputTensor {
        name: "x".into(),
        datatype: datatype.name().into(),
        shape: vec![count as i64],
        ..Default::default()
    };
    let content = Bytes::copy_from_slice(&content[..count * datatype.size()?]);
    let response =
        ModelInferResponse { outputs: vec![output], raw_output_contents: vec![content], ..Default::default() };
    let body = encode_response(&response, &Binary { named: Vec::new(), others: false }).ok()?;
    Some((response, body))
}

#[test]
fn the_longest_values_are_no_longer_than_is_said_of_them() {
    for (datatype, value) in [
        (Datatype::Bool, &[0][..]),
        (Datatype::Uint8, &[255]),
        (Datatype::Uint16, &u16::MAX.to_le_bytes()),
        (Datatype::Uint32, &u32::MAX.to_le_bytes()),
        (Datatype::Uint64, &u64::MAX.to_le_bytes()),
        (Datatype::Int8, &i8::MIN.to_le_bytes()),
        (Datatype::Int16, &i16::MIN.to_le_bytes()),
        (Datatype::Int32, &i32::MIN.to_le_bytes()),
        (Datatype::Int64, &i64::MIN.to_le_bytes()),
        (Datatype::Fp32, &(-1.234_567_8e-38_f32).to_le_bytes()),
        (Datatype::Fp64, &(-1.234_567_890_123_456_7e-308_f64).to_le_bytes()),
    ] {
        let content = value.repeat(1000);
        let (_, body) = written(datatype, &content).expect("JSON has them");
        let most = content.len() * text_per_byte(datatype) + 100;
        assert!(body.len() <= most, "{} in {} characters, at most {most}", datatype.name(), body.len());
    }
}

proptest! {
    #[test]
    fn values_come_back_from_json_as_they_went(
        datatype in proptest::sample::select(vec![Datatype::Uint8, Datatype::Int16, Datatype::Int64, Datatype::Fp32]),
        content in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Some((response, body)) = written(datatype, &content) {
            let values = &response.raw_output_contents[0];
            prop_assert!(body.len() <= values.len() * text_per_byte(datatype) + 100);
            prop_assert_eq!(decode_response(None, &joined(&body)), Ok(response.clone()));
        }
    }

    #[test]
    fn no_body_makes_it_panic(length in proptest::option::of(0_usize..80), body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let body = Bytes::from(body);
        let _ = decode_request(length, &body);
        let _ = decode_response(length, &body);
        let _ = decode_error(&body);
    }

    #[test]
    fn no_tensor_makes_it_panic(
        datatype in "[A-Z0-9]{2,6}", shape in proptest::collection::vec(any::<i64>(), 0..5), size in any::<i64>(), data in "[-0-9.,\\[\\]\"e]{0,12}",
    ) {
        for tensors in ["inputs", "outputs"] {
            for rest in [format!(r#""parameters":{{"binary_data_size":{size}}}"#), format!(r#""data":[{data}]"#)] {
                let text = format!(r#"{{"{tensors}":[{{"name":"x","datatype":"{datatype}","shape":{shape:?},{rest}}}]}}"#);
                let _ = decode_request(None, &Bytes::from(text.clone()));
                let _ = decode_response(None, &Bytes::from(text));
            }
        }
    }
}

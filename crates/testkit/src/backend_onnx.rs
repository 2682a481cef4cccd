//! Writes very small ONNX files, for what no committed model has: odd inputs, unknown operators, hostile bytes.
//!
//! A protocol-buffer writer of its own (three kinds of fields) instead of a dependency; the numbers are the ONNX
//! schema's.

/// Element types as ONNX numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32 = 1,
    U8 = 2,
    I64 = 7,
    F16 = 10,
}

/// An input or output of the graph; `None` is a dimension that may vary.
pub struct Port<'a> {
    pub name: &'a str,
    pub element: Element,
    pub dims: &'a [Option<usize>],
}

/// A model of one node: `operator` from `inputs` to `outputs`.
#[must_use]
pub fn one_node(operator: &str, inputs: &[Port<'_>], outputs: &[Port<'_>]) -> Vec<u8> {
    node_of("", operator, inputs, outputs)
}

/// As [`one_node`], with an operator that is not ONNX's own but of a `domain`.
#[must_use]
pub fn node_of(domain: &str, operator: &str, inputs: &[Port<'_>], outputs: &[Port<'_>]) -> Vec<u8> {
    let mut node = Vec::new();
    for input in inputs {
        bytes(&mut node, 1, input.name.as_bytes());
    }
    for output in outputs {
        bytes(&mut node, 2, output.name.as_bytes());
    }
    bytes(&mut node, 4, operator.as_bytes());
    bytes(&mut node, 7, domain.as_bytes());

    let mut graph = Vec::new();
    bytes(&mut graph, 1, &node);
    bytes(&mut graph, 2, b"graph");
    for input in inputs {
        bytes(&mut graph, 11, &port(input));
    }
    for output in outputs {
        bytes(&mut graph, 12, &port(output));
    }

    let mut model = Vec::new();
    number(&mut model, 1, 8);
    bytes(&mut model, 7, &graph);
    for (domain, version) in [("", 17), (domain, 1)].into_iter().take(if domain.is_empty() { 1 } else { 2 }) {
        let mut opset = Vec::new();
        bytes(&mut opset, 1, domain.as_bytes());
        number(&mut opset, 2, version);
        bytes(&mut model, 8, &opset);
    }
    model
}

fn port(port: &Port<'_>) -> Vec<u8> {
    let mut shape = Vec::new();
    for dim in port.dims {
        let mut field = Vec::new();
        match dim {
            Some(size) => number(&mut field, 1, *size as u64),
            None => bytes(&mut field, 2, b"batch"),
        }
        bytes(&mut shape, 1, &field);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, port.element as u64);
    bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    bytes(&mut info, 1, port.name.as_bytes());
    bytes(&mut info, 2, &kind);
    info
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

//! Model runtimes: ONNX Runtime, OpenVINO and rten behind one way of opening a model.

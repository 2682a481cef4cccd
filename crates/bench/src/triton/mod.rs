//! What the workloads with a real tritonserver share: the server, and a client with nothing around it.

pub mod bare;

use omma_adapters::infer::open_inference::{
    OpenInferenceModel, OpenInferenceOptions, ServerUrl, SharedMemoryUse, open,
};
use omma_testkit::triton_server::TritonServer;

/// A server with these of the models in `models/triton`.
pub fn start(models: &[&str]) -> Result<TritonServer, String> {
    TritonServer::start(models).ok_or_else(|| "tritonserver is missing: scripts/triton.sh install".to_owned())
}

/// omma's client of a model.
pub fn client(
    server: &TritonServer,
    model: &str,
    shared_memory: SharedMemoryUse,
) -> Result<OpenInferenceModel, String> {
    let options = OpenInferenceOptions::new(ServerUrl::parse(&server.grpc())?, model);
    open(OpenInferenceOptions { shared_memory, ..options })
}

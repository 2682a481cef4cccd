//! What ONNX Runtime computes with: its execution providers, which a library has or has not been built with.
//!
//! A library without the provider that is asked for is refused with a way to get one. ONNX Runtime itself would go on
//! with the CPU in silence, and people would look for days for what makes their GPU so slow.

use std::fmt;

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Provider {
    #[default]
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
}

impl Provider {
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::TensorRt, Self::OpenVino];

    /// The name in configurations and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
        }
    }

    /// Whether it computes on a GPU of NVIDIA's.
    #[must_use]
    pub const fn is_nvidia(self) -> bool {
        matches!(self, Self::Cuda | Self::TensorRt)
    }

    /// The providers that are offered a model's operators, one after the other, before the CPU gets what is left.
    #[must_use]
    pub const fn in_turn(self) -> &'static [Self] {
        match self {
            Self::Cpu => &[Self::Cpu],
            Self::Cuda => &[Self::Cuda],
            // It does not take every operator.
            Self::TensorRt => &[Self::TensorRt, Self::Cuda],
            Self::OpenVino => &[Self::OpenVino],
        }
    }

    /// How a person gets a library that has it.
    #[must_use]
    pub const fn install(self) -> &'static str {
        match self {
            Self::Cpu => "every library has it",
            Self::Cuda => {
                "`pip install onnxruntime-gpu[cuda,cudnn]` (with NVIDIA's driver on the machine) and OMMA_ONNXRUNTIME=the folder \
                 onnxruntime/capi that it installs"
            }
            Self::TensorRt => {
                "`pip install onnxruntime-gpu[cuda,cudnn] tensorrt` (with NVIDIA's driver on the machine) and OMMA_ONNXRUNTIME=the folder \
                 onnxruntime/capi that it installs"
            }
            Self::OpenVino => {
                "`pip install onnxruntime-openvino` and OMMA_ONNXRUNTIME=the folder onnxruntime/capi that it installs; or, without \
                 a provider, runtime = \"openvino\""
            }
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tensorrt_does_not_take_is_cudas_and_not_the_cpus() {
        assert_eq!(Provider::TensorRt.in_turn(), [Provider::TensorRt, Provider::Cuda]);
        for provider in [Provider::Cpu, Provider::Cuda, Provider::OpenVino] {
            assert_eq!(provider.in_turn(), [provider]);
        }
    }
}

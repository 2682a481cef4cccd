"""The detector of this folder in Triton's Python backend. It goes to the GPU by itself, so Triton counts it as a CPU's."""

import pathlib
import sys

import torch
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from detector import Detector  # noqa: E402


class TritonPythonModel:
    def initialize(self, args):
        self.detector = Detector()
        self.detector.load("cuda")

    def execute(self, requests):
        responses = []
        for request in requests:
            pictures = torch.from_numpy(pb_utils.get_input_tensor_by_name(request, "images").as_numpy())
            found = self.detector.predict(pictures).cpu().numpy()
            responses.append(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("output", found)]))
        return responses

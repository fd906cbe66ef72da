"""The releases that we compare with. docs/decisions.md says why these projects were chosen."""

from __future__ import annotations

# The source distribution that carries llama.cpp; its own Python package is never built.
LLAMA_CPP_PYTHON = "0.3.36"

# The peers' virtual environment holds OpenVINO GenAI, the exporter of models for it, and a writer of GGUF.
OPENVINO_GENAI = "2026.4.1.0"
PACKAGES = (
    f"openvino-genai=={OPENVINO_GENAI}",
    "optimum-intel[openvino]==2.2.0",
    "transformers==5.0.0",  # the last release from which optimum exports Gemma 3
    "torch==2.13.0",
    "gguf==0.19.0",
)
# It is installed along with the others, doesn't match the build of torch, and breaks the export.
UNWANTED_PACKAGE = "torchvision"

"""The table of call formats, and which one a chat template shows to its model."""

from __future__ import annotations

from collections.abc import Mapping

from mlc_serve.text.calls.call_format import CallFormat
from mlc_serve.text.calls.deepseek import CALLS_BEGIN, DeepSeekFenced, DeepSeekPlain
from mlc_serve.text.calls.hermes import START_TAG, Generic, Hermes
from mlc_serve.text.calls.llama import PYTHON_TAG, Llama
from mlc_serve.text.calls.mistral import ARGS, CALLS, MistralList, MistralNamed
from mlc_serve.text.calls.qwen_coder import QwenCoder

GENERIC = "generic"
FORMATS: Mapping[str, CallFormat] = {
    GENERIC: Generic(),
    "hermes": Hermes(),
    "qwen3_coder": QwenCoder(),
    "llama3_json": Llama(),
    "mistral": MistralList(),
    "mistral_args": MistralNamed(),
    "deepseek_v3": DeepSeekFenced(),
    "deepseek_v31": DeepSeekPlain(),
}

# What a template contains that shows a format; the first row of which all texts occur is chosen.
_SIGNS = (
    ((CALLS_BEGIN, "```json"), "deepseek_v3"),
    ((CALLS_BEGIN,), "deepseek_v31"),
    (("<function=", "<parameter="), "qwen3_coder"),
    ((CALLS, ARGS), "mistral_args"),
    ((CALLS,), "mistral"),
    ((START_TAG,), "hermes"),
    ((PYTHON_TAG,), "llama3_json"),
    (("<|start_header_id|>", '"parameters": '), "llama3_json"),
)


def format_shown_by(template: str) -> str:
    """Return the name of the format that a template's source shows, or else of the generic one."""
    return next((name for signs, name in _SIGNS if all(sign in template for sign in signs)), GENERIC)

"""A whole LoadedModel without a device, and a chat template that writes out everything that it is given."""

from __future__ import annotations

from typing import Any

from mlc_serve.engine.limits import EngineLimits, ModelInfo
from mlc_serve.loaded_model import GenerationDefaults, LoadedModel
from mlc_serve.testing.backend import FakeBackend
from mlc_serve.testing.tokens import EOS_ID, IM_END_ID, VOCAB_SIZE, byte_tokenizer
from mlc_serve.text.templates.chat_template import ChatTemplate

CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor -%}
<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def fake_model(name: str = "fake", *, backend: FakeBackend | None = None, **limits: Any) -> LoadedModel:
    """Return a LoadedModel on a FakeBackend. Other keywords are fields of EngineLimits.

    If `backend` is given, its pages set the capacity of the KV cache. Its batch limits are set in any case.
    """
    if backend is None:
        backend = FakeBackend(num_pages=-(-limits.get("max_total_sequence_length", 4096) // 4))
    capacity = limits.get("max_total_sequence_length", backend.state.num_pages * backend.state.page_size)
    fields: dict[str, Any] = {
        "max_num_sequence": 8,
        "max_total_sequence_length": capacity,
        "max_single_sequence_length": min(capacity, 1024),
        "prefill_chunk_size": 64,
    }
    engine_limits = EngineLimits(**(fields | limits))
    backend.max_batch_tokens = engine_limits.prefill_chunk_size
    backend.max_batch_sequences = engine_limits.max_num_sequence
    backend.max_batch_draws = engine_limits.max_draws
    tokenizer = byte_tokenizer()
    return LoadedModel(
        name=name,
        device="cpu",
        quantization="q0f32",
        weights="0" * 64,
        backend=backend,
        info=_model_info(engine_limits, backend.state.page_size),
        limits=engine_limits,
        tokenizer=tokenizer,
        chat_template=ChatTemplate(CHAT_TEMPLATE, control_texts=tokenizer.special_texts),
        defaults=GenerationDefaults(eos_token_ids=frozenset({EOS_ID, IM_END_ID})),
    )


def _model_info(limits: EngineLimits, page_size: int) -> ModelInfo:
    return ModelInfo(
        context_window_size=limits.max_single_sequence_length,
        prefill_chunk_size=limits.prefill_chunk_size,
        max_batch_size=limits.max_num_sequence,
        vocab_size=VOCAB_SIZE,
        param_bytes=0,
        kv_bytes_per_token=1,
        workspace_bytes_per_token=1,
        page_size=page_size,
    )

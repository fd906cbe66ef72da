"""The templates that MLC knows by name."""

from __future__ import annotations

import pytest

from mlc_serve.errors import CheckpointError
from mlc_serve.text.templates.conversation_template import ConversationTemplate
from mlc_serve.text.templates.named_conversations import named_conversation, named_conversations
from tests.prompts import prompt_of

NAMES = [
    "LM",
    "aya-23",
    "chatml",
    "chatml_nosystem",
    "codellama_completion",
    "codellama_instruct",
    "deepseek",
    "deepseek_r1_llama",
    "deepseek_r1_qwen",
    "deepseek_v2",
    "deepseek_v3",
    "dolly",
    "gemma3_instruction",
    "gemma_instruction",
    "glm",
    "gorilla",
    "gorilla-openfunctions-v2",
    "gpt2",
    "gpt_bigcode",
    "hermes2_pro_llama3",
    "hermes3_llama-3_1",
    "llama-2",
    "llama-3",
    "llama-3_1",
    "llama-4",
    "llava",
    "llm-jp",
    "ministral3",
    "ministral3_reasoning",
    "mistral_default",
    "nemotron",
    "neural_hermes_mistral",
    "oasst",
    "olmo",
    "olmo2",
    "open_hermes_mistral",
    "orion",
    "phi-2",
    "phi-3",
    "phi-3-vision",
    "phi-4",
    "qwen2",
    "qwen3",
    "qwen3_5",
    "qwen3_5_nothink",
    "redpajama_chat",
    "rwkv_world",
    "stablelm",
    "stablelm-2",
    "stablelm-3b",
    "tinyllama_v1_0",
    "wizard_coder_or_math",
    "wizardlm_7b",
]
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes"},
    {"role": "user", "content": "Bye"},
]
PROMPTS = {
    "LM": "HiYesBye",
    "chatml": (
        "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant "
        "gives helpful and honest answers.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    ),
    "deepseek": "User: Hi\n\nAssistant: Yes<｜end▁of▁sentence｜>User: Bye\n\nAssistant:",
    "gemma_instruction": (
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYes<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    ),
    "gorilla-openfunctions-v2": (
        f"{named_conversation('gorilla-openfunctions-v2')['system_message']}"
        "### Instruction: <<function>>\n<<question>>Hi\n### Response: Yes<|EOT|>"
        "### Instruction: <<function>>\n<<question>>Bye\n### Response: "
    ),
    "llama-2": (
        "[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant.\n<</SYS>>\n\nHi [/INST] Yes </s>"
        "<s>[INST] Bye [/INST] "
    ),
    "llama-4": (
        "<|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>\n\nYes<|eot|>"
        "<|header_start|>user<|header_end|>\n\nBye<|eot|><|header_start|>assistant<|header_end|>\n\n"
    ),
    "phi-2": "Instruct: Hi\nOutput: Yes\nInstruct: Bye\nOutput:",
    "wizardlm_7b": "User: Hi###Response: Yes###User: Bye###Response:",
}


def test_every_name_of_mlc_is_known() -> None:
    """The table has the names that MLC registers, and no other."""
    assert sorted(named_conversations()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_writes_prompts(name: str) -> None:
    """A prompt has the system message and all messages in order, and ends where the answer begins; the first
    message is not repeated. Answers end at a token.
    """
    fields = named_conversation(name)
    template = ConversationTemplate.from_config(fields)
    prompt = prompt_of(template, TALK)
    places = [prompt.index(text) for text in (template.system_message.strip(), "Hi", "Yes", "Bye")]
    assert places[1:] == sorted(places[1:])
    assert prompt.endswith(template.roles["assistant"] + template.role_empty_sep)
    assert prompt.count("Bye") == 1
    assert fields["stop_token_ids"]
    system = prompt_of(template, [{"role": "system", "content": "Sing."}, *TALK])
    assert ("Sing." in system) == template.takes_system == (name != "llama-4")


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_as_in_mlc(name: str) -> None:
    """For each kind of template: one or two separators, roles that are left out, places for functions."""
    assert prompt_of(ConversationTemplate.from_config(named_conversation(name)), TALK) == PROMPTS[name]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """The error says what else can be given."""
    with pytest.raises(CheckpointError, match=r"no template 'vicuna'; give its fields .* LM, .*wizardlm_7b"):
        named_conversation("vicuna")

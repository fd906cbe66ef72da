"""The exported Hugging Face directory: float16 weights, configuration, tokenizer and model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from demo_corpus.chat import CHAT_TEMPLATE, END_OF_TEXT, TURN_END, TURN_START
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from demo_training.card import model_card
from demo_training.evaluation import held_out_questions, judge, share_right
from demo_training.preset import CONTEXT_LENGTH, ROPE_THETA, Preset
from demo_training.run import Run

_WEIGHTS = "model.safetensors"


def export_model(run: Run, directory: Path) -> None:
    """Write everything that is needed to load and serve the model of a run, except its card."""
    export_llama(run.model, run.tokenizer, run.step, directory)


def export_llama(model: LlamaForCausalLM, tokenizer: Tokenizer, num_steps: int, directory: Path) -> None:
    """Write a model that was trained for `num_steps`, and the tokenizer that belongs to it."""
    halves = {name: weight.half().contiguous() for name, weight in llama_weights(model).items()}
    write_tensors(halves, llama_keys(model.config), num_steps, directory)
    export_tokens(tokenizer, model.config, directory)


def export_tokens(tokenizer: Tokenizer, config: LlamaConfig, directory: Path) -> None:
    """Write a tokenizer, and how a model with this configuration generates tokens."""
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(directory / "generation_config.json", _generation_config(config))
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(tokenizer))


def write_tensors(
    tensors: Mapping[str, torch.Tensor], config: dict[str, Any], num_steps: int, directory: Path
) -> None:
    """Write tensors by name, which were trained for `num_steps`, and config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", "steps": str(num_steps)}
    save_file(dict(tensors), directory / _WEIGHTS, metadata=metadata)
    _write_json(directory / "config.json", config)


def run_from_exported(directory: Path, preset: Preset, seed: int) -> Run:
    """A run that continues with the weights and step of the model exported to `directory`.

    Raises ValueError if the file of weights does not say at which step they were saved.
    """
    with safe_open(directory / _WEIGHTS, "pt") as file:
        step = (file.metadata() or {}).get("steps")
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    if step is None:
        raise ValueError(f"{directory / _WEIGHTS} does not say how many steps it was trained for")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return Run.from_weights(preset, seed, tokenizer, weights, int(step))


def score_exported(directory: Path, run: Run, per_family: int) -> float:
    """Score the exported model on held-out questions, write its card, and return the share it got right."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    verdicts = judge(model, tokenizer, held_out_questions(per_family, run.seed))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    (directory / "README.md").write_text(
        model_card(verdicts, num_parameters, run.step, run.preset), encoding="utf-8"
    )
    return share_right(verdicts)


def llama_weights(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """The weights of a Llama whose head is its embeddings."""
    return {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}


def llama_keys(config: LlamaConfig) -> dict[str, Any]:
    """The keys of a Llama's config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_LENGTH,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": ROPE_THETA,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "torch_dtype": "float16",
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _generation_config(config: LlamaConfig) -> dict[str, Any]:
    """Greedy unless a request says otherwise: most questions here have one right answer."""
    ends = [config.eos_token_id, config.pad_token_id]
    return {"do_sample": False, "eos_token_id": ends, "pad_token_id": config.pad_token_id}


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    added = {
        str(number): {
            "content": token.content, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": token.special,
        }
        for number, token in tokenizer.get_added_tokens_decoder().items()
    }  # fmt: skip
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT_LENGTH,
        "chat_template": CHAT_TEMPLATE,
    }

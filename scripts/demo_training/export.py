"""The exported Hugging Face directory: float16 weights, configuration, tokenizer and model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from demo_corpus.chat import CHAT_TEMPLATE, END_OF_TEXT, TURN_END, TURN_START, token_id
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from demo_training.card import model_card
from demo_training.evaluation import held_out_questions, judge, share_right
from demo_training.preset import CONTEXT_LENGTH, ROPE_THETA, Preset
from demo_training.run import Run


def export_model(run: Run, directory: Path) -> None:
    """Write everything that is needed to load and serve the model, except its card."""
    directory.mkdir(parents=True, exist_ok=True)
    turn_end, end_of_text = token_id(run.tokenizer, TURN_END), token_id(run.tokenizer, END_OF_TEXT)
    weights = {
        name: w.half().contiguous() for name, w in run.model.state_dict().items() if name != "lm_head.weight"
    }
    metadata = {"format": "pt", "steps": str(run.step)}
    save_file(weights, directory / "model.safetensors", metadata=metadata)
    run.tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(directory / "config.json", _config(run.preset, turn_end, end_of_text))
    _write_json(directory / "generation_config.json", _generation_config(turn_end, end_of_text))
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(run.tokenizer))


def run_from_exported(directory: Path, preset: Preset, seed: int) -> Run:
    """A run that continues with the weights and step of the model exported to `directory`.

    Raises ValueError if the file of weights does not say at which step they were saved.
    """
    with safe_open(directory / "model.safetensors", "pt") as file:
        step = (file.metadata() or {}).get("steps")
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    if step is None:
        raise ValueError(f"{directory / 'model.safetensors'} does not say how many steps it was trained for")
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


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _config(preset: Preset, turn_end: int, end_of_text: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": preset.vocab_size,
        "hidden_size": preset.hidden_size,
        "intermediate_size": preset.intermediate_size,
        "num_hidden_layers": preset.num_layers,
        "num_attention_heads": preset.num_heads,
        "num_key_value_heads": preset.num_kv_heads,
        "head_dim": preset.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_LENGTH,
        "rms_norm_eps": 1e-6,
        "rope_theta": ROPE_THETA,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": turn_end,
        "pad_token_id": end_of_text,
        "torch_dtype": "float16",
    }


def _generation_config(turn_end: int, end_of_text: int) -> dict[str, Any]:
    """Greedy unless a request says otherwise: most questions here have one right answer."""
    return {"do_sample": False, "eos_token_id": [turn_end, end_of_text], "pad_token_id": end_of_text}


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

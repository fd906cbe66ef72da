"""Directories as MLC writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.errors import CheckpointError
from mlc_serve.loaded_model import GenerationDefaults
from tests.mlc_checkpoints import CHAT_CONFIG, write_mlc_checkpoint
from tests.prompts import prompt_of


def write_with(path: Path, **changes: Any) -> Path:
    """A directory whose chat config has these keys; None removes a key."""
    write_mlc_checkpoint(path)
    config = {key: value for key, value in (CHAT_CONFIG | changes).items() if value is not None}
    (path / "mlc-chat-config.json").write_text(json.dumps(config))
    return path


def write_with_conversation(path: Path, **changes: Any) -> Path:
    """A directory whose conv_template has these keys."""
    return write_with(path, conv_template=CHAT_CONFIG["conv_template"] | changes)


def read_all(path: Path) -> None:
    """Read everything that a start reads before it loads tensors."""
    checkpoint = open_checkpoint(path)
    checkpoint.generation_defaults()
    checkpoint.chat_template()


def test_describes_the_model(tmp_path: Path) -> None:
    """The architecture's configuration gets the model_type that MLC keeps beside it, and the context's size
    under its usual name.
    """
    checkpoint = open_checkpoint(write_mlc_checkpoint(tmp_path))

    assert (checkpoint.model_type, checkpoint.quantization) == ("llama", "q4f16_1")
    assert checkpoint.config == CHAT_CONFIG["model_config"] | {
        "model_type": "llama",
        "vocab_size": 300,
        "max_position_embeddings": 512,
    }
    assert checkpoint.directory == checkpoint.tokenizer_directory == tmp_path


def test_sizes_beside_the_model_config_take_precedence(tmp_path: Path) -> None:
    """MLC's users change them there. -1 says that there is no such limit."""
    sizes = {"context_window_size": 256, "sliding_window_size": -1, "tensor_parallel_shards": 2}
    own = CHAT_CONFIG["model_config"] | {"sliding_window_size": 4096, "tensor_parallel_shards": 2}
    config = open_checkpoint(write_with(tmp_path, model_config=own, **sizes)).config
    assert config["context_window_size"] == 256
    assert "sliding_window_size" not in config


def test_tensors_that_were_cut_for_several_gpus_are_refused(tmp_path: Path) -> None:
    """The error names the first part, and says what to do."""
    index = write_mlc_checkpoint(tmp_path) / "tensor-cache.json"
    index.write_text(index.read_text().replace("model.norm.weight", "model.norm.weight_shard-0"))
    with pytest.raises(CheckpointError, match=r"tensor-cache\.json: model\.norm\.weight_shard-0 is a part"):
        open_checkpoint(tmp_path)


def test_a_named_template_is_used(tmp_path: Path) -> None:
    """Older directories name one of MLC's templates. Their end tokens are the template's."""
    checkpoint = open_checkpoint(
        write_with(tmp_path, conv_template="phi-2", eos_token_id=None, vocab_size=99999)
    )
    template = checkpoint.chat_template()
    assert template is not None
    assert prompt_of(template, [{"role": "user", "content": "Hi"}]) == "Instruct: Hi\nOutput:"
    defaults = checkpoint.generation_defaults()
    assert (defaults.eos_token_ids, defaults.stop) == (frozenset({50256}), ("<|endoftext|>",))


def test_an_empty_stop_string_has_no_effect(tmp_path: Path) -> None:
    """MLC's template stablelm has one."""
    checkpoint = open_checkpoint(write_with_conversation(tmp_path, stop_str=["", "U:"]))
    assert checkpoint.generation_defaults().stop == ("U:",)


def test_generation_defaults(tmp_path: Path) -> None:
    """Sampling values come from the chat config, end tokens from it and its conversation template, and stop
    strings from the template.
    """
    assert open_checkpoint(write_mlc_checkpoint(tmp_path)).generation_defaults() == GenerationDefaults(
        temperature=0.6, top_p=0.95, frequency_penalty=0.1, eos_token_ids=frozenset({3, 4, 5}), stop=("U:",)
    )


def test_a_single_end_token_and_stop_string(tmp_path: Path) -> None:
    """A single value is accepted, as in older directories, where newer ones have a list."""
    write_with_conversation(tmp_path, stop_str="U:", stop_token_ids=None)
    config = json.loads((tmp_path / "mlc-chat-config.json").read_text()) | {"eos_token_id": 7}
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))
    defaults = open_checkpoint(tmp_path).generation_defaults()

    assert (defaults.eos_token_ids, defaults.stop) == (frozenset({7}), ("U:",))


def test_the_conversation_template_writes_prompts(tmp_path: Path) -> None:
    """The chat template is the one in conv_template."""
    template = open_checkpoint(write_mlc_checkpoint(tmp_path)).chat_template()

    assert template is not None
    assert prompt_of(template, [{"role": "user", "content": "Hi"}]) == "Be brief.\nU: Hi\nA:"


def test_prefix_tokens_become_the_text_that_is_read_as_them(tmp_path: Path) -> None:
    """system_prefix_token_ids begin every prompt, and ids without a text are refused at the start."""
    vocab_size = 256 + 6
    template = open_checkpoint(
        write_with_conversation(tmp_path, system_prefix_token_ids=[vocab_size])
    ).chat_template()

    assert template is not None
    assert prompt_of(template, [], add_generation_prompt=False) == "<s>Be brief.\n"

    write_with_conversation(tmp_path, system_prefix_token_ids=[500])
    with pytest.raises(CheckpointError, match=r"system_prefix_token_ids: \[500\]"):
        open_checkpoint(tmp_path).chat_template()


def test_without_a_conversation_template_the_tokenizers_is_used(tmp_path: Path) -> None:
    """Without a conv_template, the model's own Jinja2 template is used if there is one."""
    checkpoint = open_checkpoint(write_with(tmp_path, conv_template=None))
    assert checkpoint.chat_template() is None

    (tmp_path / "chat_template.jinja").write_text("{{ messages | length }}")
    template = checkpoint.chat_template()
    assert template is not None
    assert prompt_of(template, [{"role": "user", "content": ""}]) == "1"


def test_the_fingerprint_changes_with_what_is_converted(tmp_path: Path) -> None:
    """The fingerprint changes with configuration, cache and shards, but not with the tokenizer."""
    prints = [open_checkpoint(write_mlc_checkpoint(tmp_path)).fingerprint()]
    os.utime(tmp_path / "tokenizer.json", ns=(1, 1))
    assert open_checkpoint(tmp_path).fingerprint() == prints[0]

    os.utime(tmp_path / "params_shard_1.bin", ns=(1, 1))
    prints.append(open_checkpoint(tmp_path).fingerprint())
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(CHAT_CONFIG | {"top_p": 0.5}))
    prints.append(open_checkpoint(tmp_path).fingerprint())
    cache = json.loads((tmp_path / "tensor-cache.json").read_text())
    (tmp_path / "tensor-cache.json").write_text(json.dumps(cache | {"note": "other"}))
    prints.append(open_checkpoint(tmp_path).fingerprint())

    assert len(set(prints)) == len(prints) == 4


def test_what_can_not_be_followed_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Unusable sampling values and end tokens are left out, with a warning that names file and key."""
    write_with(
        tmp_path,
        temperature=-1,
        eos_token_id="x",
        conv_template=CHAT_CONFIG["conv_template"] | {"stop_token_ids": [-1, 3]},
    )
    defaults = open_checkpoint(tmp_path).generation_defaults()
    assert (defaults.temperature, defaults.eos_token_ids) == (1.0, frozenset({3}))
    assert [record.message.partition(" is left out")[0].rpartition("/")[2] for record in caplog.records] == [
        "mlc-chat-config.json: eos_token_id",
        "mlc-chat-config.json: conv_template.stop_token_ids",
        "mlc-chat-config.json: temperature",
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model_type": None}, "model_type is None, but must be a text"),
        ({"quantization": 4}, "quantization is 4, but must be a text"),
        ({"model_config": []}, r"model_config is \[\], but must be an object"),
        ({"conv_template": "none"}, "conv_template: there is no template 'none'"),
        ({"conv_config": 1}, "conv_config is 1, but must be an object"),
        (
            {"conv_template": {"stop_str": [1]}},
            "conv_template.stop_str is neither a text nor a list of texts",
        ),
        (
            {"conv_template": CHAT_CONFIG["conv_template"] | {"system_prefix_token_ids": ["<s>"]}},
            r"conv_template\.system_prefix_token_ids: \['<s>'\] are not all special tokens",
        ),
        (
            {"conv_template": CHAT_CONFIG["conv_template"] | {"system_prefix_token_ids": 3}},
            r"conv_template\.system_prefix_token_ids: 3 are not all special tokens",
        ),
        ({"conv_template": {"name": "LM"}}, "conv_template.roles: "),
    ],
)
def test_a_malformed_chat_config_is_named(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    """The error names the file and the field in one line, before any tensor is loaded."""
    write_with(tmp_path, **changes)

    with pytest.raises(CheckpointError, match=rf"mlc-chat-config\.json: {fault}") as error:
        read_all(tmp_path)
    assert len(str(error.value).splitlines()) == 1

"""Chat templates and special tokens in the files of a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.template_files import read_chat_template, read_special_tokens
from mlc_serve.errors import CheckpointError
from tests.prompts import prompt_of


def write(path: Path, **tokenizer_config: Any) -> Path:
    """A directory with this tokenizer_config.json."""
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return path


def rendered(path: Path, tools: list[dict[str, Any]] | None = None) -> str:
    """The prompt that the directory's template makes from no messages."""
    template = read_chat_template(path)
    assert template is not None
    return prompt_of(template, [], tools)


def test_no_template(tmp_path: Path) -> None:
    """A base model has no template, with or without tokenizer_config.json."""
    assert read_chat_template(tmp_path) is None
    assert read_chat_template(write(tmp_path, chat_template=None)) is None


def test_a_text_with_special_tokens(tmp_path: Path) -> None:
    """Special tokens are variables of the template, written as texts or as objects."""
    write(
        tmp_path,
        chat_template="{{ bos_token }}|{{ eos_token }}",
        bos_token={"content": "<s>"},
        eos_token="</s>",
    )

    assert rendered(tmp_path) == "<s>|</s>"


def test_special_tokens_of_either_file(tmp_path: Path) -> None:
    """tokenizer_config.json overrides special_tokens_map.json; values that are no tokens are left out."""
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": "old", "unk_token": "<unk>"}))
    write(tmp_path, bos_token="<s>", add_bos_token=True, pad_token=None)

    assert read_special_tokens(tmp_path) == {"bos_token": "<s>", "unk_token": "<unk>"}


def test_named_templates(tmp_path: Path) -> None:
    """Of a list of named templates, the one for tools is used if there are tools."""
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools }}"}]
    write(tmp_path, chat_template=named)

    assert rendered(tmp_path) == "plain"
    assert rendered(tmp_path, [{}]) == "[{}]"


def test_files_go_before_the_tokenizer_config(tmp_path: Path) -> None:
    """chat_template.jinja is the default template, and those in additional_chat_templates go by file name."""
    write(tmp_path, chat_template="outdated")
    (tmp_path / "chat_template.jinja").write_text("current ä", encoding="utf-8")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")

    assert rendered(tmp_path) == "current ä"
    assert rendered(tmp_path, [{}]) == "[{}]"


@pytest.mark.parametrize(
    "declared",
    [
        5,
        ["x"],
        [{"name": "default"}],
        [{"name": "default", "template": 5}],
        "{% if %}",
        "{{ messages | no_such_filter }}",
        "{{ messages is no_such_test }}",
        "{% break %}",
        "{% for a in b %}" * 25 + "{% endfor %}" * 25,
        "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
        "x" * (2**20 + 1),
    ],
    ids=range(11),
)
def test_a_malformed_template_is_refused(tmp_path: Path, declared: Any) -> None:
    """The error is one line that names the file and the key."""
    with pytest.raises(CheckpointError, match=f"^{tmp_path}/tokenizer_config.json: chat_template.*[^\n]*$"):
        read_chat_template(write(tmp_path, chat_template=declared))


def test_a_template_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """The error names a file with bytes that are not UTF-8."""
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")

    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: .*not UTF-8"):
        read_chat_template(tmp_path)


def test_a_template_file_that_does_not_compile_is_named(tmp_path: Path) -> None:
    """The error has the file's name, and says what is wrong in it."""
    (tmp_path / "chat_template.jinja").write_text("{{ messages | no_such_filter }}")

    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: .*No filter named 'no_such_filter'"):
        read_chat_template(tmp_path)

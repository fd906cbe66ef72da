"""Reads chat templates and special tokens from Hugging Face directories, in all forms that are in use."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object_if_present
from mlc_serve.text.templates.chat_template import ChatTemplate


def read_chat_template(directory: Path, control_texts: Collection[str] = ()) -> ChatTemplate | None:
    """chat_template.jinja with the additional templates, or else what tokenizer_config.json holds; None if
    there is neither. `control_texts` are the names of the tokenizer's control tokens.

    Raises a CheckpointError that names the file, the key and what is wrong.
    """
    for place, sources in (_files(directory), _declared(directory)):
        if sources:
            try:
                return ChatTemplate(sources, read_special_tokens(directory), control_texts)
            except CheckpointError as error:
                raise CheckpointError(f"{place}: {error}") from error
    return None


def read_special_tokens(directory: Path) -> dict[str, str]:
    """The texts of bos_token, eos_token and similar tokens, by these names."""
    declared = {
        **read_json_object_if_present(directory / "special_tokens_map.json"),
        **read_json_object_if_present(directory / "tokenizer_config.json"),
    }
    texts = {name: _token_text(value) for name, value in declared.items() if name.endswith("_token")}
    return {name: text for name, text in texts.items() if text is not None}


def read_listed_ids(directory: Path, text: str) -> list[Any]:
    """The ids that lists of added tokens give to this token: numbers, or whatever else is in their place."""
    config = read_json_object_if_present(directory / "tokenizer_config.json").get("added_tokens_decoder")
    listed = config.items() if isinstance(config, dict) else ()
    ids: list[Any] = [int(key) for key, token in listed if key.isdecimal() and _token_text(token) == text]
    added = read_json_object_if_present(directory / "tokenizer.json").get("added_tokens")
    entries = [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    ids += [entry.get("id") for entry in entries if entry.get("content") == text]
    older = read_json_object_if_present(directory / "added_tokens.json")
    return [*ids, older[text]] if text in older else ids


def _files(directory: Path) -> tuple[Path, dict[str, str]]:
    """The place of templates that have their own files, and their sources by name."""
    paths = {path.stem: path for path in sorted(directory.glob("additional_chat_templates/*.jinja"))}
    place = directory / "chat_template.jinja"
    if place.is_file():
        paths["default"] = place
    return place if place in paths.values() else directory, {
        name: _source(path) for name, path in paths.items()
    }


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: the chat template is not UTF-8") from error


def _declared(directory: Path) -> tuple[str, dict[str, str]]:
    """The place in tokenizer_config.json, and the templates there: one text, or a list of named ones."""
    path = directory / "tokenizer_config.json"
    place, value = f"{path}: chat_template", read_json_object_if_present(path).get("chat_template")
    if value is None:
        return place, {}
    if isinstance(value, str):
        return place, {"default": value}
    try:
        named = {entry["name"]: entry["template"] for entry in value}
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{place} is neither a text nor a list of named texts") from error
    if not all(isinstance(text, str) for text in [*named, *named.values()]):
        raise CheckpointError(f"{place} has a template that is not a text")
    return place, named


def _token_text(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None

"""The tokens that a model directory declares in addition to its vocabulary, read as transformers 5 does.

They are in tokenizer_config.json. If that has no list of all added tokens, special_tokens_map.json,
added_tokens.json and tokenizer.json are read as well.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object_if_present

# In the order in which they get ids if the vocabulary lacks them.
STANDARD_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_LIST = "added_tokens_decoder"
_EXTRA, _EXTRA_ONCE = "extra_special_tokens", "additional_special_tokens"
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


@dataclass(frozen=True)
class DeclaredTokens:
    """`added` are the listed tokens, in the order of their ids; `named` are those with a role, by names such
    as `bos_token`; `extra` are further special tokens, None if the files declare no such list.
    """

    added: list[AddedToken]
    named: dict[str, AddedToken]
    extra: list[AddedToken] | None

    def unnormalized(self) -> DeclaredTokens:
        """Return a copy whose listed tokens are matched before a text is normalized."""
        return replace(self, added=[_with_flags(token, normalized=False) for token in self.added])

    def add_to(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Add the tokens that the tokenizer lacks. A token in its vocabulary keeps its id there."""
        present = tokenizer.get_added_tokens_decoder().values()
        as_they_are = {repr(token) for token in present}
        missing = [token for token in self.added if repr(token) not in as_they_are]
        known = {token.content for token in (*present, *missing)}
        for token in (*self.named.values(), *(self.extra or ())):
            if token.content not in known:
                known.add(token.content)
                missing.append(token)
        names = {token.content for token in self.named.values()}
        for token in missing:
            token.special = token.special or token.content in names
        tokenizer.add_tokens(missing)


def read_declared_tokens(
    directory: Path,
    config: Mapping[str, Any],
    listed: Mapping[int, AddedToken],
    defaults: Mapping[str, str],
) -> DeclaredTokens:
    """Return the tokens declared in a directory whose tokenizer_config.json is `config`.

    `listed` are the added tokens of its tokenizer.json, `defaults` the named tokens of its tokenizer class.
    Raises CheckpointError, which names the file and the key.
    """
    reader = _Reader()
    with _faults_in(directory / "tokenizer_config.json"):
        reader.read_config(config)
    if config.get(_LIST) is None:
        special_map = read_json_object_if_present(directory / "special_tokens_map.json")
        with _faults_in(directory / "special_tokens_map.json"):
            reader.read_special_map(special_map)
        with _faults_in(directory / "added_tokens.json"):
            reader.read_ids(read_json_object_if_present(directory / "added_tokens.json"))
        with _faults_in(directory / "special_tokens_map.json"):
            reader.read_older_extra(special_map)
        reader.added |= listed
    return reader.declared(defaults)


class _Reader:
    """Collects what the files declare. A later declaration of a name replaces an earlier one."""

    def __init__(self) -> None:
        self.added: dict[int, AddedToken] = {}
        self._named: dict[str, AddedToken | None] = {}
        self._extra: list[AddedToken] | None = None

    def read_config(self, config: Mapping[str, Any]) -> None:
        """Read tokenizer_config.json."""
        self._read_names(config)
        self._read_extra(_EXTRA, config.get(_EXTRA) or config.get(_EXTRA_ONCE, config.get(_EXTRA)))
        for token_id, value in _object(_LIST, config.get(_LIST) or {}).items():
            if not token_id.isdecimal():
                raise CheckpointError(f"{_LIST}: {reprlib.repr(token_id)} is not a token id")
            self.added[int(token_id)] = _token(f"{_LIST}.{token_id}", value)

    def read_special_map(self, declared: Mapping[str, Any]) -> None:
        """Read special_tokens_map.json, except for extra tokens under their old name."""
        self._read_names(declared, always_special=True)
        self._read_extra(_EXTRA, declared.get(_EXTRA))

    def read_older_extra(self, declared: Mapping[str, Any]) -> None:
        """Read the extra tokens under their old name in special_tokens_map.json, if there are no others."""
        if self._extra is None:
            self._read_extra(_EXTRA_ONCE, declared.get(_EXTRA_ONCE))

    def read_ids(self, ids: Mapping[str, Any]) -> None:
        """Read added_tokens.json: ids by text. A token is special if a file that was read before names it."""
        standard = (self._named.get(name) for name in STANDARD_NAMES)
        special = {token.content for token in (*standard, *(self._extra or ())) if token is not None}
        for text, token_id in ids.items():
            if not isinstance(token_id, int):
                raise CheckpointError(f"{reprlib.repr(text)}: {reprlib.repr(token_id)} is not a token id")
            self.added[token_id] = _token(text, {"content": text, "special": text in special})

    def declared(self, defaults: Mapping[str, str]) -> DeclaredTokens:
        """Return everything that was read. A named token has the flags that the list gives it."""
        by_content = {token.content: token for token in self.added.values()}
        named = {name: AddedToken(text, special=True) for name, text in defaults.items()} | {
            name: token and by_content.get(token.content, token) for name, token in self._named.items()
        }
        in_order = [*STANDARD_NAMES, *(name for name in named if name not in STANDARD_NAMES)]
        return DeclaredTokens(
            [self.added[token_id] for token_id in sorted(self.added)],
            {name: token for name in in_order if (token := named.get(name)) is not None},
            self._extra,
        )

    def _read_names(self, declared: Mapping[str, Any], *, always_special: bool = False) -> None:
        """Read the standard names, where null means that there is no such token, and the model's own."""
        for name, value in declared.items():
            if name in STANDARD_NAMES and value is None:
                self._named[name] = None
            elif name in STANDARD_NAMES or (name.endswith("_token") and isinstance(value, (str, dict))):
                self._named[name] = _token(name, value, always_special=always_special)

    def _read_extra(self, key: str, value: Any) -> None:
        """Read a list of tokens, or an object from the model's own names to tokens."""
        if isinstance(value, dict):
            self._named |= {name: _token(f"{key}.{name}", token) for name, token in value.items()}
        elif isinstance(value, list):
            tokens = [_token(f"{key}.{i}", token) for i, token in enumerate(value)]
            self._extra = [*(self._extra or ()), *tokens]
        elif value is not None:
            raise CheckpointError(f"{key} is {reprlib.repr(value)}, not a list of tokens")


@contextmanager
def _faults_in(path: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from error


def _with_flags(token: AddedToken, **flags: bool) -> AddedToken:
    own = {name: getattr(token, name) for name in _FLAGS}
    return AddedToken(token.content, **{**own, **flags})


def _object(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{key} is {reprlib.repr(value)}, not an object")
    return value


def _token(key: str, value: Any, *, always_special: bool = False) -> AddedToken:
    """Return a token that is given by its text, which makes it special, or by its text and flags."""
    if isinstance(value, str):
        return AddedToken(value, special=True)
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise CheckpointError(f"{key} is {reprlib.repr(value)}, not a token")
    flags = {name: bool(value[name]) for name in _FLAGS if name in value}
    if always_special:
        flags["special"] = True
    return AddedToken(value["content"], **flags)

"""Writes a checkpoint whose every reply is chosen by the test, and which runs through the real engine and
server.

The model is a Llama of one layer whose attention and MLP are zero, so that the next token depends on the last
one alone: the embedding of token i is the i-th unit vector, and the LM head leads from each token to its
successor. A reply is cut into pieces of which no two are equal (the phrases of Ziv and Lempel's parsing of
1978), so that each piece can be a token of its own with one successor.

    write_scripted_checkpoint(path, {"weather": "It is raining.", "story": Endless("Once upon a time, ")})

A prompt that ends in a key is answered with the key's reply: in a chat the key ends the last message, in a
raw completion the prompt. Keys have two characters or more. Any other prompt is answered with nothing. Greedy
and sampled replies are the same, because the likeliest token leads by 200 nats.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from mlc_serve.testing.tokens import byte_vocabulary

END, USER, SYSTEM, ASSISTANT, TOOL = "<|end|>", "<|user|>", "<|system|>", "<|assistant|>", "<|tool|>"
SPECIAL_TOKENS = (END, USER, SYSTEM, ASSISTANT, TOOL)

# All scripts have these sizes, so that one compiled library serves them all.
VOCAB_SIZE = 1024
CONTEXT_WINDOW_SIZE = 4096
_HEAD_DIM = 64
_NARROW = 64  # the width of the MLP, which does nothing

# The prompt ends with the last message, without an end of turn, so that its last token decides the reply.
CHAT_TEMPLATE = """\
{%- if tools %}<|system|>{{ tools | tojson }}{% endif %}
{%- for message in messages %}<|{{ message.role }}|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}
{%- endfor %}"""


@dataclass(frozen=True)
class Endless:
    """A reply that says its text and then repeats the last character until it is cut off."""

    text: str


Reply = str | Endless | Sequence[str | bytes]


def write_scripted_checkpoint(path: Path, replies: Mapping[str, Reply], **generation: Any) -> Path:
    """Fill a directory with the checkpoint and return it. `generation` overrides generation_config.json.

    A reply given as a sequence has exactly these tokens: bytes need not be whole characters, and the text of
    a special token is that token. Raises ValueError if a token would need two successors, or if there are too
    many tokens.
    """
    path.mkdir(parents=True, exist_ok=True)
    script = _Script(replies)
    script.tokenizer().save(str(path / "tokenizer.json"))
    save_file(script.tensors(), path / "model.safetensors", metadata={"format": "pt"})
    end = script.ids[END.encode()]
    _write_json(path / "config.json", _CONFIG | {"eos_token_id": end})
    _write_json(path / "generation_config.json", {"eos_token_id": end, "do_sample": False} | generation)
    _write_json(path / "tokenizer_config.json", _TOKENIZER_CONFIG)
    return path


_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": VOCAB_SIZE,
    "intermediate_size": _NARROW,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": _HEAD_DIM,
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": CONTEXT_WINDOW_SIZE,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": END,
    "clean_up_tokenization_spaces": False,
    "chat_template": CHAT_TEMPLATE,
}


class _Script:
    """Which tokens there are (`ids`, by the bytes that they stand for), and which follows which."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self._keys = list(replies)
        self._stand_ins = {byte: stand_in for stand_in, byte in byte_vocabulary().items()}
        self.ids = {bytes([byte]): byte for byte in range(256)}
        for token in (*SPECIAL_TOKENS, *self._keys):
            self._add(token.encode())
        end = self.ids[END.encode()]
        self._successors = dict.fromkeys(range(end), end)
        taken: set[bytes] = set()
        for key, reply in replies.items():
            self._follow(self.ids[key.encode()], list(_pieces(reply, taken)), isinstance(reply, Endless))

    def _add(self, token: bytes) -> int:
        if token not in self.ids:
            self.ids[token] = len(self.ids)
        if len(self.ids) > VOCAB_SIZE:
            raise ValueError(f"the replies need more than {VOCAB_SIZE} tokens")
        return self.ids[token]

    def _follow(self, key_id: int, pieces: list[bytes], is_endless: bool) -> None:
        token_ids = [key_id, *map(self._add, pieces)]
        last = token_ids[-1] if is_endless else self.ids[END.encode()]
        for token_id, successor in pairwise([*token_ids, last]):
            if self._successors.setdefault(token_id, successor) != successor:
                raise ValueError(f"token {token_id} would need two successors")

    def tokenizer(self) -> tokenizers.Tokenizer:
        """Byte-level without merges, so that prompts never have pieces of replies, but always the keys."""
        added = {token.encode(): token for token in (*SPECIAL_TOKENS, *self._keys)}
        vocabulary = {added.get(token) or self._entry(token): i for token, i in self.ids.items()}
        tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        tokenizer.add_tokens([AddedToken(key, normalized=False) for key in self._keys])
        return tokenizer

    def _entry(self, token: bytes) -> str:
        return "".join(self._stand_ins[byte] for byte in token)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The weights."""
        head = np.zeros((VOCAB_SIZE, VOCAB_SIZE), np.float32)
        for token_id, successor in self._successors.items():
            head[successor, token_id] = 8  # times 32, which the norm makes of a unit vector
        layer = "model.layers.0."
        return {
            "model.embed_tokens.weight": np.eye(VOCAB_SIZE, dtype=np.float32),
            "model.norm.weight": np.ones(VOCAB_SIZE, np.float32),
            "lm_head.weight": head,
            layer + "input_layernorm.weight": np.ones(VOCAB_SIZE, np.float32),
            layer + "post_attention_layernorm.weight": np.ones(VOCAB_SIZE, np.float32),
            **{f"{layer}self_attn.{name}_proj.weight": _zeros(_HEAD_DIM, VOCAB_SIZE) for name in "qkv"},
            layer + "self_attn.o_proj.weight": _zeros(VOCAB_SIZE, _HEAD_DIM),
            layer + "mlp.gate_proj.weight": _zeros(_NARROW, VOCAB_SIZE),
            layer + "mlp.up_proj.weight": _zeros(_NARROW, VOCAB_SIZE),
            layer + "mlp.down_proj.weight": _zeros(VOCAB_SIZE, _NARROW),
        }


def _zeros(*dimensions: int) -> NDArray[np.float32]:
    return np.zeros(dimensions, np.float32)


def _pieces(reply: Reply, taken: set[bytes]) -> Iterator[bytes]:
    """The tokens of a reply. Pieces that are cut here are added to `taken`, and differ from all in it."""
    if isinstance(reply, Endless):
        yield from _phrases(reply.text.encode(), taken)
    elif isinstance(reply, str):
        yield from _phrases(reply.encode(), taken)
    else:
        yield from (piece.encode() if isinstance(piece, str) else piece for piece in reply)


def _phrases(text: bytes, taken: set[bytes]) -> list[bytes]:
    """The text cut into phrases of two bytes or more, each the shortest that is new.

    A rest that is not new is joined with the phrases before it until it is.
    """
    phrases, start = [], 0
    for stop in range(2, len(text) + 1):
        if stop - start > 1 and text[start:stop] not in taken:
            phrases.append(text[start:stop])
            taken.add(phrases[-1])
            start = stop
    rest = text[start:]
    while phrases and rest and (len(rest) == 1 or rest in taken):
        rest = phrases.pop() + rest
    taken.add(rest)
    return [*phrases, rest] if rest else phrases


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

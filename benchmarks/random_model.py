"""Write a checkpoint with random weights in the shape of a published model, in Hugging Face format.

    python -m benchmarks.random_model --shape smollm2-135m --out DIR [--dtype float32] [--seed 1]

Speed depends only on shapes, so such a checkpoint can stand in for a model, and nothing is downloaded. Every
tensor has its own random generator, which is seeded with the tensor's name, so that its values depend neither
on the order of the tensors nor on the other tensors.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from benchmarks.shapes import SHAPES, Shape

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main() -> None:
    """Write the checkpoint that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_model(SHAPES[options.shape], options.out, options.dtype, options.seed)


def write_model(shape: Shape, out: Path, dtype: str = "bfloat16", seed: int = 0) -> None:
    """Write config, tokenizer and weights of a model into a new or existing directory."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", shape.config(dtype))
    write_json(out / "generation_config.json", {"eos_token_id": 0, "do_sample": False})
    write_json(out / "tokenizer_config.json", tokenizer_config())
    byte_tokenizer(shape.vocab - shape.padding).save(str(out / "tokenizer.json"))
    tensors = {}
    for name, dimensions in shape.tensors():
        tensors[name] = random_tensor(name, dimensions, shape, seed).astype(DTYPES[dtype])
    save_file(tensors, out / "model.safetensors", {"format": "pt"})


def random_tensor(name: str, dimensions: tuple[int, ...], shape: Shape, seed: int) -> npt.NDArray[np.float32]:
    """Values that give each branch of the network a gain near one, so that outputs vary."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values: npt.NDArray[np.float32] = generator.standard_normal(dimensions, dtype=np.float32)
    if name.endswith("norm.weight"):
        values *= np.float32(0.05)
        return values if shape.family.norms_less_one else values + np.float32(1)
    if name.endswith("bias"):
        values *= np.float32(0.1)
        return values
    values *= np.float32(shape.hidden**-0.5)
    if name == "model.embed_tokens.weight" and shape.padding:
        values[-shape.padding :] = 0  # never the likeliest: these ids have no text
    return values


def byte_tokenizer(size: int) -> Tokenizer:
    """A tokenizer of single bytes. The rest of its vocabulary consists of tokens that no input contains."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rest = size - len(SPECIALS) - len(alphabet)
    entries = [*SPECIALS, *alphabet, *(f"Ġ~{index}" for index in range(rest))]
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(entries)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    return tokenizer


def tokenizer_config() -> dict[str, object]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIALS[0],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }


def write_json(path: Path, content: object) -> None:
    """Write a JSON file that people can read."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

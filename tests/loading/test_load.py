"""From a directory to a model: what is done only once, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.errors import (
    CheckpointError,
    CompileError,
    ConfigError,
    DeviceError,
    DiskFullError,
    InvalidRequestError,
    StartupError,
)
from mlc_serve.frontend.params import check_prompt
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import library as library_step
from mlc_serve.loading import load as load_steps
from mlc_serve.loading import load_model
from mlc_serve.loading import weights as weights_step
from mlc_serve.loading.artifacts import HOME_VARIABLE, cache_home
from tests.checkpoints import Shape, write_checkpoint
from tests.medusa_checkpoints import random_heads, write_heads
from tests.mlc_checkpoints import write_mlc_checkpoint

ROOT = Path(__file__).parent.parent.parent
SMALL = EngineConfig(quantization="q0f32", max_num_sequence=2, max_total_sequence_length=128, verbose=False)

SERVES_A_CACHED_MODEL = """
import sys
from mlc_serve.config import EngineConfig
from mlc_serve.loading import load_model

load_model(EngineConfig(model=sys.argv[1], quantization="q0f32", verbose=False), "cpu", print)
import tvm.base
print("tvm_compiler" in tvm.base._LOADED_LIBS, "mlc_serve.compiler" in sys.modules)
"""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tiny_model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that no other process uses, with everything that has been made so far."""
    directory = tmp_path_factory.mktemp("cache") / "copy"
    shutil.copytree(cache_home(), directory, ignore=shutil.ignore_patterns(".*"))  # unfinished ones
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(directory))
        yield


def load(directory: Path, config: EngineConfig = SMALL, **options: Any) -> tuple[LoadedModel, list[str]]:
    """The model, and the lines that were reported."""
    lines: list[str] = []
    named = replace(config, model=str(directory), **options)
    return load_model(named, "cpu", lines.append), lines


def logprobs(model: LoadedModel) -> list[float]:
    """The logprobs of a few known tokens."""
    model.backend.state.clear()
    model.backend.state.add_sequence(0)
    ids = [7, 300, 41, 9]
    (result,) = model.backend.run([SequenceStep(0, ids, targets=[*ids[1:], None])])
    model.backend.state.clear()
    return [score.logprob for score in result.target_logprobs]


def artifacts(kind: str) -> set[Path]:
    """The artifacts of one kind in the cache."""
    return set((cache_home() / kind).glob("[!.]*"))


def library_of(checkpoint: Path) -> Path:
    """The library in the cache for a checkpoint in float32."""
    wanted = {"config": open_checkpoint(checkpoint).config, "quantization": "q0f32"}
    keys = {path: json.loads((path / "key.json").read_text()) for path in artifacts("libraries")}
    (found,) = (path for path, key in keys.items() if key | wanted == key)
    return found / "model.so"


def changed(directory: Path, copy: Path, **config: Any) -> Path:
    """A copy of a checkpoint with changes in its config."""
    shutil.copytree(directory, copy)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return copy


def test_a_model_is_complete(tiny_checkpoint: Path, tiny_model: LoadedModel) -> None:
    """A loaded model has everything that an engine is built from."""
    assert tiny_model.name == str(tiny_checkpoint)
    assert tiny_model.limits.max_num_sequence == 8
    assert tiny_model.tokenizer.vocab_size == tiny_model.info.vocab_size == 512
    assert tiny_model.chat_template is not None
    assert tiny_model.defaults.eos_token_ids


def test_the_second_load_compiles_nothing(
    tiny_checkpoint: Path, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second load neither compiles nor converts, needs no Python or linker, and computes the same."""
    before = (artifacts("libraries"), artifacts("weights"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    model, lines = load(tiny_checkpoint)
    assert lines == []
    assert (artifacts("libraries"), artifacts("weights")) == before
    assert logprobs(model) == logprobs(tiny_model)


def test_a_server_of_a_cached_model_has_no_compiler(tiny_checkpoint: Path) -> None:
    """For a cached model, neither TVM's compiler nor ours is loaded."""
    result = subprocess.run(
        [sys.executable, "-c", SERVES_A_CACHED_MODEL, str(tiny_checkpoint)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.returncode) == ("False False\n", 0), result.stderr


def test_weights_of_another_checkpoint_are_converted(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint with the same config gets its own weights, but shares the library."""
    before = artifacts("libraries")
    other = write_checkpoint(tmp_path / "other", seed=12)
    assert (other / "config.json").read_bytes() == (tiny_checkpoint / "config.json").read_bytes()
    model, lines = load(other)
    assert lines == []
    assert artifacts("libraries") == before
    assert logprobs(model) != logprobs(load(tiny_checkpoint)[0])


def test_a_library_can_be_given(tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path) -> None:
    """With a library compiled earlier, nothing is compiled, and the model gives equal logprobs."""
    before = artifacts("libraries")
    shutil.copy(library_of(tiny_checkpoint), tmp_path / "mine.so")
    model, lines = load(tiny_checkpoint, model_lib=str(tmp_path / "mine.so"))
    assert lines == []
    assert artifacts("libraries") == before
    assert logprobs(model) == logprobs(tiny_model)

    with pytest.raises(ConfigError, match=r"mine\.so is compiled for q0f32, not for q0f16"):
        load(tiny_checkpoint, EngineConfig(quantization="q0f16"), model_lib=str(tmp_path / "mine.so"))

    with pytest.raises(CheckpointError, match=r"model library \S+/no\.so: there is no such file"):
        load(tiny_checkpoint, model_lib=str(tmp_path / "no.so"))


def test_a_library_of_another_model_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The error names the first tensor that does not fit the library."""
    other = write_checkpoint(tmp_path / "other", Shape(hidden_size=32, intermediate_size=64))
    with pytest.raises(
        CheckpointError, match=r"tensor model\.embed_tokens\.weight has the shape \[512, 32\]"
    ):
        load(other, model_lib=str(library_of(tiny_checkpoint)))


def test_a_quantization_that_can_not_be_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A scheme is refused if it is unknown or not that of packed weights, from a flag or a library."""
    with pytest.raises(ConfigError, match="'q5' is not available"):
        load(tiny_checkpoint, EngineConfig(quantization="q5"))

    packed = write_mlc_checkpoint(tmp_path)
    own = open_checkpoint(packed).quantization
    with pytest.raises(ConfigError, match=f"are {own}; they can't be served as q0f32"):
        load(packed, EngineConfig(quantization="q0f32"))
    with pytest.raises(ConfigError, match=f"are {own}; they can't be served as q0f32"):
        load(packed, model_lib=str(library_of(tiny_checkpoint)))


def test_a_tokenizer_may_have_tokens_beyond_the_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A token beyond the model's embeddings, such as one for padding, is reported, and refused in prompts."""
    copy = changed(tiny_checkpoint, tmp_path / "copy")
    path = copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = tokenizer["added_tokens"]
    added.append(added[-1] | {"id": 512, "content": "<pad>"})
    path.write_text(json.dumps(tokenizer))
    model, lines = load(copy)
    ids = model.tokenizer.encode("a<pad>", add_special_tokens=False)
    assert ids[-1] == 512
    assert [line for line in lines if "the model's at 511" in line]
    with pytest.raises(InvalidRequestError, match="token id 512 is not in the model's vocabulary"):
        check_prompt(ids, model, "prompt")


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"hidden_act": "tanh"}, r"/config\.json: hidden_act 'tanh' is not supported"),
        ({"model_type": "mamba"}, r"/config\.json: model_type 'mamba' is not supported"),
        ({"num_hidden_layers": 100_000}, r"there is no tensor model\.layers\.2\."),
    ],
    ids=str,
)
def test_what_can_not_be_compiled_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], fault: str
) -> None:
    """It is refused before a compiler is started, for which there is no Python here."""
    before = artifacts("libraries")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CheckpointError, match=fault):
        load(changed(tiny_checkpoint, tmp_path / "copy", **keys))
    assert artifacts("libraries") == before


def test_a_python_that_can_not_be_started_is_named(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the Python that could not be started for the compiler's process."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CompileError, match=r"failed: .*No such file .*python"):
        load(tiny_checkpoint)


def cut(path: Path) -> None:
    """Remove the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zero(path: Path) -> None:
    """Replace a file by as many zeros."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def cache_copy(tiny_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache that a test may damage; its library is copied again instead of compiled."""
    original, copy = cache_home(), tmp_path / "home"
    shutil.copytree(original, copy)

    def compile_again(_model: Path, _options: object, output: Path) -> None:
        names = {path.name for path in (original / "libraries").glob("[!.]*")}
        (gone,) = names - {path.name for path in (copy / "libraries").iterdir()}
        shutil.copy(original / "libraries" / gone / "model.so", output)

    monkeypatch.setattr(library_step, "run_compiler", compile_again)
    monkeypatch.setenv(HOME_VARIABLE, str(copy))
    return copy


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.so", cut),
        ("model.so", zero),
        ("params_shard_0.bin", cut),
        ("params_shard_0.bin", zero),
        ("params_shard_0.bin", Path.unlink),
        ("tensor-cache.json", cut),
        ("tensor-cache.json", Path.unlink),
    ],
)
def test_a_damaged_cache_is_named_and_made_again(
    tiny_checkpoint: Path,
    tiny_model: LoadedModel,
    cache_copy: Path,
    file: str,
    damage: Callable[[Path], None],
) -> None:
    """A line names the damaged file, and the model made again gives equal logprobs."""
    kind = "libraries" if file == "model.so" else "weights"
    damaged = {path / file for path in artifacts(kind)}
    for path in damaged:
        damage(path)
    model, lines = load(tiny_checkpoint)
    assert lines[0].split()[0] in {str(path) for path in damaged}
    assert lines[0].endswith("; it is made again.")
    assert logprobs(model) == logprobs(tiny_model)
    assert load(tiny_checkpoint)[1] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, which is less than the small model's weights but more than half of them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("is_foreseen", [True, False])
def test_a_full_disk_is_told_as_one(
    tiny_checkpoint: Path,
    tiny_model: LoadedModel,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_foreseen: bool,
) -> None:
    """A full disk is an error before weights are converted and during it, and nothing is left."""
    library = library_of(tiny_checkpoint)
    monkeypatch.setenv(HOME_VARIABLE, str(small_disk))
    if not is_foreseen:
        monkeypatch.setattr(weights_step, "check_room", lambda directory, needed: None)
    words = "are needed, and .* are free" if is_foreseen else "the disk is full; .* are free"
    with pytest.raises(DiskFullError, match=rf"^{small_disk}/weights\S*: .*{words}$"):
        load(tiny_checkpoint, model_lib=str(library))
    assert list((small_disk / "weights").iterdir()) == []


def test_a_library_without_the_states_that_heads_read_is_refused(
    tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """The error is one line, which says how to compile it."""
    library, heads = library_of(tiny_checkpoint), write_heads(tmp_path, random_heads())
    with pytest.raises(ConfigError, match=r"^model library \S+ does not give .*; compile it with --taps 2$"):
        load(
            tiny_checkpoint,
            model_lib=str(library),
            speculative_mode="medusa",
            additional_models=(str(heads),),
        )


def test_heads_take_their_memory_and_bound_the_drafts(
    tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """Their weights are counted among those of the model, and a longer draft than there are heads is told."""
    heads = write_heads(tmp_path, random_heads(2))
    drafting: dict[str, Any] = {"speculative_mode": "medusa", "additional_models": (str(heads),)}
    _, lines = load(tiny_checkpoint, spec_draft_length=5, verbose=True, **drafting)
    _, plain = load(tiny_checkpoint, verbose=True)
    (told,) = (line for line in lines if "spec_draft_length" in line)
    assert told.startswith("spec_draft_length = 5 is more than")
    assert "2 tokens are drafted" in told
    taken = weight_bytes(lines) - weight_bytes(plain)
    assert taken > 2 * (512 + 64 + 1) * 64 * 4


def weight_bytes(lines: list[str]) -> float:
    """What the lines about limits say that weights take."""
    ((number, unit),) = re.findall(r"weights take ([\d.]+) (KiB|MiB)", "\n".join(lines))
    return float(number) * {"KiB": 1 << 10, "MiB": 1 << 20}[unit]


def test_what_nobody_has_foreseen_is_one_line(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen exception becomes an error of one line."""

    def fail(_directory: Path) -> None:
        raise KeyError("what\nis this")

    monkeypatch.setattr(load_steps, "open_checkpoint", fail)
    with pytest.raises(StartupError, match=r"^loading \S+/tiny failed: KeyError: 'what\\nis this'$"):
        load(tiny_checkpoint)


def test_a_missing_device_or_directory_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A device or directory that does not exist is refused by name."""
    with pytest.raises(DeviceError, match="'cpu:3'"):
        load_model(replace(SMALL, model=str(tiny_checkpoint)), "cpu:3", lambda line: None)
    with pytest.raises(CheckpointError, match="there is no such directory"):
        load(tmp_path / "nothing")


def test_limits_are_explained(tiny_checkpoint: Path) -> None:
    """Only if the config is verbose, a line gives each limit that was inferred or set, and the reason."""
    explained = (
        "max_num_sequence",
        "max_total_sequence_length",
        "max_single_sequence_length",
        "prefill_chunk_size",
    )
    model, lines = load(tiny_checkpoint, replace(SMALL, verbose=True))
    _, quiet_lines = load(tiny_checkpoint)
    for name in explained:
        (line,) = (line for line in lines if line.startswith(f"{name} = "))
        value, colon, reason = line.removeprefix(f"{name} = ").partition(": ")
        assert (int(value), colon) == (getattr(model.limits, name), ": ")
        assert reason
        assert line not in quiet_lines

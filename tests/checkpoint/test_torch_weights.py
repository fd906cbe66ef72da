"""Files of torch.save, which are read without PyTorch, and without running anything in them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlc_serve.checkpoint.torch_weights import TorchWeights
from mlc_serve.errors import CheckpointError


def saved(path: Path, content: Any, **options: Any) -> Path:
    """A file with this content."""
    torch.save(content, path, **options)
    return path


def archive(path: Path, program: bytes, values: bytes = b"", order: bytes = b"little") -> Path:
    """A file of PyTorch's form with any program, the values of storage 0, and their order of bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("any/data.pkl", program)
        file.writestr("any/data/0", values)
        file.writestr("any/byteorder", order)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_are_those_that_were_saved(tmp_path: Path, protocol: int) -> None:
    """A module's parameters, tensors that share their storage, that are transposed, empty, of no dimension
    or of any type, are equal to those of PyTorch.
    """
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    content = {
        **torch.nn.Linear(3, 5).state_dict(),
        "whole": whole,
        "part": whole[1:3, 2:],
        "transposed": whole.T,
        "empty": torch.empty(0, 7),
        "number": torch.tensor(3, dtype=torch.int64),
        "half": torch.randn(3, 2).half(),
        "brain": torch.randn(5).bfloat16(),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    ordered = OrderedDict(content)
    ordered._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    weights = TorchWeights(saved(tmp_path / "x.pt", ordered, pickle_protocol=protocol))
    assert set(weights.names) == content.keys()
    for name, tensor in content.items():
        ours = weights.tensor(name)
        assert ours.shape == weights.shape(name) == tuple(tensor.shape)
        assert ours.dtype.name == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(ours.astype(np.float64), tensor.detach().double().numpy())


class _Calls:
    def __reduce__(self) -> Any:
        return os.system, ("touch was-run",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls a function is refused by the function's name."""
    monkeypatch.chdir(tmp_path)
    for number, content in enumerate((_Calls(), {"weight": _Calls()})):
        path = archive(tmp_path / f"{number}.pt", pickle.dumps(content, protocol=2))
        with pytest.raises(CheckpointError, match=r"it calls '\S+ system'.*convert it with PyTorch"):
            TorchWeights(path)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"weight": 3},
        {"nested": {"weight": 3}},
        {3: 4},
        "text",
        2**100,
    ],
    ids=repr,
)
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    """The error is one line, and names the file."""
    path = archive(tmp_path / "x.pt", pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match=rf"^{path} can't be read: [^\n]*$"):
        TorchWeights(path)


@pytest.mark.parametrize(
    "program", [b"", b".", b"\x80\x02}q\x00", b"\x80\x02h\x05.", b"\x80\x02u.", b"\x80\x02(((.", b"\xff" * 9]
)
def test_a_malformed_program_is_refused(tmp_path: Path, program: bytes) -> None:
    """Whatever its instructions are."""
    with pytest.raises(CheckpointError, match=r"x\.pt can't be read"):
        TorchWeights(archive(tmp_path / "x.pt", program))


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    """The form of old PyTorch, a file that is cut off, and one that is no archive are refused."""
    tensors = {"weight": torch.ones(30)}
    old = saved(tmp_path / "old.pt", tensors, _use_new_zipfile_serialization=False)
    whole = saved(tmp_path / "whole.pt", tensors).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("version https://git-lfs.github.com/spec/v1")
    for path in (old, tmp_path / "cut.pt", tmp_path / "text.pt"):
        with pytest.raises(CheckpointError, match="can't be read"):
            TorchWeights(path)


def test_a_tensor_stays_within_its_storage(tmp_path: Path) -> None:
    """One that says it is larger is refused when it is read, before memory is taken for it."""
    stored = saved(tmp_path / "x.pt", {"weight": torch.ones(7, 9)})
    with zipfile.ZipFile(stored) as file:
        folder = file.namelist()[0].split("/")[0]
        program = file.read(f"{folder}/data.pkl")
        values = file.read(f"{folder}/data/0")
    # Both sizes are instructions of one byte with an argument of one byte.
    for old, new in ((b"K\x07K\x09", b"K\xffK\x09"), (b"K\x09K\x01", b"K\x09K\xff"), (b"K?t", b"K\xfft")):
        assert old in program
        forged = archive(tmp_path / "forged.pt", program.replace(old, new), values)
        with pytest.raises(CheckpointError, match="weight can't be read: it"):
            TorchWeights(forged).tensor("weight")
    whole = TorchWeights(archive(tmp_path / "whole.pt", program, values)).tensor("weight")
    np.testing.assert_array_equal(whole, np.ones((7, 9)))
    with pytest.raises(CheckpointError, match="not little-endian"):
        TorchWeights(archive(tmp_path / "big.pt", program, values, b"big"))

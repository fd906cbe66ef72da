"""Finds the directory, or the GGUF file, of a model by the name that a user gives, and downloads it if
necessary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from mlc_serve.checkpoint.mlc_locations import downloaded_by_mlc, find_by_name, published_by_mlc
from mlc_serve.errors import CheckpointError, DiskFullError, DownloadError, StartupError
from mlc_serve.host.disk import says_full
from mlc_serve.host.interruption import interruptible

# The files that are read. Sub-directories and consolidated files have the same model in other forms, except
# that sentence-transformers keeps a file in 1_Pooling: hence directories are told apart by their last letter.
_WANTED = [
    *("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt"),
    *("params_shard_*.bin", "medusa_lm_head.pt"),
]
_UNWANTED = ["*[!g]/*.json", "*/*.safetensors", "*/*.bin", "consolidated*"]

_HUB_PREFIX = re.compile(r"(?:hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)", re.IGNORECASE)
_REPOSITORY = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(?:\.git)?/?(?:(?:@|/tree/)(?P<revision>[^@\s]+?)/?)?"
)
# A GGUF file of a repository, by its path, or by the type of its numbers as llama.cpp's users write it.
_GGUF_FILE = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+)/(?:(?:blob|resolve)/(?P<revision>[^/]+)/)?(?P<file>[^:]+\.gguf)", re.IGNORECASE
)
_GGUF_TYPE = re.compile(r"(?P<id>[\w.-]+/[\w.-]+):(?P<type>\w+)")
_MAIN = "main"  # the only branch that MLC downloads


@dataclass(frozen=True)
class HubRepository:
    """A model on Hugging Face's hub; `revision` is a branch, a tag or a commit; None is the main branch.

    `gguf` is the path of a GGUF file in it, or the type of the numbers in that file, such as Q4_K_M.
    """

    id: str
    revision: str | None = None
    gguf: str | None = None


def locate(model: str) -> Path:
    """The directory of a model that is given as one of

        path/to/directory, path/to/directory/config.json, org/name, HF://org/name,
        https://huggingface.co/org/name, Name-q4f16_1-MLC

    or the GGUF file that is given as one of

        path/to/file.gguf, org/name:Q4_K_M, HF://org/name/file.gguf

    where names on the hub may end in @revision, and the sixth form is a model of mlc-ai. What is on this
    machine takes precedence over the hub, also a directory that MLC has written or downloaded.
    Raises CheckpointError if there is no such directory or repository, or if it can't be downloaded.
    """
    if (here := _existing(model)) is not None:
        return here if here.is_dir() else _directory_of(here)
    if (found := find_by_name(model)) is not None:
        return found
    repository = parse_repository(published_by_mlc(model) or model)
    if repository is None:
        raise CheckpointError(f"{model}: there is no such directory")
    if repository.gguf is not None:
        return gguf_file(download(repository), repository)
    copy = downloaded_by_mlc(repository.id) if repository.revision in (None, _MAIN) else None
    return copy or download(repository)


def parse_repository(model: str) -> HubRepository | None:
    """The repository that the text names; None if it can only be a path.

    Raises CheckpointError if it begins like a name on the hub, but isn't one.
    """
    prefix = _HUB_PREFIX.match(model)
    name = model[prefix.end() :] if prefix else model
    if (found := _REPOSITORY.fullmatch(name)) is not None:
        return HubRepository(found["id"], found["revision"])
    if (found := _GGUF_TYPE.fullmatch(name)) is not None:
        return HubRepository(found["id"], gguf=found["type"])
    if prefix and (found := _GGUF_FILE.fullmatch(name)) is not None:
        return HubRepository(found["id"], found["revision"], found["file"])
    if prefix:
        raise CheckpointError(f"{model}: expected a name on the hub, such as {prefix[0]}organization/name")
    return None


def download(repository: HubRepository) -> Path:
    """Download a repository into the hub's cache, except files that it already has, and return its directory.

    Where the cache is, whether to go online, and the access token are settings of huggingface_hub. Raises
    CheckpointError, as DownloadError if another attempt may succeed, or DiskFullError.
    """
    try:
        return Path(interruptible(partial(_snapshot, repository)))
    except (
        HfHubHTTPError,
        HFValidationError,
        httpx2.HTTPError,
        OSError,
        RuntimeError,
    ) as error:  # Xet, which transfers files, raises RuntimeError
        kind = _kind_of(error)
        raise kind(f"{repository.id}: {_download_fault(repository, error)}") from error


def _snapshot(repository: HubRepository) -> str:
    """Download a repository into the hub's cache, and return the directory of its revision."""
    wanted, unwanted = _WANTED, _UNWANTED
    if repository.gguf is not None:
        wanted, unwanted = _gguf_patterns(repository.gguf), []
    return snapshot_download(
        repository.id, revision=repository.revision, allow_patterns=wanted, ignore_patterns=unwanted
    )


def gguf_file(directory: Path, repository: HubRepository) -> Path:
    """The GGUF file that is meant in a copy of a repository. Raises CheckpointError."""
    wanted = str(repository.gguf)
    if (directory / wanted).is_file():
        return directory / wanted
    patterns = _gguf_patterns(wanted)
    found = sorted(path for path in directory.rglob("*.gguf") if any(map(path.match, patterns)))
    if not found:
        raise CheckpointError(f"{repository.id}: there is no GGUF file {wanted}")
    return found[0]  # of several parts, the first


def _gguf_patterns(wanted: str) -> list[str]:
    """Patterns of the files that are meant by a path, or by the type of their numbers."""
    if wanted.lower().endswith(".gguf"):
        return [wanted, re.sub(r"-\d{5}-of-", "-?????-of-", wanted)]
    return [
        f"*{mark}{spelling}{rest}"
        for mark in ("-", ".", "_")
        for spelling in dict.fromkeys((wanted, wanted.upper(), wanted.lower()))
        for rest in (".gguf", "-?????-of-?????.gguf")
    ]


def _kind_of(error: Exception) -> type[StartupError]:
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)):
        return CheckpointError
    return DiskFullError if says_full(error) else DownloadError


def _download_fault(repository: HubRepository, error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return (
            "the model's owner has to grant access first; set HF_TOKEN to the token of an account with access"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"the model has no revision {repository.revision} on the Hugging Face hub"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such directory here, and no such public model on the Hugging Face hub"
    if isinstance(error, LocalEntryNotFoundError):
        return "there is no such directory here, and the Hugging Face hub can't be reached"
    return f"the download failed: {' '.join(str(error).split())}"


def _existing(model: str) -> Path | None:
    try:
        path = Path(model).expanduser()
        return path if model and path.exists() else None
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # a name that no file can have, or the home of an unknown user
        return None


def _directory_of(file: Path) -> Path:
    if file.suffix.lower() == ".gguf":
        return file
    if file.suffix != ".json":
        raise CheckpointError(
            f"{file}: expected the directory of a model, the config file in it, or a GGUF file"
        )
    return file.parent

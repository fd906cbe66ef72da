"""The models in the Hugging Face hub's cache, which this program shares with others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from mlc_serve.checkpoint import huggingface, mlc

_CONFIGS = {huggingface.CONFIG_NAME, mlc.CONFIG_NAME}


@dataclass(frozen=True)
class Download:
    """A repository. `size` is in bytes, `last_used` in seconds of the Unix epoch."""

    repository: str
    size: int
    last_used: float
    revisions: tuple[str, ...]


def downloads() -> Iterator[Download]:
    """Every repository of the cache that holds a model's configuration, or a GGUF file."""
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda entry: entry.repo_id):
        names = {file.file_name for revision in repository.revisions for file in revision.files}
        has_model = names & _CONFIGS or any(name.endswith(".gguf") for name in names)
        if repository.repo_type == "model" and has_model:
            yield Download(
                repository.repo_id,
                repository.size_on_disk,
                repository.last_accessed,
                tuple(sorted(revision.commit_hash for revision in repository.revisions)),
            )


def remove_download(download: Download) -> None:
    """Remove a repository from the cache, with all files that only its revisions use."""
    cache = scan_cache_dir()
    # Copies of a repository have the same revisions, so that a revision's hash may mean any of the copies.
    own = frozenset(entry for entry in cache.repos if entry.repo_id == download.repository)
    replace(cache, repos=own).delete_revisions(*download.revisions).execute()

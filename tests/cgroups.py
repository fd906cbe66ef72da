"""Control groups that a test makes up."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path, **files: str) -> None:
    """Write files into a folder, which may be new. In their names, the first `__` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".", 1)).write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    """A stand-in for /proc/self/cgroup."""
    path = tmp_path / "self"
    path.write_text(text)
    return path

"""Finding the directory of a model by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlc_serve.checkpoint.locate import HubRepository, locate, parse_repository
from mlc_serve.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "params_shard_0.bin": b"weights",
    "tokenizer.model": b"pieces",
    "merges.txt": b"a b",
    "README.md": b"no",
    "model-Q4_K_M.gguf": b"weights",
    "split/model-q8_0-00001-of-00002.gguf": b"weights",
    "split/model-q8_0-00002-of-00002.gguf": b"weights",
    "onnx/config.json": b"no",
    "1_Pooling/config.json": b"{}",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", HubRepository("org/name")),
        ("org/Name-1.5B_v2", HubRepository("org/Name-1.5B_v2")),
        ("org/name@main", HubRepository("org/name", "main")),
        ("org/name@refs/pr/3", HubRepository("org/name", "refs/pr/3")),
        ("HF://org/name", HubRepository("org/name")),
        ("hf://org/name@v1", HubRepository("org/name", "v1")),
        ("https://huggingface.co/org/name", HubRepository("org/name")),
        ("https://huggingface.co/org/name/", HubRepository("org/name")),
        ("https://huggingface.co/org/name.git", HubRepository("org/name")),
        ("https://huggingface.co/org/name/tree/v1.0", HubRepository("org/name", "v1.0")),
        ("org/name-GGUF:Q4_K_M", HubRepository("org/name-GGUF", gguf="Q4_K_M")),
        ("HF://org/name:q8_0", HubRepository("org/name", gguf="q8_0")),
        ("HF://org/name/file.gguf", HubRepository("org/name", gguf="file.gguf")),
        (
            "https://huggingface.co/org/name/blob/main/Q4/file.gguf",
            HubRepository("org/name", "main", "Q4/file.gguf"),
        ),
        ("org/name/file.gguf", None),
        ("./name", None),
        ("../org/name", None),
        ("/org/name", None),
        ("~/name", None),
        ("a/b/c", None),
        ("name", None),
        ("org/", None),
        ("", None),
        (".org/name", None),
    ],
)
def test_names_on_the_hub_are_told_from_paths(name: str, expected: HubRepository | None) -> None:
    """All common ways to write a repository are recognized, and names that can only be paths are not."""
    assert parse_repository(name) == expected


@pytest.mark.parametrize("name", ["HF://name", "https://huggingface.co/", "hf://a/b/c"])
def test_a_half_written_name_on_the_hub_is_refused(name: str) -> None:
    """The error shows the right form."""
    with pytest.raises(CheckpointError, match="organization/name"):
        parse_repository(name)


def test_what_exists_here_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory or its config file is found here, even if its name could be one on the hub."""
    directory = tmp_path / "org" / "name"
    directory.mkdir(parents=True)
    config = directory / "config.json"
    config.touch()
    monkeypatch.chdir(tmp_path)

    assert locate(str(directory)) == directory
    assert locate(str(config)) == directory
    assert locate("org/name") == Path("org/name")


@pytest.mark.parametrize(
    "name", ["./nowhere", "/nowhere/at/all", "a/b/c", "nowhere", "", "~nobody-here/x", "a" * 9999]
)
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name: str) -> None:
    """For a path that does not exist, the error says at once that there is no such directory."""
    with pytest.raises(CheckpointError, match=f"^{name}: there is no such directory$"):
        locate(name)


def mlc_directory(path: Path) -> Path:
    """An MLC directory, of which only the config file matters here."""
    path.mkdir(parents=True)
    (path / "mlc-chat-config.json").touch()
    return path


@pytest.fixture
def mlc_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLC's home; the working directory is an empty one beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MLC_LLM_HOME", str(tmp_path / "mlc"))
    monkeypatch.delenv("MLC_LLM_READONLY_WEIGHT_CACHE", raising=False)
    return tmp_path / "mlc"


@pytest.mark.parametrize(
    "name",
    [
        "HF://mlc-ai/Tiny-q4f16_1-MLC",
        "mlc-ai/Tiny-q4f16_1-MLC@main",
        "https://huggingface.co/mlc-ai/Tiny-q4f16_1-MLC",
        "Tiny-q4f16_1-MLC",
        "Tiny-q4f16_1",
    ],
)
def test_what_mlc_has_downloaded_is_used(name: str, mlc_home: Path) -> None:
    """A model of mlc-ai is found in MLC's cache by each of its names, without asking the hub."""
    copy = mlc_directory(mlc_home / "model_weights" / "hf" / "mlc-ai" / "Tiny-q4f16_1-MLC")
    assert locate(name) == copy


def test_read_only_caches_of_mlc_come_first(
    mlc_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are listed in an environment variable, and hold models of any organization."""
    mlc_directory(mlc_home / "model_weights" / "hf" / "org" / "name")
    shared = mlc_directory(tmp_path / "shared" / "hf" / "org" / "name")
    monkeypatch.setenv(
        "MLC_LLM_READONLY_WEIGHT_CACHE", os.pathsep.join(["/nowhere", str(tmp_path / "shared")])
    )
    assert locate("HF://org/name") == shared


@pytest.mark.parametrize(
    "place",
    [
        "dist/Tiny-q3f16_1",
        "dist/Tiny-q3f16_1-MLC",
        "dist/Tiny-q3f16_1/params",
        "dist/prebuilt/Tiny-q3f16_1-MLC",
    ],
)
@pytest.mark.usefixtures("mlc_home")
def test_what_mlc_has_written_is_found_by_its_name(place: str) -> None:
    """A bare name is looked for below dist, also if it lacks only the ending -MLC."""
    written = mlc_directory(Path(place).absolute())
    assert locate("Tiny-q3f16_1").absolute() == written


def test_a_bare_name_without_a_quantization_is_looked_for_here_only(mlc_home: Path) -> None:
    """It may be a directory that was mistyped, which the hub need not know."""
    with pytest.raises(CheckpointError, match=r"^Tiny: there is no such directory$"):
        locate("Tiny")
    copy = mlc_directory(mlc_home / "model_weights" / "hf" / "mlc-ai" / "Tiny")
    assert locate("Tiny") == copy


def test_a_gguf_file_is_found(tmp_path: Path) -> None:
    """By its path."""
    file = tmp_path / "model.gguf"
    file.touch()
    assert locate(str(file)) == file


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A file of weights is refused, as a model is given as its directory."""
    file = tmp_path / "model.safetensors"
    file.touch()

    with pytest.raises(CheckpointError, match="expected the directory of a model"):
        locate(str(file))


class _Hub(BaseHTTPRequestHandler):
    """The few replies of the hub that a download needs: a repository's list of files, and the files."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        kind, _, rest = self.path.lstrip("/").partition("/")
        if self.path.startswith("/api/models/org/model/revision/main"):
            listing = {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith("/api/models/org/model/tree/"):
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": n.encode().hex()} for n, c in FILES.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith("/api/models/org/model/"):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif self.path.startswith("/api/models/org/gated/"):
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif kind == "org" and rest.startswith("model/resolve/"):
            name = rest.partition(f"{COMMIT}/")[2]
            self._send(200, FILES[name], {"ETag": f'"{name.encode().hex()}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a fake hub on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def located(names: list[str], home: Path, **environment: str) -> list[str]:
    """What locate returns or reports for each name, in a process with the given hub and cache."""
    program = (
        "import json, sys\n"
        "from mlc_serve.checkpoint.locate import locate\n"
        "from mlc_serve.errors import CheckpointError\n"
        "def attempt(name):\n"
        "    try:\n"
        "        return str(locate(name))\n"
        "    except CheckpointError as error:\n"
        "        return str(error)\n"
        "print(json.dumps([attempt(name) for name in sys.argv[1:]]))\n"
    )
    unproxied = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run(
        [sys.executable, "-c", program, *names],
        env=unproxied | {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[str] = json.loads(ended.stdout)
    return answers


def test_downloads_what_is_read_and_says_why_it_can_not(hub: str, tmp_path: Path) -> None:
    """Only the files that serving needs are downloaded, and each way of failing has its own message."""
    found, revision, gated, unknown = located(
        ["org/model", "org/model@v9", "org/gated", "HF://org/other"], tmp_path, HF_ENDPOINT=hub
    )
    loaded = {str(path.relative_to(found)) for path in Path(found).rglob("*") if path.is_file()}

    unwanted = {"README.md", "onnx/config.json", *(name for name in FILES if name.endswith(".gguf"))}
    assert loaded == FILES.keys() - unwanted
    assert revision == "org/model: the model has no revision v9 on the Hugging Face hub"
    assert "grant access" in gated
    assert (
        unknown
        == "org/other: there is no such directory here, and no such public model on the Hugging Face hub"
    )

    assert located(["org/model"], tmp_path, HF_HUB_OFFLINE="1") == [found]


def test_one_gguf_file_of_a_repository_is_downloaded(hub: str, tmp_path: Path) -> None:
    """By its type, in the spelling of either, or by its path. Of a file in parts, all are downloaded."""
    names = ["org/model:Q4_K_M", "org/model:q4_k_m", "HF://org/model/model-Q4_K_M.gguf", "org/model:Q2_K"]
    *found, missing = located(names, tmp_path / "whole", HF_ENDPOINT=hub)
    assert {Path(path).name for path in found} == {"model-Q4_K_M.gguf"}
    assert {path.name for path in Path(found[0]).parent.iterdir()} == {"model-Q4_K_M.gguf"}
    assert missing == "org/model: there is no GGUF file Q2_K"
    (first,) = located(["org/model:Q8_0"], tmp_path / "split", HF_ENDPOINT=hub)
    assert Path(first).name == "model-q8_0-00001-of-00002.gguf"
    assert len(list(Path(first).parent.iterdir())) == 2


def test_without_the_hub_the_answer_is_one_line(tmp_path: Path) -> None:
    """Offline, the error for a model that is not in the cache is one line. A bare name with a quantization
    means a model of mlc-ai.
    """
    names = ["org/model", "Tiny-1B-q4f16_1-MLC", "Tiny-1B-q0bf16"]
    answers = located(names, tmp_path, HF_HUB_OFFLINE="1", MLC_LLM_HOME=str(tmp_path))

    fault = "there is no such directory here, and the Hugging Face hub can't be reached"
    meant = ["org/model", "mlc-ai/Tiny-1B-q4f16_1-MLC", "mlc-ai/Tiny-1B-q0bf16-MLC"]
    assert answers == [f"{name}: {fault}" for name in meant]

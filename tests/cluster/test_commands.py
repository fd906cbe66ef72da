"""Ray's and our own commands, as users type them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import openai
import pytest
import yaml
from ray import get_runtime_context, serve
from ray.serve.schema import ServeDeploySchema

from mlc_serve.cli import main
from tests.cluster.asking import LONG, begun
from tests.cluster.conftest import NAME, free_port
from tests.patience import PATIENCE

SERVE = str(Path(sys.executable).with_name("serve"))


def test_serve_build_writes_a_configuration(tmp_path: Path) -> None:
    """`serve build` writes a configuration with both deployments."""
    file = tmp_path / "serve.yaml"
    subprocess.run([SERVE, "build", "mlc_serve.ray:app", "-o", str(file)], check=True, timeout=PATIENCE)
    (application,) = yaml.safe_load(file.read_text())["applications"]
    assert {deployment["name"] for deployment in application["deployments"]} == {"Front", "Engine"}


def test_serve_accepts_our_configuration(tmp_path: Path) -> None:
    """What `mlc_serve deploy --config` writes follows the schema of `serve deploy`."""
    file = tmp_path / "serve.yaml"
    assert (
        main(["deploy", "org/name", "--replicas", "auto", "--root-path", "/llm", "--config", str(file)]) == 0
    )
    schema = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    assert schema.applications[0].route_prefix == "/llm"


@pytest.fixture
def killed_cluster() -> Iterator[Path]:
    """A directory of Ray's with what a cluster that was killed leaves: its address, where nobody answers."""
    with TemporaryDirectory() as directory:  # a path that is short enough for the names of Unix sockets
        leftover = Path(directory, "ray", "ray_current_cluster")
        leftover.parent.mkdir()
        leftover.write_text(f"127.0.0.1:{free_port()}")
        yield Path(directory)


def test_deploy_serves_until_it_is_interrupted(cache_directory: Path, killed_cluster: Path) -> None:
    """Without a cluster, `mlc_serve deploy` starts one and says where it serves, whatever an earlier one has
    left behind. After SIGINT, the open stream is finished, and the command ends with code 0.
    """
    command = [
        sys.executable,
        "-m",
        "mlc_serve",
        "deploy",
        "--cpus-per-replica",
        "1",
        "--port",
        str(free_port()),
    ]
    env = os.environ | {"RAY_TMPDIR": str(killed_cluster)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            url = next(match[1] for line in lines if (match := re.match(r"Serving on (\S+)", line)))
            with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
                stream = begun(client, LONG)
                process.send_signal(signal.SIGINT)
                assert stream.text()
            assert process.wait(PATIENCE) == 0
        finally:
            if process.poll() is None:
                process.terminate()


def test_deploy_leaves_the_application_on_a_running_cluster(url: str) -> None:
    """The command ends when the replicas are ready, and says that Serve's address is an earlier one. An
    application that is removed finishes its open stream.
    """
    cluster = ["--address", get_runtime_context().gcs_address, "--name", NAME, "--port", str(free_port())]
    command = [sys.executable, "-m", "mlc_serve", "deploy", *cluster, "--cpus-per-replica", "0.5"]
    ended = subprocess.run(command, check=True, timeout=PATIENCE, stdout=subprocess.PIPE, text=True)
    assert "Serve was running before" in ended.stdout
    assert "Serving on" not in ended.stdout
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        stream = begun(client, LONG)
        serve.delete(NAME)
        assert stream.text()
    assert NAME not in serve.status().applications


def test_a_cluster_that_is_named_must_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise the command ends with one line that says where the address comes from."""
    address = f"127.0.0.1:{free_port()}"
    assert main(["deploy", "--address", address]) == 1
    assert f"--address: no Ray cluster answers at {address}" in capfd.readouterr().err

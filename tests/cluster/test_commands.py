"""Ray's and our own commands, as users type them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import openai
import yaml
from ray.serve.schema import ServeDeploySchema

from mlc_serve.cli import main
from tests.cluster.asking import LONG, begun
from tests.cluster.conftest import free_port
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


def test_deploy_serves_until_it_is_interrupted(cache_directory: Path) -> None:
    """Without a cluster, `mlc_serve deploy` starts one and says where it serves. After SIGINT, the open
    stream is finished, and the command ends with code 0.
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
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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

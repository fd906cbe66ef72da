"""The manifests in deploy/ fit each other, the server and docs/deploy.md; `make lint` compares those of
Kubernetes' own kinds with its schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.cli import serve
from mlc_serve.cli.parser import CommandParser, read_options
from mlc_serve.config import ServerConfig
from mlc_serve.config.api_keys import VARIABLE
from mlc_serve.server import spans
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import CLOSE_SECONDS, FLUSH_SECONDS
from mlc_serve.server.middleware.auth import OPEN_PATHS
from mlc_serve.server.vllm_metrics import VLLMCollector
from mlc_serve.testing import fake_model

ROOT = Path(__file__).parent.parent.parent
Manifest = Mapping[str, Any]


def manifests(name: str) -> list[Manifest]:
    """The objects of one file in deploy/."""
    return list(yaml.safe_load_all((ROOT / "deploy" / name).read_text(encoding="utf-8")))


def of_kind(kind: str) -> list[Manifest]:
    """The objects of one kind in deploy/kubernetes.yaml."""
    return [found for found in manifests("kubernetes.yaml") if found["kind"] == kind]


@pytest.fixture
def replicas() -> Manifest:
    """The set of replicas."""
    (found,) = of_kind("StatefulSet")
    return found


@pytest.fixture
def pod(replicas: Manifest) -> Manifest:
    """What each replica's pod is made of."""
    spec: Manifest = replicas["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    """The only container of a pod."""
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture
def settings(container: Manifest) -> ServerConfig:
    """The server's settings, which its own command line makes of the container's arguments."""
    name, *flags = container["args"]
    assert name == "serve"
    arguments = serve.add_parser(CommandParser(prog="mlc_serve").add_subparsers()).parse_args(flags)
    return read_options(ServerConfig, arguments)


def selectors() -> Iterator[Mapping[str, str]]:
    """The labels by which other objects find the pods."""
    for service in of_kind("Service"):
        yield service["spec"]["selector"]
    for budget in of_kind("PodDisruptionBudget"):
        yield budget["spec"]["selector"]["matchLabels"]
    (monitor,) = manifests("pod_monitor.yaml")
    yield monitor["spec"]["selector"]["matchLabels"]


def test_all_objects_find_the_pods(replicas: Manifest) -> None:
    """Each selector names labels that the pods have."""
    labels = replicas["spec"]["template"]["metadata"]["labels"].items()
    found = [*selectors(), replicas["spec"]["selector"]["matchLabels"]]
    assert len(found) == 5
    assert all(selector.items() <= labels for selector in found)


def test_all_ports_lead_to_the_server(container: Manifest, settings: ServerConfig) -> None:
    """Services, probes and Prometheus name the container's port, which is the one that the server listens on,
    on an address that can be reached from other pods.
    """
    (port,) = container["ports"]
    assert port["containerPort"] == settings.port
    assert settings.host == "0.0.0.0"
    (monitor,) = manifests("pod_monitor.yaml")
    (scraped,) = monitor["spec"]["podMetricsEndpoints"]
    named = [scraped["port"]]
    named += [one["targetPort"] for service in of_kind("Service") for one in service["spec"]["ports"]]
    named += [container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")]
    assert set(named) == {port["name"]}


@pytest.mark.parametrize(
    ("kind", "path"), [("startup", "/health"), ("liveness", "/health"), ("readiness", "/ready")]
)
def test_probes_ask_for_open_paths(kind: str, path: str, container: Manifest) -> None:
    """Only readiness depends on whether the server drains, and no probe needs a key."""
    assert container[f"{kind}Probe"]["httpGet"]["path"] == path
    assert path in OPEN_PATHS


def test_the_first_start_has_the_time_that_the_documentation_says(container: Manifest) -> None:
    """The startup probe lets a model compile for half an hour."""
    probe = container["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 1800
    assert f"{probe['failureThreshold']} times, {probe['periodSeconds']} seconds apart" in documentation()


def test_a_pod_is_not_killed_while_it_drains(
    pod: Manifest, container: Manifest, settings: ServerConfig
) -> None:
    """The grace period covers the wait before SIGTERM, the drain, and all that the server does after it. The
    documentation has the same sum.
    """
    (command, wait) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    grace, drain = pod["terminationGracePeriodSeconds"], int(settings.shutdown_timeout)
    rest = grace - int(wait) - drain
    assert rest >= FLUSH_SECONDS + CLOSE_SECONDS + spans.FLUSH_SECONDS
    assert f"{wait} + {drain} + {rest}" in documentation()


def test_the_set_has_its_service_and_its_volumes(
    replicas: Manifest, pod: Manifest, container: Manifest
) -> None:
    """The service that names the replicas is there, and so is each volume that is mounted."""
    assert replicas["spec"]["serviceName"] in {service["metadata"]["name"] for service in of_kind("Service")}
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in replicas["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_what_the_image_writes_is_on_a_volume(container: Manifest) -> None:
    """The root file system is read-only, and the image's cache is one of the volumes."""
    (home,) = re.findall(r"XDG_CACHE_HOME=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert home in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_pod_has_no_rights_that_it_does_not_need(pod: Manifest, container: Manifest) -> None:
    """This is what Kubernetes' restricted security standard asks for, and no token for its API."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False


def test_the_limits_are_whole_cpus_and_what_is_requested(container: Manifest) -> None:
    """So the pod is of the class Guaranteed, and its threads can have cores of their own."""
    resources = container["resources"]
    assert resources["limits"] == resources["requests"]
    assert resources["limits"]["cpu"].isdecimal()


def test_keys_come_from_a_secret(container: Manifest) -> None:
    """No key stands in the manifest, and the variable is the one that the server reads."""
    (variable,) = container["env"]
    assert variable["name"] == VARIABLE
    secret = variable["valueFrom"]["secretKeyRef"]
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in documentation()


async def test_the_scaler_scales_this_set_by_metrics_that_the_server_reports(
    replicas: Manifest, settings: ServerConfig
) -> None:
    """The queries name gauges that are there with the container's flags, and pods of the set."""
    context = ServerContext()
    context.add(AsyncMLCEngine.from_loaded(fake_model()))
    gauges = {family.name for family in VLLMCollector(context).collect() if family.type == "gauge"}
    context.close()
    assert settings.vllm_metrics
    (scaler,) = manifests("keda.yaml")
    target, name = scaler["spec"]["scaleTargetRef"], replicas["metadata"]["name"]
    assert (target["kind"], target["name"]) == (replicas["kind"], name)
    queries = [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    assert {found for query in queries for found in re.findall(r"vllm:\w+", query)} <= gauges
    assert all(f'pod=~"{name}-.*"' in query for query in queries)


def documentation() -> str:
    """The page about deployment, on one line."""
    return " ".join((ROOT / "docs/deploy.md").read_text(encoding="utf-8").split())

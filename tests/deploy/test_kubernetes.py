"""The manifests for Kubernetes: valid, and true of the image and the service."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from homelab_ai.settings import load_settings
from support.server import REPOSITORY
from support.tools import passes

FOLDER = REPOSITORY / "deploy" / "kubernetes"
RESOURCES: list[str] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
KINDS = {
    (each["kind"], each["metadata"]["name"]): each
    for name in (*RESOURCES, "podmonitor.yaml")
    for each in yaml.safe_load_all((FOLDER / name).read_text())
}
DEPLOYMENT: dict[str, Any] = KINDS["Deployment", "homelab-ai"]["spec"]
POD: dict[str, Any] = DEPLOYMENT["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]
LABELS = {"app.kubernetes.io/name": "homelab-ai"}


def test_every_manifest_is_applied_or_said_not_to_be() -> None:
    there = {path.name for path in FOLDER.iterdir()}
    assert there == {*RESOURCES, "kustomization.yaml", "podmonitor.yaml"}
    assert "podmonitor.yaml" in (FOLDER / "kustomization.yaml").read_text()


@pytest.mark.parametrize("name", RESOURCES)
def test_the_schema_of_kubernetes_accepts_it(name: str) -> None:
    passes("kubernetes-validate", "--strict", FOLDER / name)


def test_the_probes_are_open_to_everyone(client: TestClient) -> None:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert asked["port"] == "http"
        assert client.get(asked["path"], headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_the_pod_meets_the_restricted_standard() -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] > 0
    assert POD["securityContext"]["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    inside = CONTAINER["securityContext"]
    assert inside == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_all_that_is_written_to_is_mounted() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert mounts.keys() == {"/etc/homelab-ai", "/app/data", "/app/models", "/tmp"}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {*mounts.values()} == volumes.keys()
    for name in ("data", "models"):
        assert ("PersistentVolumeClaim", volumes[name]["persistentVolumeClaim"]["claimName"]) in KINDS
    assert ("ConfigMap", volumes["configuration"]["configMap"]["name"]) in KINDS


def test_the_configuration_can_be_used(tmp_path: Path) -> None:
    ((name, text),) = KINDS["ConfigMap", "homelab-ai"]["data"].items()
    assert CONTAINER["env"] == [{"name": "HOMELAB_AI_CONFIG", "value": f"/etc/homelab-ai/{name}"}]
    (tmp_path / name).write_text(text)
    settings = load_settings(tmp_path / name, {})
    assert POD["terminationGracePeriodSeconds"] > settings.resources.request_timeout_seconds


def test_the_ports_and_labels_lead_to_the_pod() -> None:
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": 8000}]
    assert KINDS["Service", "homelab-ai"]["spec"]["ports"][0]["targetPort"] == "http"
    assert KINDS["Service", "homelab-ai"]["spec"]["selector"] == LABELS
    assert DEPLOYMENT["selector"]["matchLabels"] == DEPLOYMENT["template"]["metadata"]["labels"] == LABELS
    assert (DEPLOYMENT["replicas"], DEPLOYMENT["strategy"]) == (1, {"type": "Recreate"})


def test_prometheus_finds_it_under_the_job_that_the_alerts_know(client: TestClient) -> None:
    spec = KINDS["PodMonitor", "homelab-ai"]["spec"]
    assert spec["selector"]["matchLabels"] == LABELS
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] == "http"
    assert client.get(endpoint["path"]).status_code == 200
    job = LABELS[spec["jobLabel"]]
    assert f'job="{job}"' in (REPOSITORY / "deploy" / "prometheus" / "alerts.yaml").read_text()

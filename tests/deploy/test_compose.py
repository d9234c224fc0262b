"""The files for Docker Compose: valid, and true of the image and the service."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from homelab_ai.settings import load_settings
from support.server import REPOSITORY
from support.tools import passes

DEPLOY = REPOSITORY / "deploy"
FILES = {path.name: path for path in (*DEPLOY.glob("compose*.yaml"), *DEPLOY.glob("proxy/compose*.yaml"))}
OF_THE_IMAGE = {"PUID", "PGID", "UMASK", "TZ"}
ELSEWHERE = {"CUDA_VISIBLE_DEVICES"}


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILES[name].read_text())["services"]["ai-api"]
    return found


def environment(name: str) -> dict[str, str]:
    given = service(name).get("environment", {})
    return given if isinstance(given, dict) else dict(entry.split("=", 1) for entry in given)


def test_they_are_all_here() -> None:
    assert {"compose.yaml", "compose.gpu.yaml", "compose.hardened.yaml", "compose.traefik.yaml"} == FILES.keys()


def test_the_schema_of_compose_accepts_them() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_what_is_mounted_is_what_the_image_has(name: str) -> None:
    mounts = dict(entry.removesuffix(":ro").split(":") for entry in service(name)["volumes"])
    assert mounts == {"./config.yaml": "/app/config.yaml", "./models": "/app/models", "./data": "/app/data"}
    assert service(name)["image"] == "homelab-ai-api:latest"
    assert service(name).get("ports", ["8000:8000"]) == ["8000:8000"]


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_one_that_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(name)
    ours = {variable: value for variable, value in given.items() if variable.startswith("HOMELAB_AI__")}
    assert given.keys() - ours.keys() <= OF_THE_IMAGE | ELSEWHERE
    (tmp_path / "secret").write_text("[]")
    load_settings(None, {name: str(tmp_path / "secret") if name.endswith("_FILE") else ours[name] for name in ours})


@pytest.mark.parametrize("name", FILES)
def test_requests_that_are_being_answered_have_time_to_end(name: str) -> None:
    seconds = int(service(name)["stop_grace_period"].removesuffix("s"))
    assert seconds > load_settings(None, {}).resources.request_timeout_seconds


def test_the_gpu_is_asked_for_as_the_design_says() -> None:
    assert "CUDA_VISIBLE_DEVICES=0" in service("compose.gpu.yaml")["environment"]
    devices = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert service("compose.gpu.yaml")["deploy"] == {"resources": {"reservations": {"devices": devices}}}


def test_the_hardened_one_can_do_little() -> None:
    given = service("compose.hardened.yaml")
    assert given["user"] == "1000:1000"
    assert given["read_only"] is True
    assert given["cap_drop"] == ["ALL"]
    assert "cap_add" not in given
    seccomp, nothing_new = sorted(given["security_opt"], reverse=True)
    assert nothing_new == "no-new-privileges:true"
    assert (DEPLOY / seccomp.removeprefix("seccomp=")).is_file()
    assert given["networks"] == ["ai"]


def test_traefik_publishes_the_path_that_the_service_believes_to_have() -> None:
    labels = service("compose.traefik.yaml")["labels"]
    path = environment("compose.traefik.yaml")["HOMELAB_AI__SERVER__ROOT_PATH"]
    assert labels["traefik.http.routers.homelab-ai.rule"] == f"Host(`home.home`) && PathPrefix(`{path}/`)"
    assert labels["traefik.http.services.homelab-ai.loadBalancer.server.port"] == "8000"
    whole = yaml.safe_load(FILES["compose.traefik.yaml"].read_text())
    (subnet,) = whole["networks"]["proxy"]["ipam"]["config"]
    assert environment("compose.traefik.yaml")["HOMELAB_AI__SERVER__TRUSTED_PROXIES"] == f"[{subnet['subnet']}]"

"""What docs/security.md shows, done word for word against a running service."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from homelab_ai.settings import Settings
from support.server import REPOSITORY, Server

TEXT = (REPOSITORY / "docs" / "security.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def run(script: str, folder: Path) -> str:
    """Run it as a shell in that folder would, with the command of this environment."""
    script = script.replace(".venv/bin/homelab-ai", f'"{sys.executable}" -m homelab_ai')
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_keys_are_made_used_revoked_and_made_anew_as_shown(tmp_path: Path) -> None:
    rescue = next(block for block in blocks("bash") if "--data-dir" in block)
    with Server(tmp_path, environment={}) as server:
        (first,) = set(re.findall(r'Bearer (hlab_[^\s"]+)', server.stderr))
        script = "".join(block for block in blocks("bash") if block != rescue)
        script = script.replace("hlab_...", first).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        shown = run(f"export HOMELAB_AI_URL={server.url}\n{script}", tmp_path)
        assert '"embeddings"' in shown
        assert "photo-album" in shown
        with server.client(headers={"Authorization": f"Bearer {first}"}) as client:
            assert [key["name"] for key in client.get("/api/keys").json()["keys"]] == ["admin"]
    made = run(rescue, tmp_path).strip()
    with Server(tmp_path, environment={}) as server, server.client() as client:
        assert client.get("/api/keys", headers={"Authorization": f"Bearer {made}"}).status_code == 200


@pytest.mark.parametrize("shown", blocks("yaml"), ids=range(len(blocks("yaml"))))
def test_every_configuration_shown_is_valid(shown: str) -> None:
    Settings.model_validate(yaml.safe_load(shown))


def test_every_link_leads_somewhere() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links
    assert set(links) <= headings

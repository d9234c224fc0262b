"""The service process imports no machine-learning library, and none that reads pages: that is what hosts are for."""

import json
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
HEAVY = ("torch", "transformers", "sentence_transformers", "openvino", "PIL", "huggingface_hub", "tokenizers", "ray")
READING = ("playwright", "lxml", "pypdf", "charset_normalizer")
EXPORTING = ("opentelemetry.sdk", "opentelemetry.exporter")
"""FastAPI itself imports OpenTelemetry's interface; nothing is made or sent without these."""

PROGRAM = """
import json, sys
import homelab_ai.app, homelab_ai.cli
from homelab_ai.settings import Settings
app = homelab_ai.app.create_app(Settings())
assert app.openapi()["paths"]
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} | sys.modules.keys())))
"""


def test_the_service_and_its_document_need_no_library_of_the_hosts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "homelab_ai" in loaded
    assert [name for name in (*HEAVY, *READING, *EXPORTING) if name in loaded] == []
    assert [*tmp_path.iterdir()] == []  # making the application opens and writes nothing

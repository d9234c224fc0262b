"""What runs on a GPU only: skipped, saying so, where there is none."""

from pathlib import Path

import pytest

from homelab_ai.models import memory

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if memory.gpu_is_likely():
        return
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.skip(reason="there is no GPU here"))

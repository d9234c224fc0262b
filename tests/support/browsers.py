"""Whether there is a browser to test with."""

import shutil

import pytest

NEEDS_CHROMIUM = pytest.mark.skipif(
    not any(map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))),
    reason="Chromium is not installed (apt-get install chromium-headless-shell)",
)

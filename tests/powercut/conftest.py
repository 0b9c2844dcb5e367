"""What the tests of power cuts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.powercut.recording import recorder


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled recorder."""
    return recorder(tmp_path_factory.mktemp("recorder"))

"""What the tests of backups are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.database.workspace import Layout
from migrator.model import Settings


@pytest.fixture
def layout(database: Path) -> Layout:
    """Return the paths of the small database."""
    return Layout.of(Settings(database))

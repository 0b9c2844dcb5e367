"""Whether a test of the project's own finds a bug that is planted into a copy of the packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.faults.planted import Bug
from tests.support.forking import Forked, zygote
from tests.support.processes import clean_environment, without_coverage

ROOT = Path(__file__).parents[2]
_IMPORTED = (
    *(
        "pytest",
        "_pytest.assertion.rewrite",
        "_pytest.junitxml",
        "_pytest.tmpdir",
        "_pytest.python",
    ),
    *("_pytest.terminal", "_pytest.monkeypatch", "_pytest.recwarn", "_pytest.skipping", "pdb"),
    *("sqlite3.dbapi2", "subprocess", "jsonschema", "structlog", "tenacity", "yaml", "ctypes"),
)
"""What the forked process has imported: nothing of the packages, which the copy has to bring."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, and the test that fails because of it: its file below `tests`, how it is named."""

    bug: Bug
    file: str
    test: str


def planted(name: str, file: str, old: str, new: str, where: str, test: str) -> Planted:
    """Return a bug that is one change of text, with the test that finds it."""
    return Planted(Bug(name, file, old, new, "", (), ()), where, test)


def assert_found(test: Planted, directory: Path) -> None:
    """Run the test with the bug planted, in a process of its own; it has to fail."""
    found = _run(test, test.bug.plant(directory / "planted"), directory)
    assert 1 == found.code, found.stdout + found.stderr
    assert "FAILED" in found.stdout, found.stdout
    # A bug that is no program fails every test.
    assert "SyntaxError" not in found.stdout, found.stdout
    assert "NameError" not in found.stdout, found.stdout


def _run(test: Planted, packages: Path, directory: Path) -> Forked:
    words = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    words += ["-c", str(ROOT / "pyproject.toml"), "--basetemp", str(directory / "run")]
    # The planted packages come before what is installed, and before the tests' own directory,
    # which pytest would put first.
    words += ["-o", f"pythonpath={packages} {ROOT}"]
    words += [str(ROOT / "tests" / test.file), "-k", test.test]
    env = without_coverage(clean_environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}))
    return zygote(env, _IMPORTED).run(
        ["pytest", *words],
        env={**env, "PYTHONPATH": str(packages)},
        cwd=str(directory),
        timeout=180,
    )

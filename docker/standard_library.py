"""
The standard library of the tree: what is left out of it, and how the rest is packed.

docs/image.md lists for users what is left out; a test holds the two together, and to what an
import says in the image.
"""

from __future__ import annotations

import py_compile
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

STDLIB = Path(sysconfig.get_path("stdlib"))
PREFIX = Path("/opt/sqlite-entrypoint")
INSTALLED = PREFIX / "lib" / STDLIB.name
"""The tree, and its library, in the image."""

DEVELOPERS = "a tool for developers"
INSTALLING = "nothing is installed into this Python"
JOKE = "a joke"
OPENSSL = "OpenSSL would add half of the image's size"
SCREEN = "needs a screen"
TERMINAL = "needs a terminal"
TWIN = "the twin, in Python, of a module in C"

LEFT_OUT = {
    "antigravity": JOKE,
    "cProfile": DEVELOPERS,
    "curses": TERMINAL,
    "doctest": DEVELOPERS,
    "ensurepip": INSTALLING,
    "idlelib": SCREEN,
    "modulefinder": DEVELOPERS,
    "pdb": DEVELOPERS,
    "pickletools": DEVELOPERS,
    "profile": DEVELOPERS,
    "pstats": DEVELOPERS,
    "pyclbr": DEVELOPERS,
    "pydoc": DEVELOPERS,
    "readline": TERMINAL,
    "ssl": OPENSSL,
    "tabnanny": DEVELOPERS,
    "test": "Python's own tests",
    "this": JOKE,
    "tkinter": SCREEN,
    "trace": DEVELOPERS,
    "turtle": SCREEN,
    "turtledemo": SCREEN,
    "unittest": DEVELOPERS,
    "venv": INSTALLING,
    "webbrowser": SCREEN,
    "wsgiref": "a web server",
    "xmlrpc": "a web server",
    "zipapp": DEVELOPERS,
}
"""Modules of the standard library that the tree does without, and why; importing one says so."""

HELPERS_LEFT_OUT = {
    "_curses": TERMINAL,
    "_curses_panel": TERMINAL,
    "_dbm": "dbm.sqlite3 and dbm.dumb are here",
    "_gdbm": "dbm.sqlite3 and dbm.dumb are here",
    "_hashlib": OPENSSL,
    "_interpchannels": DEVELOPERS,
    "_interpqueues": DEVELOPERS,
    "_interpreters": DEVELOPERS,
    "_lsprof": DEVELOPERS,
    "_pydatetime": TWIN,
    "_pydecimal": TWIN,
    "_pyio": TWIN,
    "_pyrepl": TERMINAL,
    "_ssl": OPENSSL,
    "_tkinter": SCREEN,
    "pydoc_data": DEVELOPERS,
}
"""What only other modules import, likewise."""

TESTS_OF_EXTENSIONS = ("_ctypes_test", "_test", "_xxtestfuzz", "xxlimited", "xxsubtype")
"""Extension modules for Python's own tests, by the beginning of their names."""

NO_MODULES = (
    "EXTERNALLY-MANAGED",
    "LICENSE.txt",  # in Debian's copyright file as well
    "__hello__.py",
    "__phello__",
    "__pycache__",
    "_aix_support.py",
    "_android_support.py",
    "_apple_support.py",
    "_ios_support.py",
    "_osx_support.py",
    "config-",
    "lib-dynload",
    "sitecustomize.py",
)
"""What is no module of Linux that anybody imports, by the beginning of its name."""

ZIPPED = (
    *("dbm", "email", "html", "http", "multiprocessing", "sysconfig", "xml"),
    *("_sysconfigdata_*.pyc", "ftplib.pyc", "imaplib.pyc", "mailbox.pyc", "optparse.pyc"),
    *("plistlib.pyc", "poplib.pyc", "smtplib.pyc"),
)
"""What a run needs seldom, packages of many small files above all: together in one archive."""

ZONES = "zoneinfo"
"""
What tzdata's package has in an archive of its own.

Python reads the list of the archive that it searches as soon as a module is not found, and so at
each start (`pathlib` tries two of Windows'); with six hundred time zones in it that took as long as
all else that Python does before its first line.
"""

STAND_IN = """raise ModuleNotFoundError(
    "The module {name!r} was left out of this Python, sqlite-entrypoint's own ({why}): "
    "do without it, or install sqlite-entrypoint in the application's Python.",
    name={name!r},
)
"""


ASKED_FOR = ("sitecustomize",)
"""What Python asks for at each start: an empty module is found before the archive is read."""


def copy_modules(library: Path) -> None:
    """Copy what is written in Python; a short stand-in for what is left out."""
    shutil.copytree(STDLIB, library, dirs_exist_ok=True, ignore=_ignored)
    for name, why in (LEFT_OUT | HELPERS_LEFT_OUT).items():
        (library / f"{name}.py").write_text(STAND_IN.format(name=name, why=why))
    for name in ASKED_FOR:
        (library / f"{name}.py").touch()


def _ignored(directory: str, names: list[str]) -> set[str]:
    out = {name for name in names if name.startswith("__pycache__")}
    if Path(directory) == STDLIB:
        left_out = LEFT_OUT | HELPERS_LEFT_OUT
        out |= {name for name in names if name.startswith(NO_MODULES)}
        out |= {name for name in names if name.removesuffix(".py") in left_out}
    return out


def copy_extensions(directory: Path) -> None:
    """Copy what is written in C."""
    directory.mkdir()
    for path in sorted((STDLIB / "lib-dynload").glob("*.so")):
        name = path.name.partition(".")[0]
        left_out = name in LEFT_OUT | HELPERS_LEFT_OUT or name.startswith(TESTS_OF_EXTENSIONS)
        if not left_out:
            shutil.copy(path, directory)


def compile_all(library: Path, installed: Path) -> None:
    """
    Compile everything and take the sources away.

    The modules' time stamps are not looked at (PEP 552): they do not survive
    every way of copying. Docstrings go as well: nothing in the image reads them.

    Args:
        library: The directory of the modules here.
        installed: The same directory in the image, for tracebacks.
    """
    for source in sorted(library.rglob("*.py")):
        py_compile.compile(
            str(source),
            cfile=f"{source}c",
            dfile=str(installed / source.relative_to(library)),
            doraise=True,
            optimize=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        source.unlink()


def zip_seldom_needed(library: Path) -> None:
    """Move what is seldom needed into the archive that is searched last."""
    name = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    stand_ins = [f"{name}.pyc" for name in LEFT_OUT | HELPERS_LEFT_OUT]
    _zip(library.parent / name, _found(library, sorted((*ZIPPED, *stand_ins))))


def zip_zones(tzdata: Path) -> None:
    """Move the time zones into an archive beside their package, which looks into it."""
    _zip(tzdata / f"{ZONES}.zip", [tzdata / ZONES])


def find_zones_in_archive(tzdata: Path) -> None:
    """Have the package of the time zones look into their archive (before it is compiled)."""
    with (tzdata / "__init__.py").open("a") as module:
        module.write(f'__path__.append(f"{{__path__[0]}}/{ZONES}.zip")\n')


def _zip(archive: Path, found: Iterable[Path]) -> None:
    """Move files, and directories with all that is in them, into an archive."""
    with zipfile.ZipFile(archive, "w") as target:
        for each in found:
            for path in _files(each):
                inside = zipfile.ZipInfo(path.relative_to(each.parent).as_posix())
                target.writestr(inside, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
                path.unlink()
            if each.is_dir():
                shutil.rmtree(each)


def _found(library: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted((*library.glob(pattern), *library.glob(f"site-packages/{pattern}")))


def _files(found: Path) -> list[Path]:
    return (
        sorted(path for path in found.rglob("*") if path.is_file()) if found.is_dir() else [found]
    )

"""
Lay out the tree: `python3 -m docker.tree ROOT START LAUNCHER SITE LICENSE`, in the build stage.

ROOT/opt/sqlite-entrypoint gets this Python's standard library, compiled; the shared libraries
that it needs, and the dynamic linker; the two programs and their links; what pip and the
Dockerfile have put into SITE; and a list of all that (SPDX). Two runs with the same input make
the same bytes: the clock is SOURCE_DATE_EPOCH, and the Dockerfile sets PYTHONHASHSEED.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from docker.freeze import frozen
from docker.spdx import bill_of_materials
from docker.standard_library import (
    INSTALLED,
    PREFIX,
    STDLIB,
    compile_all,
    copy_extensions,
    copy_modules,
    find_zones_in_archive,
    zip_seldom_needed,
    zip_zones,
)

LIBRARY = INSTALLED.relative_to(PREFIX)
COMMANDS = ("entrypoint", "migrator", "sqlite-entrypoint")
OURS = ("entrypoint", "migrator")
"""Our packages, which lie in the standard library: frozen packages are looked for there."""
STATIC = "musl"
"""The C library inside of start.c's program."""


def main(root: Path, start: Path, launcher: Path, site: Path, licence: Path) -> None:
    """Make the tree and everything else that the image holds."""
    tree = root / PREFIX.relative_to("/")
    (tree / LIBRARY).mkdir(parents=True)
    copy_modules(tree / LIBRARY)
    copy_extensions(tree / LIBRARY / "lib-dynload")
    copy_site(site, tree / LIBRARY / "site-packages")
    for name in OURS:
        shutil.move(tree / LIBRARY / "site-packages" / name, tree / LIBRARY)
    tzdata = tree / LIBRARY / "site-packages/tzdata"
    find_zones_in_archive(tzdata)
    compile_all(tree / LIBRARY, INSTALLED)
    remove_frozen(tree / LIBRARY, site.resolve())
    zip_seldom_needed(tree / LIBRARY)
    zip_zones(tzdata)
    copy_program(start, tree / "bin")
    copy_program(launcher, tree / "libexec")
    sources = copy_libraries(tree)
    packages = sorted({*owners_of(*sources, STDLIB / "*.py"), STATIC})
    copy_licences(packages, licence, tree / "share/licenses")
    document = bill_of_materials(packages, site, epoch())
    (tree / "share/sqlite-entrypoint.spdx.json").write_text(document)
    add_users(root)
    normalise(root)


def copy_site(site: Path, directory: Path) -> None:
    """Copy our packages and their dependencies, without what only pip reads."""
    shutil.copytree(site, directory, ignore=shutil.ignore_patterns("__pycache__", "bin"))
    for path in directory.glob("*.dist-info/*"):
        if path.name in {"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"}:
            path.unlink()


def remove_frozen(library: Path, site: Path) -> None:
    """Remove the files of the modules that the launcher holds."""
    for module in frozen(site):
        (library / module.file).with_suffix(".pyc").unlink()


def copy_program(program: Path, directory: Path) -> None:
    """Copy a program as `python3` and link the commands to it."""
    directory.mkdir()
    shutil.copy(program, directory / "python3")
    for name in COMMANDS:
        (directory / name).symlink_to("python3")


def copy_libraries(tree: Path) -> list[Path]:
    """Copy every shared library that a program or a module of the tree needs."""
    programs = [tree / "libexec/python3", *sorted(tree.rglob("*.so"))]
    # What the C library loads by itself when a thread is cancelled.
    libraries = {STDLIB.parent / sysconfig.get_config_var("MULTIARCH") / "libgcc_s.so.1"}
    for program in programs:
        libraries |= needed(program, tree)
    for path in libraries:
        shutil.copy(path, tree / "lib" / path.name)
    return [path.resolve() for path in sorted(libraries)]


def needed(program: Path, tree: Path) -> set[Path]:
    """Return the libraries that the dynamic linker finds for a program, itself among them."""
    linker = interpreter(tree)
    listed = subprocess.run([linker, "--list", program], capture_output=True, text=True, check=True)
    words = (line.split() for line in listed.stdout.splitlines())
    paths = {Path(word) for line in words for word in line if word.startswith("/")}
    return {path for path in paths if not path.is_relative_to(PREFIX)} | {linker}


def interpreter(tree: Path) -> Path:
    """Return this system's dynamic linker, by the name that the launcher asks for."""
    command = ["readelf", "--string-dump=.interp", str(tree / "libexec/python3")]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    name = Path(dump.split()[-1]).name
    return next(path for path in (Path("/lib64", name), Path("/lib", name)) if path.exists())


def owners_of(*patterns: Path) -> set[str]:
    """Return the Debian packages that files come from."""
    command = ["dpkg-query", "--search", *map(str, patterns)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.partition(": ")[0].partition(":")[0] for line in found.splitlines()}


def copy_licences(packages: list[str], licence: Path, directory: Path) -> None:
    """Copy the licence of everything that is in the tree; wheels have theirs beside them."""
    directory.mkdir(parents=True)
    shutil.copy(licence, directory / "sqlite-entrypoint")
    for name in packages:
        shutil.copy(f"/usr/share/doc/{name}/copyright", directory / name)


def add_users(root: Path) -> None:
    """Write the files that give two users their names."""
    etc = root / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
    )
    (etc / "group").write_text("root:x:0:\nnonroot:x:65532:\n")


def normalise(root: Path) -> None:
    """Give every file one of two modes and the time of the commit."""
    programs = ("bin", "libexec")
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.parent.name in programs or ".so" in path.name
            path.chmod(0o755 if executable else 0o644)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)


def epoch() -> int:
    """Return the moment that the tree is said to be made."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or 0)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))

"""
Lay out the tree of the image: `python3 tree.py ROOT LAUNCHER SITE LICENSE`, in the build stage.

ROOT/opt/sqlite-entrypoint gets this Python's standard library, compiled; the shared libraries
that it needs, and the dynamic linker; the launcher and its links; what pip and the Dockerfile
have put into SITE; and a list of all that (SPDX). Two runs with the same input make the same
bytes: the clock is SOURCE_DATE_EPOCH, and the Dockerfile sets PYTHONHASHSEED.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

PREFIX = Path("/opt/sqlite-entrypoint")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
STDLIB = Path(sysconfig.get_path("stdlib"))

LEFT_OUT = {
    "_pyrepl": "the interactive interpreter's editor",
    "antigravity": "a joke",
    "cProfile": "a tool for developers",
    "curses": "needs a terminal",
    "doctest": "a tool for developers",
    "ensurepip": "nothing is installed into this Python",
    "idlelib": "needs a screen",
    "modulefinder": "a tool for developers",
    "pdb": "a tool for developers",
    "pickletools": "a tool for developers",
    "profile": "a tool for developers",
    "pstats": "a tool for developers",
    "pyclbr": "a tool for developers",
    "pydoc": "a tool for developers",
    "pydoc_data": "a tool for developers",
    "readline": "needs a terminal",
    "ssl": "OpenSSL would add half of the image's size",
    "tabnanny": "a tool for developers",
    "test": "Python's own tests",
    "this": "a joke",
    "tkinter": "needs a screen",
    "trace": "a tool for developers",
    "turtle": "needs a screen",
    "turtledemo": "needs a screen",
    "unittest": "a tool for developers",
    "venv": "nothing is installed into this Python",
    "webbrowser": "needs a screen",
    "wsgiref": "a web server",
    "xmlrpc": "a web server",
    "zipapp": "a tool for developers",
}
"""Modules of the standard library that the tree does without; importing one says so."""

NOT_COMPILED_IN = (
    "_codecs_cn",
    "_codecs_hk",
    "_codecs_iso2022",
    "_codecs_jp",
    "_codecs_kr",
    "_codecs_tw",
    "_ctypes_test",
    "_curses",
    "_curses_panel",
    "_dbm",
    "_gdbm",
    "_hashlib",
    "_interp",
    "_lsprof",
    "_ssl",
    "_test",
    "_tkinter",
    "_xxtestfuzz",
    "readline",
    "xxlimited",
    "xxsubtype",
)
"""Extension modules that are left out, by the beginning of their names."""

ENCODINGS = ("big5", "cp932", "cp949", "cp950", "euc_", "gb", "hz", "iso2022_", "johab", "shift_")
"""Encodings that need the extension modules left out (Chinese, Japanese and Korean)."""

NOT_MODULES = (
    "EXTERNALLY-MANAGED",
    "LICENSE.txt",  # in Debian's copyright file as well
    "__hello__.py",
    "__phello__",
    "_aix_support.py",
    "_android_support.py",
    "_apple_support.py",
    "_ios_support.py",
    "_osx_support.py",
    "_pydatetime.py",  # twins of modules written in C
    "_pydecimal.py",
    "_pyio.py",
    "config-",
    "lib-dynload",
    "sitecustomize.py",
)
"""What is no module that a migration would import, by the beginning of its name."""

ZIPPED = ("dbm", "email", "html", "http", "multiprocessing", "sysconfig", "xml", "tzdata")
"""Packages of many small files that a run needs seldom: together in one archive."""

STUB = """raise ModuleNotFoundError(
    "The module {name!r} was left out of this Python, sqlite-entrypoint's own ({why}): "
    "do without it, or install sqlite-entrypoint in the application's Python.",
    name={name!r},
)
"""

COMMANDS = ("entrypoint", "migrator", "sqlite-entrypoint")


def main(root: Path, launcher: Path, site: Path, licence: Path) -> None:
    """Make the tree and everything else that the image holds."""
    tree = root / PREFIX.relative_to("/")
    library = tree / "lib" / VERSION
    library.mkdir(parents=True)
    copy_modules(library)
    copy_extensions(library / "lib-dynload")
    copy_site(site, library / "site-packages")
    compile_all(library)
    zip_packages(library)
    copy_launcher(launcher, tree / "bin")
    sources = copy_libraries(tree)
    packages = sorted({owner(path) for path in [*sources, STDLIB / "os.py"]})
    copy_licences(packages, licence, tree / "share/licenses")
    (tree / "share/sqlite-entrypoint.spdx.json").write_text(bill_of_materials(packages, site))
    add_users(root)
    normalise(root)


# --- Python ----------------------------------------------------------------------


def copy_modules(library: Path) -> None:
    """Copy the standard library's Python files; a short stand-in for what is left out."""
    shutil.copytree(STDLIB, library, dirs_exist_ok=True, ignore=ignored)
    for name, why in LEFT_OUT.items():
        (library / f"{name}.py").write_text(STUB.format(name=name, why=why))


def ignored(directory: str, names: list[str]) -> set[str]:
    """Return what is not copied from a directory of the standard library."""
    out = {name for name in names if name.startswith("__pycache__")}
    if Path(directory) == STDLIB:
        out |= {name for name in names if name.startswith(NOT_MODULES)}
        out |= {name for name in names if name.removesuffix(".py") in LEFT_OUT}
    elif Path(directory) == STDLIB / "encodings":
        out |= {name for name in names if name.startswith(ENCODINGS)}
    return out


def copy_extensions(directory: Path) -> None:
    """Copy the extension modules."""
    directory.mkdir()
    for path in sorted((STDLIB / "lib-dynload").glob("*.so")):
        if not path.name.startswith(NOT_COMPILED_IN):
            shutil.copy(path, directory)


def copy_site(site: Path, directory: Path) -> None:
    """Copy our packages and their dependencies, without what only pip reads."""
    shutil.copytree(site, directory, ignore=shutil.ignore_patterns("__pycache__", "bin"))
    for path in directory.glob("*.dist-info/*"):
        if path.name in {"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"}:
            path.unlink()


def compile_all(library: Path) -> None:
    """
    Compile everything and take the sources away.

    The modules' time stamps are not looked at (PEP 552): they do not survive
    every way of copying. Other people's modules lose their docstrings.
    """
    ours = [library / "site-packages" / name for name in ("entrypoint", "migrator")]
    for source in sorted(library.rglob("*.py")):
        spoken = any(source.is_relative_to(each) for each in ours)
        py_compile.compile(
            str(source),
            cfile=f"{source}c",
            dfile=str(PREFIX / "lib" / VERSION / source.relative_to(library)),
            doraise=True,
            optimize=0 if spoken else 2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        source.unlink()


def zip_packages(library: Path) -> None:
    """Move packages that are seldom needed into the archive that is searched last."""
    archive = library.parent / f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name in ZIPPED:
            found = [*library.glob(name), *library.glob(f"site-packages/{name}")]
            for directory in found:
                for path in sorted(each for each in directory.rglob("*") if each.is_file()):
                    inside = path.relative_to(directory.parent).as_posix()
                    file.writestr(zipfile.ZipInfo(inside), path.read_bytes(), file.compression)
                shutil.rmtree(directory)


# --- programs and libraries ----------------------------------------------------


def copy_launcher(launcher: Path, directory: Path) -> None:
    """Copy the launcher and link the commands to it."""
    directory.mkdir()
    shutil.copy(launcher, directory / "python3")
    for name in COMMANDS:
        (directory / name).symlink_to("python3")


def copy_libraries(tree: Path) -> list[Path]:
    """Copy every shared library that a program or a module of the tree needs."""
    programs = [tree / "bin/python3", *sorted(tree.rglob("*.so"))]
    libraries = {STDLIB.parent / sysconfig.get_config_var("MULTIARCH") / "libgcc_s.so.1"}
    for program in programs:
        libraries |= needed(program, tree)
    for path in libraries:
        shutil.copy(path, tree / "lib" / path.name)
        (tree / "lib" / path.name).chmod(0o755)
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
    command = ["readelf", "--string-dump=.interp", str(tree / "bin/python3")]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    name = Path(dump.split()[-1]).name
    return next(path for path in (Path("/lib64", name), Path("/lib", name)) if path.exists())


# --- what else there is ----------------------------------------------------------


def owner(path: Path) -> str:
    """Return the Debian package that a file comes from."""
    command = ["dpkg-query", "--search", str(path.resolve())]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return found.partition(": ")[0].partition(":")[0]


def copy_licences(packages: list[str], licence: Path, directory: Path) -> None:
    """Copy the licence of everything that is in the tree."""
    directory.mkdir(parents=True)
    shutil.copy(licence, directory / "sqlite-entrypoint")
    for name in packages:
        shutil.copy(f"/usr/share/doc/{name}/copyright", directory / name)


def bill_of_materials(packages: list[str], site: Path) -> str:
    """Return the SPDX document of the tree."""
    ours = (site / "migrator/_version.py").read_text().rpartition("= ")[2].strip().strip('"')
    listed = [spdx_package("sqlite-entrypoint", ours, f"pkg:generic/sqlite-entrypoint@{ours}")]
    wheels = sorted(importlib.metadata.distributions(path=[str(site)]), key=lambda d: d.name)
    listed.extend(
        spdx_package(each.name, each.version, f"pkg:pypi/{each.name}@{each.version}")
        for each in wheels
    )
    listed.extend(debian_package(name) for name in packages)
    return json.dumps(spdx_document(listed), indent=1) + "\n"


def debian_package(name: str) -> dict[str, object]:
    """Return one of Debian's packages, in the version that is installed here."""
    command = ["dpkg-query", "--show", "--showformat=${Version} ${Architecture}\n", name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    version, architecture = output.split()[:2]
    return spdx_package(name, version, f"pkg:deb/debian/{name}@{version}?arch={architecture}")


def spdx_package(name: str, version: str, address: str) -> dict[str, object]:
    """Return one package as SPDX 2.3 describes it."""
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": address,
    }
    return {
        "SPDXID": f"SPDXRef-{name.replace('_', '-').replace('+', '-')}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [reference],
    }


def spdx_document(packages: list[dict[str, object]]) -> dict[str, object]:
    """Return the document that says what the first package contains."""
    digest = hashlib.sha256(json.dumps(packages).encode()).hexdigest()
    moment = dt.datetime.fromtimestamp(epoch(), dt.UTC)
    first, *others = [package["SPDXID"] for package in packages]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "sqlite-entrypoint",
        "documentNamespace": f"https://spdx.org/spdxdocs/sqlite-entrypoint-{digest}",
        "creationInfo": {
            "created": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: sqlite-entrypoint/docker/tree.py"],
        },
        "packages": packages,
        "relationships": [
            relationship("SPDXRef-DOCUMENT", "DESCRIBES", first),
            *(relationship(first, "CONTAINS", each) for each in others),
        ],
    }


def relationship(element: object, kind: str, other: object) -> dict[str, object]:
    """Return one sentence of an SPDX document."""
    return {
        "spdxElementId": element,
        "relationshipType": kind,
        "relatedSpdxElement": other,
    }


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
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.parent.name == "bin" or ".so" in path.name
            path.chmod(0o755 if executable else 0o644)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)


def epoch() -> int:
    """Return the moment that the tree is said to be made."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or 0)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))

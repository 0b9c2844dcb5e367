"""
Freeze the modules of every start into the launcher: `python3 -m docker.freeze SITE FROZEN.C`.

Python finds a frozen module in its own memory (`PyImport_FrozenModules`, in the documentation of
its C API). A file it looks for in several directories, opens, reads and closes, and a start imports
a hundred. The code is the same, and what is not frozen is a file as ever.
"""

from __future__ import annotations

import marshal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from docker.standard_library import INSTALLED, STDLIB

START = """
import sys
sys.path.append(sys.argv[1])
import entrypoint.__main__, entrypoint.main, entrypoint.volume.wait
import migrator.__main__, migrator.cli, migrator.engine.parent, migrator.run
import migrator._version, migrator.parsing.directory, migrator.process.ending
for name, module in sorted(sys.modules.items()):
    if module.__spec__ is not None and module.__spec__.has_location:
        package = module.__spec__.submodule_search_locations is not None
        print(name, module.__spec__.origin, int(package))
"""
"""What a start with nothing pending imports; it prints the modules that are files."""


@dataclass(frozen=True)
class Frozen:
    """A module: its name, its source, its file in the library, and whether it is a package."""

    name: str
    source: Path
    file: Path
    package: bool

    @property
    def code(self) -> bytes:
        """Its bytecode, without docstrings; a traceback names the file."""
        shown = str(INSTALLED / self.file)
        return marshal.dumps(compile(self.source.read_bytes(), shown, "exec", optimize=2))


def frozen(site: Path) -> list[Frozen]:
    """Return the modules that a start imports and that are Python's or ours."""
    command = [sys.executable, "-I", "-S", "-c", START, str(site)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    for line in said.splitlines():
        name, origin, package = line.split()
        source = Path(origin)
        above = site if source.is_relative_to(site) else STDLIB
        if source.suffix == ".py":
            found.append(Frozen(name, source, source.relative_to(above), package == "1"))
    return found


def main(site: Path, target: Path) -> None:
    """Write the table."""
    found = frozen(site)
    with target.open("w") as file:
        print('#include <Python.h>\n\n#include "frozen.h"\n', file=file)
        for number, module in enumerate(found):
            code = ",".join(map(str, module.code))
            print(f"static const unsigned char code_{number}[] = {{{code}}};", file=file)
        print("\nconst struct _frozen frozen_modules[] = {", file=file)
        for number, module in enumerate(found):
            size = f"sizeof(code_{number})"
            print(f'    {{"{module.name}", code_{number}, {size}, {module.package:d}}},', file=file)
        print("    {0},\n};", file=file)


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))

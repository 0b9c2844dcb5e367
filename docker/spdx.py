"""The list of what the tree is made of: an SPDX 2.3 document."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from urllib.parse import quote

UNKNOWN = "NOASSERTION"


def bill_of_materials(debian: list[str], site: Path, created: int) -> str:
    """
    Return the document.

    Args:
        debian: The names of Debian's packages.
        site: Where our own packages and the wheels lie.
        created: Seconds since the epoch.
    """
    packages = [_ourselves(site)]
    wheels = importlib.metadata.distributions(path=[str(site)])
    packages.extend(_wheel(each) for each in sorted(wheels, key=lambda wheel: wheel.name))
    packages.extend(_debian(name) for name in debian)
    return json.dumps(_document(packages, created), indent=1) + "\n"


def _ourselves(site: Path) -> dict[str, object]:
    text = (site / "migrator/_version.py").read_text()
    version = text.rpartition("= ")[2].strip().strip('"')
    address = f"pkg:generic/sqlite-entrypoint@{version}"
    return _package("sqlite-entrypoint", version, address, UNKNOWN, "MIT")


def _wheel(wheel: importlib.metadata.Distribution) -> dict[str, object]:
    licence = (wheel.metadata.get_all("License-Expression") or [UNKNOWN])[0]
    address = f"pkg:pypi/{wheel.name}@{wheel.version}"
    return _package(wheel.name, wheel.version, address, UNKNOWN, licence)


def _debian(name: str) -> dict[str, object]:
    """Return one of Debian's packages; its licences are those of its copyright file."""
    fields = r"${Version}\n${Architecture}\n${source:Package}\n"
    command = ["dpkg-query", "--show", f"--showformat={fields}", name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    version, architecture, source = output.split()[:3]
    release = platform.freedesktop_os_release()["VERSION_ID"]
    address = (
        f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}"
        f"?arch={architecture}&distro=debian-{release}&upstream={quote(source)}"
    )
    return _package(name, version, address, "Organization: Debian", UNKNOWN)


def _package(
    name: str, version: str, address: str, supplier: str, licence: str
) -> dict[str, object]:
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": address,
    }
    return {
        "SPDXID": f"SPDXRef-{name.replace('_', '-').replace('+', '-')}",
        "name": name,
        "versionInfo": version,
        "supplier": supplier,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence,
        "copyrightText": UNKNOWN,
        "externalRefs": [reference],
    }


def _document(packages: list[dict[str, object]], created: int) -> dict[str, object]:
    """Return the document that says what the first package contains."""
    digest = hashlib.sha256(json.dumps(packages).encode()).hexdigest()
    moment = dt.datetime.fromtimestamp(created, dt.UTC)
    first, *others = [package["SPDXID"] for package in packages]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "sqlite-entrypoint",
        "documentNamespace": f"https://spdx.org/spdxdocs/sqlite-entrypoint-{digest}",
        "creationInfo": {
            "created": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: sqlite-entrypoint"],
        },
        "packages": packages,
        "relationships": [
            _relationship("SPDXRef-DOCUMENT", "DESCRIBES", first),
            *(_relationship(first, "CONTAINS", each) for each in others),
        ],
    }


def _relationship(element: object, kind: str, other: object) -> dict[str, object]:
    """Return one sentence of the document."""
    return {
        "spdxElementId": element,
        "relationshipType": kind,
        "relatedSpdxElement": other,
    }

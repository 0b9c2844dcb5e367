"""
Read the kernel's mounts: whether this is a container, and the kind of volume of a path.

The fields are those of proc_pid_mountinfo(5). The root field shows the layout
of Docker's, Podman's and Kubernetes' volumes on the host's disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from migrator.value import Value

_CONTAINER_FILE = "/run/.containerenv"
_DOCKER_FILE = "/.dockerenv"
_LAYERED = frozenset({"overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_NOT_LASTING = frozenset({"container-layer", "tmpfs", "anonymous", "empty-dir"})
_DISKS = tuple(
    f"/dev/{each}" for each in ("vd", "sd", "xvd", "nvme", "mmcblk", "mapper/", "dm-", "md")
)
_VOLUME = r"/volumes/([^/]+)/_data(?:/|$)"
_ANONYMOUS = r"[0-9a-f]{64}"
_EMPTY_DIR = "/kubernetes.io~empty-dir/"
_ESCAPE = r"\\([0-7]{3})"


class Mount(Value):
    """
    One line of /proc/self/mountinfo.

    `root` is the mounted directory of the file system, `propagation` the
    optional fields (`shared:1`, `master:2`).
    """

    mount_id: int
    parent_id: int
    root: str
    mount_point: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """Whether the mount, or the file system behind it, is mounted read-only."""
        return "ro" in self.options or "ro" in self.super_options

    @property
    def receives(self) -> bool:
        """Whether a mount made on the host can still arrive below this one."""
        return any(tag.startswith(("master:", "shared:")) for tag in self.propagation)


class Volume(Value):
    """
    The volume of a database.

    `kind` is one of `container-layer`, `tmpfs`, `anonymous`, `named`, `bind`,
    `empty-dir` and `other`; `lasting` tells whether it outlives the container
    and its Pod; `name` is the name of a named or an anonymous volume. With
    `single_file` the database itself is a mount point, and the rest is about
    its directory.
    """

    kind: str
    lasting: bool
    fstype: str
    read_only: bool
    single_file: bool
    mount: Mount
    name: str | None = None


_NO_MOUNT = Mount(0, 0, "/", "/", (), (), "unknown", "none", ())
"""The root, if the kernel does not show it: in a chroot, or without /proc."""


def read(path: str = "/proc/self/mountinfo") -> tuple[Mount, ...]:
    """Return the mounts that this process sees; without /proc, nothing."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            return parse(lines.read())
    except OSError:
        return ()


def parse(text: str) -> tuple[Mount, ...]:
    """Parse the text of a mountinfo file, and skip lines in another form."""
    mounts = (_parse_line(line) for line in text.split("\n"))
    return tuple(mount for mount in mounts if mount is not None)


def covering(path: str | Path, mounts: Sequence[Mount]) -> Mount:
    """
    Return the mount that a path is on, whether the path exists or not.

    Args:
        path: An absolute path without symbolic links.
        mounts: All mounts, in the kernel's order.
    """
    known = {mount.mount_id for mount in mounts}
    here = [m for m in mounts if m.parent_id not in known or m.parent_id == m.mount_id]
    found, seen = _NO_MOUNT, set[int]()
    # From mount to mount, as the kernel walks: a later mount may hide a mount point.
    while inward := _outermost(os.fspath(path), here):
        found = inward
        seen.add(found.mount_id)
        here = [m for m in mounts if m.parent_id == found.mount_id and m.mount_id not in seen]
    return found


def in_container(
    environ: Mapping[str, str],
    mounts: Sequence[Mount],
    exists: Callable[[str], bool] = os.path.exists,
) -> bool:
    """Tell whether this process runs in a container."""
    if environ.get("KUBERNETES_SERVICE_HOST") or environ.get("container"):
        return True
    root = covering("/", mounts)
    if exists(_CONTAINER_FILE) or root.fstype in _LAYERED:
        return True
    # A virtual machine made from an image still has that image's `/.dockerenv`.
    whole_disk = root.root == "/" and (root.source.startswith(_DISKS) or root.source == "/dev/root")
    return exists(_DOCKER_FILE) and not whole_disk


def is_podman(environ: Mapping[str, str]) -> bool:
    """Tell whether it is Podman that has made this container."""
    return environ.get("container") == "podman" or os.path.exists(_CONTAINER_FILE)


def classify(path: str | Path, mounts: Sequence[Mount]) -> Volume:
    """
    Return the volume of a database.

    Args:
        path: The database's resolved path; it need not exist.
        mounts: All mounts, in the kernel's order.
    """
    path = Path(path)
    mount = covering(path.parent, mounts)
    kind, name = _kind(mount)
    return Volume(
        kind=kind,
        lasting=kind not in _NOT_LASTING,
        fstype=mount.fstype,
        read_only=mount.read_only,
        single_file=covering(path, mounts).mount_point == str(path) != "/",
        mount=mount,
        name=name,
    )


def _parse_line(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, behind = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(behind) < 3:
        return None
    if not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        root=_unescape(fields[3]),
        mount_point=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        propagation=tuple(field for field in fields[6:] if field),
        fstype=_unescape(behind[0]),
        source=_unescape(behind[1]),
        super_options=tuple(_unescape(behind[2]).split(",")),
    )


def _unescape(field: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline, `#` and backslash."""
    if "\\" not in field:
        return field
    return re.sub(_ESCAPE, lambda found: chr(int(found[1], 8)), field)


def _outermost(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount nearest to the root on the way to a path; of several there, the last."""
    met = [mount for mount in mounts if _below(path, mount.mount_point)]
    if not met:
        return None
    shortest = min(len(mount.mount_point) for mount in met)
    return [mount for mount in met if len(mount.mount_point) == shortest][-1]


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _kind(mount: Mount) -> tuple[str, str | None]:
    """Return the kind of a mount's volume, and the volume's name."""
    if mount.mount_point == "/":
        return "container-layer", None
    if mount.fstype in _IN_MEMORY:
        return "tmpfs", None
    if _EMPTY_DIR in mount.root:
        return "empty-dir", None
    if volume := re.search(_VOLUME, mount.root):
        kind = "anonymous" if re.fullmatch(_ANONYMOUS, volume[1]) else "named"
        return kind, volume[1]
    return ("other" if mount.root == "/" else "bind"), None

"""What the kernel's list of mounts says about a database's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from entrypoint.volume import mounts
from tests.support.processes import clean_environment

ROOT = "20 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/c"
DISK = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"
ANONYMOUS = "ab" * 32


def parsed(*lines: str) -> tuple[mounts.Mount, ...]:
    """Parse lines of the kernel."""
    return mounts.parse("\n".join(lines) + "\n")


def no_file(_path: str) -> bool:
    """Say that no file exists."""
    return False


def docker_file(path: str) -> bool:
    """Say that only Docker's file exists."""
    return path == "/.dockerenv"


def test_a_line_is_read_into_its_fields() -> None:
    """Every field of a line comes back, options split, the optional fields as propagation."""
    (mount,) = parsed(
        "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue"
    )

    assert mount == mounts.Mount(
        mount_id=36,
        parent_id=35,
        root="/mnt1",
        mount_point="/mnt2",
        options=("rw", "noatime"),
        propagation=("master:1", "shared:7"),
        fstype="ext3",
        source="/dev/root",
        super_options=("rw", "errors=continue"),
    )


def test_octal_escapes_are_undone() -> None:
    r"""The kernel writes a space as \040, a tab as \011, a backslash as \134."""
    (mount,) = parsed(r"1 0 0:1 /a\040b /c\011d\134e rw - tmpfs none\040it rw")

    assert (mount.root, mount.mount_point, mount.source) == ("/a b", "/c\td\\e", "none it")


def test_lines_in_another_form_are_left_out() -> None:
    """A line that a later kernel writes differently ends nothing."""
    assert parsed("", "nonsense", "x y 0:1 / / rw - tmpfs t rw", "1 0 0:1 / /") == ()


def test_the_real_list_is_read() -> None:
    """The list of this process has the root in it."""
    assert mounts.covering("/", mounts.read()).mount_point == "/"


def test_without_proc_there_are_no_mounts(tmp_path: Path) -> None:
    """Where the kernel does not tell, the list is empty and a path lies on the root."""
    assert mounts.read(str(tmp_path / "mountinfo")) == ()
    assert mounts.covering("/data", ()).mount_point == "/"


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/", "/"),
        ("/data", "/data"),
        ("/data/sub/app.db", "/data/sub"),
        ("/data/subway", "/data"),
        ("/database", "/"),
    ],
)
def test_the_longest_mount_point_covers(path: str, point: str) -> None:
    """A path lies on the innermost mount, and names that only begin alike do not count."""
    found = parsed(
        ROOT,
        "21 20 8:1 / /data rw - ext4 /dev/sda1 rw",
        "22 21 8:2 / /data/sub rw - ext4 /dev/sda2 rw",
    )

    assert mounts.covering(path, found).mount_point == point


def test_of_two_at_one_point_the_later_covers() -> None:
    """What was mounted last on a point is what is seen there."""
    found = parsed(
        ROOT,
        "21 20 8:1 / /data rw - ext4 /dev/sda1 rw",
        "22 21 0:9 / /data rw - tmpfs tmpfs rw",
    )

    assert mounts.covering("/data/app.db", found).fstype == "tmpfs"


def test_a_hidden_mount_does_not_cover() -> None:
    """A mount below a point that was mounted over later cannot be reached any more."""
    found = parsed(
        ROOT,
        "21 20 8:1 / /data/sub rw - ext4 /dev/sda1 rw",
        "22 20 0:9 / /data rw - tmpfs tmpfs rw",
    )

    assert mounts.covering("/data/sub/app.db", found).fstype == "tmpfs"


def test_a_mount_that_is_its_own_parent_ends_the_search() -> None:
    """The initial root of a machine names itself as its parent."""
    found = parsed("1 1 0:2 / / rw - rootfs rootfs rw", "27 1 254:0 / / rw - ext4 /dev/vda rw")

    assert mounts.covering("/data", found).fstype == "ext4"


@pytest.mark.parametrize(
    ("line", "kind", "lasting", "name"),
    [
        (None, "container-layer", False, None),
        ("- tmpfs tmpfs rw", "tmpfs", False, None),
        ("- ramfs ramfs rw", "tmpfs", False, None),
        ("- ext4 /dev/sdb rw", "other", True, None),
        ("- nfs4 server:/export rw", "other", True, None),
    ],
)
def test_kinds_told_by_the_file_system(
    line: str | None, kind: str, lasting: bool, name: str | None
) -> None:
    """The container's layer and memory go with the container; a disk and a share stay."""
    lines = [ROOT] if line is None else [ROOT, f"21 20 0:9 / /data rw {line}"]

    volume = mounts.classify("/data/app.db", parsed(*lines))

    assert (volume.kind, volume.lasting, volume.name) == (kind, lasting, name)


@pytest.mark.parametrize(
    ("root", "kind", "lasting", "name"),
    [
        ("/var/lib/docker/volumes/data/_data", "named", True, "data"),
        ("/volumes/data/_data", "named", True, "data"),
        ("/var/lib/docker/volumes/data/_data/sub", "named", True, "data"),
        (f"/var/lib/docker/volumes/{ANONYMOUS}/_data", "anonymous", False, ANONYMOUS),
        (
            f"/home/me/.local/share/containers/storage/volumes/{ANONYMOUS}/_data",
            "anonymous",
            False,
            ANONYMOUS,
        ),
        (f"/var/lib/docker/volumes/{ANONYMOUS[:-1]}/_data", "named", True, ANONYMOUS[:-1]),
        (
            "/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/data",
            "empty-dir",
            False,
            None,
        ),
        ("/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pvc/mount", "bind", True, None),
        ("/srv/data", "bind", True, None),
    ],
)
def test_kinds_told_by_the_root_field(
    root: str, kind: str, lasting: bool, name: str | None
) -> None:
    """Docker, Podman and Kubernetes tell the kind of a volume by its directory on the host."""
    found = parsed(ROOT, f"21 20 8:1 {root} /data rw,relatime master:1 - ext4 /dev/sda1 rw")

    volume = mounts.classify("/data/app.db", found)

    assert (volume.kind, volume.lasting, volume.name) == (kind, lasting, name)


@pytest.mark.parametrize(
    ("options", "super_options"), [("ro,relatime", "rw"), ("rw", "ro,errors=remount-ro")]
)
def test_read_only_is_told_by_mount_or_file_system(options: str, super_options: str) -> None:
    """A mount is read-only by its own options or by its file system's."""
    found = parsed(ROOT, f"21 20 8:1 / /data {options} - ext4 /dev/sda1 {super_options}")

    assert mounts.classify("/data/app.db", found).read_only is True
    assert mounts.classify("/app.db", found).read_only is False


def test_a_single_file_is_told_from_its_directory() -> None:
    """The file's own mount is noted, and everything else is said of the directory around it."""
    found = parsed(ROOT, "21 20 8:1 /srv/app.db /data/app.db rw - ext4 /dev/sda1 rw")

    alone = mounts.classify("/data/app.db", found)

    assert (alone.single_file, alone.kind) == (True, "container-layer")
    assert mounts.classify("/data/other.db", found).single_file is False


@pytest.mark.parametrize(
    ("tags", "receives"), [("", False), ("master:3 ", True), ("shared:1 ", True)]
)
def test_mounts_from_outside_arrive_by_propagation(tags: str, receives: bool) -> None:
    """Only a mount in a peer group, or a slave of one, receives what the host mounts later."""
    (mount,) = parsed(f"21 20 8:1 / /mnt rw {tags}- ext4 /dev/sda1 rw")

    assert mount.receives is receives


@pytest.mark.parametrize("root", [DISK, ROOT])
@pytest.mark.parametrize("name", ["KUBERNETES_SERVICE_HOST", "container"])
def test_a_variable_of_the_runtime_tells_a_container(root: str, name: str) -> None:
    """Kubernetes' service variable, or `container` of Podman and systemd, is enough."""
    assert mounts.in_container({name: "x"}, parsed(root), no_file) is True
    assert mounts.in_container({name: ""}, parsed(DISK), no_file) is False


@pytest.mark.parametrize("fstype", ["overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs"])
def test_a_layered_root_tells_a_container(fstype: str) -> None:
    """A root made of layers is a container's."""
    found = parsed(f"20 1 0:40 / / rw - {fstype} {fstype} rw")

    assert mounts.in_container({}, found, no_file) is True


def test_podmans_file_tells_a_container() -> None:
    """`/run/.containerenv` is there in containers only."""
    found = parsed(DISK)

    assert mounts.in_container({}, found, lambda path: path == "/run/.containerenv") is True


@pytest.mark.parametrize(
    ("source", "root", "container"),
    [
        ("/dev/vda", "/", False),
        ("/dev/sda2", "/", False),
        ("/dev/nvme0n1p1", "/", False),
        ("/dev/mmcblk0p2", "/", False),
        ("/dev/mapper/vg-root", "/", False),
        ("/dev/sda2", "/var/lib/docker/btrfs/subvolumes/1", True),
        ("/dev/sda2", "/var/lib/docker/vfs/dir/1", True),
        ("rpool/docker/1", "/", True),
    ],
)
def test_dockers_file_counts_unless_the_root_is_a_whole_disk(
    source: str, root: str, container: bool
) -> None:
    """A machine made from an image keeps `/.dockerenv`, and has a whole disk as its root."""
    found = parsed(f"27 1 254:0 {root} / rw - ext4 {source} rw")

    assert mounts.in_container({}, found, docker_file) is container
    assert mounts.in_container({}, found, no_file) is False


@pytest.mark.root
def test_real_mounts_are_classified(tmp_path: Path, as_root: None) -> None:
    """A bind mount, a tmpfs and a file mounted alone are told apart as the kernel has them."""
    for name in ("with space/_data", "bind", "memory"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bind" / "app.db").touch()
    script = f"""
set -e
cd {tmp_path}
mount --bind 'with space/_data' bind
touch bind/app.db other.db
mount --bind other.db bind/app.db
mount -t tmpfs tmpfs memory
{sys.executable} - <<'END'
from entrypoint.volume import mounts
found = mounts.read()
for path in ("bind/app.db", "bind/x.db", "memory/app.db", "app.db"):
    volume = mounts.classify("{tmp_path}/" + path, found)
    print(volume.kind, volume.single_file, volume.mount.root.endswith("with space/_data"))
END
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines() == [
        "bind True True",
        "bind False True",
        "tmpfs False False",
        "container-layer False False",
    ]

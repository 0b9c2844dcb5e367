"""The application's command: found, examined, become."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from entrypoint.program import elf
from entrypoint.program.replace import with_home
from entrypoint.program.resolve import resolve_command
from migrator.errors import CommandNotFoundError, MigratorError, NotExecutableError
from tests.support.processes import clean_environment

PYTHON = Path(sys.executable).resolve()


def script(path: Path, text: str = "#!/bin/sh\nexit 0\n", mode: int = 0o755) -> Path:
    """Write a program as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


def refused(command: object, environ: Mapping[str, str] | None = None) -> MigratorError:
    """Return the error of a command that cannot be executed."""
    with pytest.raises((CommandNotFoundError, NotExecutableError)) as caught:
        resolve_command(str(command), environ or {"PATH": "/usr/bin:/bin"})
    assert caught.value.hint
    return caught.value


def run_child(code: str, *args: object, env: Mapping[str, str] | None = None) -> str:
    """Run code in a process of its own and return what came out of stdout."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**clean_environment(), **(env or {})},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- Where it is looked for ---


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a slash is not looked for in PATH, and stays as it was given."""
    script(tmp_path / "app")
    monkeypatch.chdir(tmp_path)

    assert resolve_command(str(tmp_path / "app"), {}) == str(tmp_path / "app")
    assert resolve_command("./app", {"PATH": "/nowhere"}) == "./app"


def test_the_first_in_path_counts(tmp_path: Path) -> None:
    """The directories of PATH are looked through in their order."""
    script(tmp_path / "b" / "app")
    script(tmp_path / "c" / "app")
    path = f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"

    assert resolve_command("app", {"PATH": path}) == f"{tmp_path}/b/app"


def test_what_cannot_be_executed_is_passed_over(tmp_path: Path) -> None:
    """As execvp(3) does, the search goes on behind a file without permission and a directory."""
    script(tmp_path / "a" / "app", mode=0o644)
    (tmp_path / "b" / "app").mkdir(parents=True)
    script(tmp_path / "c" / "app")
    path = f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"

    assert resolve_command("app", {"PATH": path}) == f"{tmp_path}/c/app"


def test_if_none_can_be_executed_the_first_is_named(tmp_path: Path) -> None:
    """Found and not executable is 126, even where other directories have nothing."""
    script(tmp_path / "a" / "app", mode=0o644)

    error = refused("app", {"PATH": f"{tmp_path}/x:{tmp_path}/a"})

    assert error.exit_code == 126
    assert f"{tmp_path}/a/app" in error.message
    assert "mode 0644" in error.message


@pytest.mark.parametrize("path", ["", ":/nowhere", "/nowhere:"])
def test_an_empty_entry_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An empty entry of PATH means the working directory, as POSIX has it."""
    script(tmp_path / "app")
    monkeypatch.chdir(tmp_path)

    assert resolve_command("app", {"PATH": path}) == "./app"


def test_without_path_the_default_counts() -> None:
    """PATH not set at all means the system's default."""
    assert resolve_command("sh", {}) in ("/bin/sh", "/usr/bin/sh")


@pytest.mark.parametrize("command", ["no-such-app", "", "/no/such/app", "./no-such-app"])
def test_what_does_not_exist_is_127(command: str) -> None:
    """A missing command is 127, and the message names it."""
    error = refused(command)

    assert (error.exit_code, error.reason) == (127, "command.not_found")
    assert repr(command) in error.message


def test_path_itself_is_not_told() -> None:
    """No value of the environment is logged."""
    error = refused("no-such-app", {"PATH": "/secret:/usr/bin"})

    assert "/secret" not in f"{error.message} {error.hint} {error.data}"


def test_a_file_on_the_way_is_127(tmp_path: Path) -> None:
    """A path below a file does not exist."""
    script(tmp_path / "app")

    assert refused(tmp_path / "app" / "x").exit_code == 127


# --- What it is ---


def test_a_directory_is_126(tmp_path: Path) -> None:
    """A directory has the permission and is no program."""
    error = refused(tmp_path)

    assert (error.exit_code, error.reason) == (126, "command.not_executable")
    assert "is a directory" in error.message


def test_a_pipe_is_126_and_is_not_opened(tmp_path: Path) -> None:
    """Opening a named pipe would wait for ever; it is refused by its kind."""
    os.mkfifo(tmp_path / "app", 0o777)

    assert "not a regular file" in refused(tmp_path / "app").message


@pytest.mark.parametrize(
    ("text", "what"), [("echo hello\n", "neither as a binary nor"), ("", "it is empty")]
)
def test_a_script_without_a_first_line_is_126(tmp_path: Path, text: str, what: str) -> None:
    """Without `#!` the kernel says "exec format error"; the hint says what to add."""
    error = refused(script(tmp_path / "app", text))

    assert error.exit_code == 126
    assert "exec format error" in error.message
    assert what in error.message
    assert "#!/bin/sh" in error.hint


def test_the_kernel_agrees_about_first_lines(tmp_path: Path) -> None:
    """What is refused here is what execve refuses, with the same errors."""
    cases = {
        "echo\n": errno.ENOEXEC,
        "#!\n": errno.ENOEXEC,
        "#! \t\n": errno.ENOEXEC,
        "#!/no/such\n": errno.ENOENT,
        "#!/bin/sh\r\n": errno.ENOENT,
        "#!/etc/passwd\n": errno.EACCES,
        "#!/\n": errno.EACCES,
        "#! /bin/sh -e\n": None,
        "#!/bin/sh": None,
    }
    code = (
        "import os, sys\ntry: os.execv(sys.argv[1], ['app'])\n"
        "except OSError as error: print(error.errno)"
    )
    for number, (text, expected) in enumerate(cases.items()):
        app = script(tmp_path / str(number), text)
        said = run_child(code, app).strip()
        assert said == ("" if expected is None else str(expected)), text
        if expected is None:
            assert resolve_command(str(app), {}) == str(app)
        else:
            wanted = 127 if expected == errno.ENOENT else 126
            assert refused(app).exit_code == wanted, text


def test_a_missing_interpreter_is_127(tmp_path: Path) -> None:
    """The script is there and its interpreter is not: the message names both."""
    app = script(tmp_path / "app", "#!/usr/bin/no-such-python\n")

    error = refused(app)

    assert error.exit_code == 127
    assert str(app) in error.message
    assert "/usr/bin/no-such-python" in error.message


def test_windows_line_ends_are_named(tmp_path: Path) -> None:
    """The commonest cause of a "missing" /bin/sh is said in so many words."""
    error = refused(script(tmp_path / "app", "#!/bin/sh\r\nexit 0\r\n"))

    assert error.exit_code == 127
    assert "CRLF" in error.message
    assert "sed -i" in error.hint


def test_windows_line_ends_behind_env_are_named(tmp_path: Path) -> None:
    """`#!/usr/bin/env python3` with CRLF looks for a program whose name ends in CR."""
    error = refused(script(tmp_path / "app", "#!/usr/bin/env sh\r\n"))

    assert error.exit_code == 127
    assert "CRLF" in error.message


def test_an_interpreter_without_permission_is_126(tmp_path: Path) -> None:
    """An interpreter that may not be executed stops its scripts."""
    script(tmp_path / "python", mode=0o644)

    error = refused(script(tmp_path / "app", f"#!{tmp_path}/python\n"))

    assert error.exit_code == 126
    assert "its interpreter" in error.message


def test_interpreters_may_be_scripts(tmp_path: Path) -> None:
    """A script may have a script as its interpreter, down to a binary; a circle is 126."""
    script(tmp_path / "inner")
    app = script(tmp_path / "app", f"#!{tmp_path}/inner\n")
    loop = script(tmp_path / "loop", f"#!{tmp_path}/loop\n")

    assert resolve_command(str(app), {}) == str(app)
    assert refused(loop).exit_code == 126


def test_what_env_would_not_find_is_127(tmp_path: Path) -> None:
    """`#!/usr/bin/env NAME` ends in 127 only after the exec; it is found out before."""
    app = script(tmp_path / "app", "#!/usr/bin/env no-such-python\n")

    error = refused(app)

    assert error.exit_code == 127
    assert "no-such-python" in error.message


@pytest.mark.parametrize(
    "line", ["#!/usr/bin/env -S sh -e", "#!/usr/bin/env X=1", "#!/usr/bin/env sh"]
)
def test_what_env_can_do_besides_is_left_to_it(tmp_path: Path, line: str) -> None:
    """Options and assignments of `env` are its own business."""
    app = script(tmp_path / "app", line + "\n")

    assert resolve_command(str(app), {"PATH": "/usr/bin:/bin"}) == str(app)


# --- Binaries ---


def elf_head(
    *, machine: int, order: str = "<", loader: bytes | None = None, wide: bool = True
) -> bytes:
    """Return the beginning of a binary."""
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    size = (64, 56) if wide else (52, 32)
    form = "HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"
    count = 0 if loader is None else 2
    head = ident + struct.pack(
        order + form, 2, machine, 1, 0, size[0], 0, 0, size[0], size[1], count, 0, 0, 0
    )
    if loader is None:
        return head
    at, length = size[0] + 2 * size[1], len(loader) + 1
    if wide:
        first = struct.pack(order + "IIQQQQQQ", 6, 4, 64, 0, 0, 112, 112, 8)
        second = struct.pack(order + "IIQQQQQQ", 3, 4, at, 0, 0, length, length, 1)
    else:
        first = struct.pack(order + "IIIIIIII", 6, 52, 0, 0, 64, 64, 4, 4)
        second = struct.pack(order + "IIIIIIII", 3, at, 0, 0, length, length, 4, 1)
    return head + first + second + loader + b"\0"


def write_binary(path: Path, content: bytes) -> Path:
    """Write a program as bytes."""
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def our_machine() -> int:
    """Return what this machine is called in a binary."""
    found = elf._our_machine()
    assert found is not None
    return found[1]


def test_a_real_binary_passes() -> None:
    """A program of this machine with its loader is what is wanted."""
    assert resolve_command(str(PYTHON), {}) == str(PYTHON)


def test_the_loader_of_a_real_binary_is_found() -> None:
    """The loader that is read is the one that the system's own tool names."""
    with PYTHON.open("rb") as file:
        loader = elf.interpreter(file.read(256), file.fileno())

    assert loader is not None
    assert Path(loader).exists()


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_loaders_of_every_class_are_read(tmp_path: Path, wide: bool, order: str) -> None:
    """32 and 64 bits, both byte orders."""
    content = elf_head(machine=40, order=order, loader=b"/lib/ld-x.so.1", wide=wide)
    path = write_binary(tmp_path / "app", content)

    with path.open("rb") as file:
        assert elf.interpreter(content[:256], file.fileno()) == "/lib/ld-x.so.1"


@pytest.mark.parametrize(
    ("loader", "libc"),
    [("/lib64/ld-linux-none.so.2", "glibc"), ("/lib/ld-musl-none.so.1", "musl")],
)
def test_a_binary_for_another_libc_is_127(tmp_path: Path, loader: str, libc: str) -> None:
    """The kernel's "no such file" for a program that is there is explained."""
    content = elf_head(machine=our_machine(), loader=loader.encode())

    error = refused(write_binary(tmp_path / "app", content))

    assert error.exit_code == 127
    assert loader in error.message
    assert f"built for {libc}" in error.message


def test_a_binary_for_another_machine_is_126(tmp_path: Path) -> None:
    """An image pulled for the wrong platform is found out before anything runs."""
    error = refused(write_binary(tmp_path / "app", elf_head(machine=22)))

    assert error.exit_code == 126
    assert "built for s390x" in error.message
    assert "--platform" in error.hint


@pytest.mark.parametrize(
    ("ours", "theirs", "foreign"),
    [
        (("little", 62), ("<", 3), None),
        (("little", 183), ("<", 40), None),
        (("little", 40), ("<", 183), None),
        (("little", 21), (">", 21), "64-bit PowerPC"),
        (("little", 62), ("<", 183), "64-bit ARM"),
        (("little", 62), ("<", 4711), "machine type 4711"),
        (None, ("<", 183), None),
    ],
)
def test_machines_that_a_kernel_may_run_pass(
    monkeypatch: pytest.MonkeyPatch,
    ours: tuple[str, int] | None,
    theirs: tuple[str, int],
    foreign: str | None,
) -> None:
    """32-bit programs on a 64-bit kernel are the kernel's to decide; other machines are not."""
    monkeypatch.setattr(elf, "_our_machine", lambda: ours)

    assert elf.foreign_machine(elf_head(machine=theirs[1], order=theirs[0])) == foreign


def test_a_broken_binary_is_left_to_the_kernel(tmp_path: Path) -> None:
    """What cannot be read of a binary is no reason to refuse it."""
    path = write_binary(tmp_path / "app", elf_head(machine=our_machine())[:20])

    assert resolve_command(str(path), {}) == str(path)


def _format(directory: Path, name: str, *lines: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "status").write_text("enabled\n")
    (directory / name).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("lines", "takes"),
    [
        (("enabled", "interpreter /q", "flags: F", "offset 0", "magic cafe"), True),
        (("enabled", "interpreter /q", "flags: ", "offset 2", "magic ba00", "mask ff00"), True),
        (("enabled", "interpreter /q", "flags: ", "offset 0", "magic cafebabf"), False),
        (("disabled", "interpreter /q", "flags: ", "offset 0", "magic cafe"), False),
        (("enabled", "interpreter /q", "flags: ", "extension .jar"), True),
        (("enabled", "interpreter /q", "flags: ", "extension .exe"), False),
        (("enabled", "interpreter /q", "flags: ", "offset 0", "magic nothex"), False),
        (("",), False),
    ],
)
def test_registered_formats_are_known(tmp_path: Path, lines: tuple[str, ...], takes: bool) -> None:
    """What an operator registered with the kernel is taken by magic, mask and extension."""
    _format(tmp_path / "misc", "entry", *lines)

    taken = elf.has_registered_format("/app/x.jar", b"\xca\xfe\xba\xbe", str(tmp_path / "misc"))

    assert taken is takes


def test_formats_that_are_switched_off_take_nothing(tmp_path: Path) -> None:
    """With the whole facility disabled, or its directory absent, no format counts."""
    _format(tmp_path / "misc", "entry", "enabled", "extension .jar")
    (tmp_path / "misc" / "status").write_text("disabled\n")

    assert elf.has_registered_format("/app/x.jar", b"", str(tmp_path / "misc")) is False
    assert elf.has_registered_format("/app/x.jar", b"", str(tmp_path / "none")) is False


# --- As whom ---


def _try_as(path: Path, uid: int) -> Any:
    code = f"""
import json, sys
from entrypoint.identities import User
from entrypoint.program.resolve import resolve_command
from migrator.errors import MigratorError
try:
    print(json.dumps(resolve_command(sys.argv[1], {{}}, user=User({uid}, {uid}))))
except MigratorError as error:
    print(json.dumps([error.exit_code, error.message]))
"""
    return json.loads(run_child(code, path))


@pytest.mark.root
def test_permission_is_that_of_the_target_user(open_path: Path, as_root: None) -> None:
    """What root may execute and the application's user may not is 126 before anything runs."""
    app = script(open_path / "app", mode=0o744)

    assert resolve_command(str(app), {}) == str(app)
    assert _try_as(app, 0) == str(app)
    code, message = _try_as(app, 12345)
    assert code == 126
    assert "12345:12345 has no permission" in message
    assert "mode 0744, owner 0:0" in message


@pytest.mark.root
def test_a_closed_directory_on_the_way_is_126(open_path: Path, as_root: None) -> None:
    """A command that the user cannot reach cannot be executed by it."""
    app = script(open_path / "closed" / "app")
    app.parent.chmod(0o700)

    code, message = _try_as(app, 12345)

    assert code == 126
    assert "Permission denied" in message


@pytest.mark.root
def test_what_may_be_executed_and_not_read_passes(open_path: Path, as_root: None) -> None:
    """A file with x alone starts as any other, so it is not refused."""
    app = open_path / "app"
    shutil.copy("/bin/true", app)
    app.chmod(0o711)

    assert _try_as(app, 12345) == str(app)


@pytest.mark.root
def test_a_file_system_without_exec_is_named(tmp_path: Path, as_root: None) -> None:
    """With `noexec` the mode is right and the mount is not; the message says which."""
    code = f"""
from entrypoint.program.resolve import resolve_command
from migrator.errors import NotExecutableError
try:
    resolve_command("{tmp_path}/m/app", {{}})
except NotExecutableError as error:
    print(error.message)
"""
    (tmp_path / "m").mkdir()
    shell = (
        f"mount -t tmpfs -o noexec tmpfs {tmp_path}/m && cp /bin/true {tmp_path}/m/app"
        ' && exec "$0" -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", shell, sys.executable, code],
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )

    assert "noexec" in done.stdout


# --- The environment ---


def test_the_environment_is_as_it_was_received() -> None:
    """Python's own LC_CTYPE is not in it, and bytes that are no text are kept."""
    code = """
import os, sys
from entrypoint.program.replace import original_environment
sys.stdout.write(repr((sorted(original_environment()), "LC_CTYPE" in os.environ)))
"""
    given = {b"PATH": b"/bin", b"ODD": b"\xff=\n", b"EMPTY": b"", **_python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=given, check=True, capture_output=True, text=True
    )

    entries = sorted(name + b"=" + value for name, value in given.items())
    assert done.stdout == repr((entries, True))


def _python_path() -> dict[bytes, bytes]:
    path = clean_environment().get("PYTHONPATH")
    return {} if path is None else {b"PYTHONPATH": os.fsencode(path)}


NO_PROC = """
import builtins
real = open

def closed(path, *args, **options):
    if path == "/proc/self/environ":
        raise PermissionError
    return real(path, *args, **options)

builtins.open = closed
"""


@pytest.mark.parametrize("proc", ["", NO_PROC], ids=["with /proc", "without /proc"])
def test_the_application_gets_every_entry_as_it_was_received(tmp_path: Path, proc: str) -> None:
    """Doubled entries, one without `=` and one without a name arrive, in their order."""
    source = tmp_path / "run.c"
    source.write_text(
        "#include <unistd.h>\n"
        'int main(int n, char **a) { char *e[] = {a[3], "A=1", "B=", "A=2", "junk", "=x", 0};\n'
        'execle(a[1], a[1], "-c", a[2], (char *)0, e); return 1; }\n'
    )
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    subprocess.run([compiler, "-o", tmp_path / "run", source], check=True)
    code = (
        f"{proc}\nfrom entrypoint.program.replace import original_environment, replace_process\n"
        'replace_process("/bin/cat", ["cat", "/proc/self/environ"], original_environment())'
    )
    path = "PYTHONPATH=" + clean_environment().get("PYTHONPATH", "")

    done = subprocess.run(
        [tmp_path / "run", sys.executable, code, path], check=True, capture_output=True, text=True
    )

    assert done.stdout.split("\0")[:-1] == [path, "A=1", "B=", "A=2", "junk", "=x"]


@pytest.mark.parametrize("given", [None, "C.UTF-8"])
@pytest.mark.parametrize("first", [True, False])
def test_without_proc_pythons_own_lc_ctype_is_known(given: str | None, first: bool) -> None:
    """LC_CTYPE is passed on only where it was received, wherever in the environment it stands."""
    code = f"{NO_PROC}\nfrom entrypoint.program.replace import original_environment; print(original_environment())"
    others = {"PATH": "/bin", "MARK": "1", **clean_environment({"LC_CTYPE": None})}
    own = {} if given is None else {"LC_CTYPE": given}
    env = {**own, **others} if first else {**others, **own}
    env.pop("LC_ALL", None)
    env.pop("LANG", None)

    done = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
    )

    assert done.stdout.strip() == repr([f"{n}={v}".encode() for n, v in env.items()])


def test_another_home_takes_the_place_of_every_one() -> None:
    """Only `HOME` changes, and there is one of it."""
    received = [b"HOME=/a", b"HOMES=x", b"HOME=/b", b"junk"]
    assert with_home(received, b"/c") == [b"HOMES=x", b"junk", b"HOME=/c"]


# --- Becoming ---

REPORT = """#!/bin/sh
echo "args: $0 $*"
echo "pid: $$"
echo "cwd: $(pwd) umask: $(umask)"
grep -E '^Sig(Blk|Ign|Cgt)' /proc/$$/status | tr '\\t' ' '
echo "env:" $(tr '\\0' ' ' < /proc/$$/environ)
ls /proc/$$/fd
"""


def test_the_application_starts_clean(tmp_path: Path) -> None:
    """Same process, its environment, default signals, none blocked, no timer, none of our files."""
    app = script(tmp_path / "app", REPORT)
    code = """
import os, signal, sys
from entrypoint.program.replace import replace_process
print("said before")
print("pid:", os.getpid())
ours = open("/dev/null")
signal.signal(signal.SIGTERM, lambda *a: None)
signal.signal(signal.SIGIO, signal.SIG_IGN)
signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
signal.setitimer(signal.ITIMER_REAL, 0.05)
os.chdir("/tmp"); os.umask(0o027)
replace_process(sys.argv[1], ["name", "a b", ""], [b"X=\\xff1", b"PATH=/usr/bin:/bin"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, app],
        env=clean_environment(),
        check=True,
        capture_output=True,
    )
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()

    assert lines[0] == "said before"
    assert lines[1] == lines[3]
    # The kernel gives a script its path in the place of the name.
    assert lines[2] == f"args: {app} a b "
    assert lines[4] == "cwd: /tmp umask: 0027"
    assert lines[5] == "SigBlk: 0000000000000000"
    # 32 and 33 are glibc's own: its posix_spawn, by which this test may start
    # a process, leaves them ignored, and no program can change that through it.
    assert int(lines[6].split()[1], 16) & ~0x180000000 == 0
    assert lines[8].startswith("env: X=\udcff1 PATH=/usr/bin:/bin")
    # The shell's own script takes a descriptor from 10 on.
    assert {int(number) for number in lines[9:]} <= {0, 1, 2, 10, 255}


def test_a_stop_in_the_last_moment_starts_nothing(tmp_path: Path) -> None:
    """As process 1 it would be lost: so it is looked for when no handler is left."""
    code = """
import os, signal, sys
from entrypoint.program.replace import replace_process
from migrator.errors import InterruptedRunError
from migrator.process.signals import Signals
signals = Signals.install()
signals.note_only()
signals.hold()
os.kill(os.getpid(), signal.SIGTERM)
try:
    replace_process("/bin/echo", ["echo", "started"], [])
except InterruptedRunError as error:
    print(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), check=True, capture_output=True
    )
    assert done.stdout == b"143\n"


def test_the_first_argument_is_the_command_as_given(tmp_path: Path) -> None:
    """A program that looks at its own name sees what was asked for."""
    code = (
        "import sys; from entrypoint.program.replace import replace_process\n"
        "replace_process('/bin/sh', ['my-name', '-c', 'echo $0'], [])"
    )

    assert run_child(code) == "my-name\n"


def test_inherited_descriptors_stay(tmp_path: Path) -> None:
    """What the caller opened for the application reaches it."""
    read, write = os.pipe()
    code = (
        "import sys; from entrypoint.program.replace import replace_process\n"
        f"replace_process('/bin/sh', ['sh', '-c', 'echo hello > /proc/self/fd/{write}'], [])"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), pass_fds=[write], check=True
    )
    os.close(write)

    assert os.read(read, 100) == b"hello\n"
    os.close(read)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("missing", None, 127), ("text", "no program\n", 126), ("huge", "#!/bin/sh\n", 126)],
)
def test_an_exec_that_fails_after_all_has_its_code(
    tmp_path: Path, name: str, content: str | None, code: int
) -> None:
    """Whatever has changed since the examination ends with the code that a shell would give."""
    app = tmp_path / name
    if content is not None:
        script(app, content)
    argument = "x" * (300_000 if name == "huge" else 1)
    run = f"""
import sys
from entrypoint.program.replace import replace_process
from migrator.errors import MigratorError
try:
    replace_process(sys.argv[1], ["app", {argument!r}], [])
except MigratorError as error:
    print(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-", str(app)],
        input=run,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == f"{code}\n"

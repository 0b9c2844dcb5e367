"""`migrator completion`: the words of every command and option, for a shell to complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from migrator.commands.kinds import PROGRAM, Make
from migrator.options.model import Argument, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.options.model import Arguments

_SHELLS = ("bash", "zsh", "fish")


def command_for(commands: Callable[[], Sequence[Command]]) -> Make:
    """Return the command; `commands` returns all that it completes, this one among them."""

    def make(_source: str, given: Arguments) -> str:
        return _completion(given["shell"], commands())

    return Make(
        "completion SHELL",
        "print what makes bash, zsh or fish complete the command line",
        "migrator completion bash",
        argument=Argument("shell", "SHELL", "bash, zsh or fish"),
        make=make,
    )


def _completion(shell: str, commands: Sequence[Command]) -> str:
    from migrator.errors import UsageError
    from migrator.options import completion
    from migrator.options.suggest import closest
    from migrator.options.table import ENGINE_OPTIONS

    if shell not in _SHELLS:
        msg = f"SHELL of `{PROGRAM} completion` is {shell!r}; expected bash, zsh or fish."
        meant = closest(shell, _SHELLS)
        hint = f"Did you mean {meant}?" if meant else "Give the name of your shell."
        raise UsageError(msg, hint=hint)
    write = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}[shell]
    return write(PROGRAM, ENGINE_OPTIONS, commands)

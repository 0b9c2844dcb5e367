"""`migrator completion`: the words of every command and option, for a shell to complete."""

from __future__ import annotations

from migrator.commands.kinds import Make
from migrator.options.model import Argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.options.model import Arguments

_SHELLS = ("bash", "zsh", "fish")


def _completion(_source: str, given: Arguments) -> str:
    from migrator.commands.table import COMMANDS, PROGRAM
    from migrator.errors import UsageError
    from migrator.options import completion
    from migrator.options.suggest import closest
    from migrator.options.table import ENGINE_OPTIONS

    shell = given["shell"]
    if shell not in _SHELLS:
        msg = f"SHELL of `{PROGRAM} completion` is {shell!r}; expected bash, zsh or fish."
        meant = closest(shell, _SHELLS)
        hint = f"Did you mean {meant}?" if meant else "Give the name of your shell."
        raise UsageError(msg, hint=hint)
    write = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}[shell]
    return write(PROGRAM, ENGINE_OPTIONS, COMMANDS)


COMMAND = Make(
    "completion SHELL",
    "print what makes bash, zsh or fish complete the command line",
    "migrator completion bash",
    argument=Argument("shell", "SHELL", "bash, zsh or fish"),
    make=_completion,
)

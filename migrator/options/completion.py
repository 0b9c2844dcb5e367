"""
What makes a shell complete a command line, written from the tables of options and commands.

The forms are those of the shells' own manuals: `complete` and `compgen` of bash(1),
`_arguments` of zshcompsys(1), `complete` of fish.
"""

from __future__ import annotations

from shlex import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from migrator.options.model import Command, Option

_PATHS = ("PATH", "DIR", "SOURCE", "FILE", "FILE.py")
"""What stands in the help for a value that is a path."""
_ARGUMENTS = {"BACKUP": ("latest",), "SHELL": ("bash", "zsh", "fish")}
"""Words that may stand for an argument, by what stands for it in the help."""


def bash(program: str, options: Sequence[Option], commands: Sequence[Command]) -> str:
    """Return a function for bash, and the line that installs it."""
    own = [option for command in commands for option in command.options]
    values = "\n".join(
        _bash_values(option) for option in _once([*options, *own]) if not option.switch
    )
    general = " ".join(option.flag for option in options)
    names = " ".join(command.name for command in commands)
    words = "\n".join(
        f"        {command.name}) words={quote(' '.join(_words(command)))} ;;"
        for command in commands
        if _words(command)
    )
    return f"""_{program}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local each command= words=
    COMPREPLY=()
    case $before in
{values}
    esac
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case " {names} " in
            *" $each "*) command=$each; break ;;
        esac
    done
    case $command in
        "") words='{names} --version' ;;
{words}
    esac
    COMPREPLY=($(compgen -W "$words {general} --help" -- "$word"))
}}
complete -F _{program} {program}
"""


def _bash_values(option: Option) -> str:
    how = "-f"
    if option.choices:
        how = f"-W {quote(' '.join(option.choices))}"
    elif option.metavar not in _PATHS:
        return f"        {option.flag}) return ;;"
    return f'        {option.flag}) COMPREPLY=($(compgen {how} -- "$word")); return ;;'


def zsh(program: str, options: Sequence[Option], commands: Sequence[Command]) -> str:
    """Return a function for zsh, which is also a file for its `fpath`."""
    general = " \\\n        ".join(_zsh_option(option) for option in options)
    described = "\n".join(
        f"        {quote(f'{command.name}:{command.summary}')}" for command in commands
    )
    own = "\n".join(
        f"            {command.name}) _arguments {' '.join(_zsh_words(command))} $general ;;"
        for command in commands
    )
    return f"""#compdef {program}
_{program}() {{
    local state line
    local -a commands general
    commands=(
{described}
    )
    general=(
        {general}
        '--help[show the help and exit]'
    )
    _arguments -C $general '--version[show the version and exit]' '1: :->command' '*:: :->rest'
    case $state in
        command) _describe command commands ;;
        rest) case $words[1] in
{own}
        esac ;;
    esac
}}
if [[ $funcstack[1] == _{program} ]]; then _{program} "$@"; else compdef _{program} {program}; fi
"""


def _zsh_option(option: Option) -> str:
    about = option.help.replace("\\\\", "").replace("[", "(").replace("]", ")").replace(":", ",")
    if option.switch:
        return quote(f"{option.flag}[{about}]")
    values = f"({' '.join(option.choices)})" if option.choices else ""
    values = values or ("_files" if option.metavar in _PATHS else " ")
    return quote(f"{option.flag}[{about}]:{option.value_name}:{values}")


def _zsh_words(command: Command) -> list[str]:
    found = [_zsh_option(option) for option in command.options]
    if command.argument is not None:
        known = " ".join(_ARGUMENTS.get(command.argument.metavar, ()))
        found.append(quote(f"1:{command.argument.metavar}:{f'({known})' if known else ' '}"))
    return found


def fish(program: str, options: Sequence[Option], commands: Sequence[Command]) -> str:
    """Return the lines for fish."""
    start = f"complete -c {program}"
    lines = [f"{start} -f"]
    for command in commands:
        first = f"{start} -n __fish_use_subcommand -a {command.name}"
        lines.append(f"{first} -d {quote(command.summary)}")
        there = f"{start} -n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"{there} {_fish_option(option)}" for option in command.options]
        known = _ARGUMENTS.get(command.argument.metavar, ()) if command.argument else ()
        lines += [f"{there} -a {quote(' '.join(known))}"] if known else []
    lines += [f"{start} {_fish_option(option)}" for option in options]
    lines += [f"{start} -l help -d 'show the help and exit'"]
    lines += [f"{start} -n __fish_use_subcommand -l version -d 'show the version and exit'"]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    name = f"-l {option.flag.removeprefix('--')} -d {quote(option.help)}"
    if option.switch:
        return name
    if option.choices:
        return f"{name} -x -a {quote(' '.join(option.choices))}"
    return f"{name} {'-r -F' if option.metavar in _PATHS else '-x'}"


def _words(command: Command) -> list[str]:
    known = _ARGUMENTS.get(command.argument.metavar, ()) if command.argument else ()
    return [*(option.flag for option in command.options), *known]


def _once(options: Iterable[Option]) -> list[Option]:
    """Leave out the second of two commands' options of one flag."""
    return list({option.flag: option for option in options}.values())

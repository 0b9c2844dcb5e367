"""Variables whose names are not ours but look as if they were meant to be."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from migrator.errors import UsageError
from migrator.value import Value

_PREFIX = "MIGRATOR_"

# Kubernetes puts these into every container of a namespace that has a Service
# called `migrator` or `migrator-...` (its documentation: "Environment variables").
_SERVICE_LINK = (
    r"MIGRATOR_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class Ignored(Value):
    """A variable with our prefix that means nothing to this version."""

    variable: str
    message: str


def check_variables(environ: Mapping[str, str], known: Collection[str]) -> tuple[Ignored, ...]:
    """
    Look for variables that were meant to be ours.

    Args:
        environ: The environment.
        known: The names of every variable of both programs.

    Returns:
        The unknown `MIGRATOR_...` variables, to warn about: a rolled-back
        image meets the variables of a newer one.

    Raises:
        UsageError: A variable that is set is one slip away from one of ours.
    """
    suspects = [name for name in environ if _looks_like_ours(name) and name not in known]
    strangers = []
    for name in sorted(suspects):
        if not environ[name] or re.fullmatch(_SERVICE_LINK, name):
            continue
        from migrator.options.suggest import one_slip

        meant = next((right for right in known if one_slip(name, right)), None)
        if meant is not None:
            raise _misspelled(name, environ[name], meant)
        if name.startswith(_PREFIX):
            strangers.append(_ignored(name))
    return tuple(strangers)


def _looks_like_ours(name: str) -> bool:
    """Sort most names out at once: one slip leaves one of these two parts whole."""
    return "MIG" in name or "TOR_" in name


def _misspelled(name: str, value: str, meant: str) -> UsageError:
    msg = f"The variable {name} is set to {value!r}, which is not a setting; did you mean {meant}?"
    hint = f"Rename it to {meant}, or remove it if it belongs to something else."
    return UsageError(msg, hint=hint, data={"variable": name})


def _ignored(name: str) -> Ignored:
    msg = f"The variable {name} is unknown to this version and has no effect."
    return Ignored(name, msg)

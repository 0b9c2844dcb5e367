"""`migrator up`: run what is pending."""

from __future__ import annotations

from migrator.commands.kinds import Done, Run, done
from migrator.options.model import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from migrator.engine.parent import Parent


def _up(parent: Parent, _given: Arguments) -> Done:
    if parent.settings.rehearse:
        from migrator.rehearsal.first import bring_up_to_date
    else:
        from migrator.run import bring_up_to_date

    return done("Applied", bring_up_to_date(parent))


COMMAND = Run(
    "up",
    "run what is pending",
    "migrator up --database app.db",
    elsewhere=("migrate", "upgrade", "apply", "deploy"),
    work=_up,
)

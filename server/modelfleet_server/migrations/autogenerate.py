"""How a revision is written: what alembic finds, and the triggers of append-only tables."""

from collections.abc import Iterable

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations import MigrateOperation, MigrationScript
from alembic.operations.ops import CreateTableOp


class ForbidChangesOp(MigrateOperation):
    """Make a new table append-only."""

    def __init__(self, table: str) -> None:
        self.table = table


@renderers.dispatch_for(ForbidChangesOp)
def render_forbid_changes(context: AutogenContext, op: ForbidChangesOp) -> str:
    """Return the line for the revision's file."""
    context.imports.add("from modelfleet_server.migrations.triggers import forbid_changes")
    return f"forbid_changes(op.execute, op.get_bind().dialect.name, {op.table!r})"


def complete_revision(
    _context: MigrationContext,
    _revision: str | Iterable[str | None],
    directives: list[MigrationScript],
) -> None:
    """Add triggers for new append-only tables; write no file when nothing changed."""
    for script in list(directives):
        upgrades = script.upgrade_ops
        if upgrades is None or upgrades.is_empty():
            directives.remove(script)
            continue
        upgrades.ops += [
            ForbidChangesOp(op.table_name)
            for op in upgrades.ops
            if isinstance(op, CreateTableOp) and op.info.get("append_only")
        ]

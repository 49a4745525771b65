"""Alembic's entry: runs revisions on the connection that `migrations` hands over."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel.sql.sqltypes import AutoString

from modelfleet_server.kit.words import Words
from modelfleet_server.migrations.autogenerate import complete_revision

OURS = {Words.__name__, AutoString.__name__}


def render(kind: str, thing: Any, _autogen: AutogenContext) -> str | Literal[False]:  # noqa: ANN401
    """Write our column types as plain ones, so that revisions do not depend on the code."""
    if kind == "type" and type(thing).__name__ in OURS:
        return f"sa.String(length={thing.length})" if thing.length else "sa.String()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    render_item=render,
    render_as_batch=True,
    transactional_ddl=True,
    process_revision_directives=complete_revision,
)
with context.begin_transaction():
    context.run_migrations()

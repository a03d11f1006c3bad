"""How Alembic reaches the mart: database, schema name, engine and policies of the settings.

``alembic -x config=FILE`` names the settings file; a program passes the settings themselves as
``config.attributes["settings"]``. Migrations are written for the schema ``mart`` and translated
where the settings give another name. Everything else is :mod:`ravenwh.timescale`'s.
"""

from __future__ import annotations

from pathlib import Path

from alembic import context

from ravenwh.app.database import database_of
from ravenwh.config import load
from ravenwh.domain.settings import Settings, Timescale
from ravenwh.schema import Base
from ravenwh.timescale import env


def settings() -> Settings:
    """What the caller passed, or what the settings file and the environment say."""
    given: Settings | None = context.config.attributes.get("settings")
    if given is not None:
        return given
    file = context.get_x_argument(as_dictionary=True).get("config")
    return load(Path(file) if file else None)


def run(url: str | None, timescale: Timescale) -> None:
    """Run what was asked for; without a URL, print it."""
    env.run(
        context,
        metadata=Base.metadata,
        url=url,
        schema=timescale.schema,
        engine=timescale.engine,
        policies=timescale.policy_times,
    )


current = settings()
if context.is_offline_mode():
    run(None, current.timescale)
else:
    with database_of(current) as database:
        run(database.url, current.timescale)

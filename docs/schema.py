"""``docs/reference/schema.sql``: the mart as SQL, from the migrations; and the picture of it.

``python -m docs.schema`` writes both anew; ``make reference`` does.
"""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path

from alembic import command

from docs.star import star
from ravenwh.app.preflight import alembic_config
from ravenwh.domain.settings import Settings, Timescale
from ravenwh.timescale.plain import literals_apart

__all__ = ["FOLDER", "schema_sql"]

FOLDER = Path(__file__).parent / "reference"
WIDTH = 96
HEAD = """\
-- The mart of ravenwh with TimescaleDB, as the migrations make it: what
-- `ravenwh alembic -x engine=community upgrade head --sql` prints, long lines broken.
-- Written by `python -m docs.schema`; change the models and migrations, not this file.

"""
CLAUSES = re.compile(r" (?=(?:SELECT|CASE WHEN|FROM|JOIN|WHERE|GROUP BY|WITH NO DATA)\b)")


def schema_sql() -> str:
    """The script, the same each time."""
    config = alembic_config(Settings(timescale=Timescale(engine="community")))
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    lines = config.output_buffer.getvalue().strip().splitlines()
    return HEAD + "".join(f"{broken(line.rstrip())}\n" for line in lines)


def broken(line: str) -> str:
    """A long line in several: broken only at spaces outside of quotes, where SQL does not mind."""
    if len(line) <= WIDTH or "--" in line:
        return line
    pieces = [
        piece.replace(" ", "\0") if quoted else piece for quoted, piece in literals_apart(line)
    ]
    whole = "".join(pieces)
    clauses = CLAUSES.split(whole) if whole.startswith("CREATE ") else [whole]
    indent = " " * (len(line) - len(line.lstrip()))
    found = []
    for number, clause in enumerate(clauses):
        inside = 0 if number == 0 else 8 if clause.startswith("CASE") else 4
        begin = indent + " " * inside
        found += textwrap.wrap(
            clause.strip(),
            WIDTH,
            initial_indent=begin,
            subsequent_indent=f"{begin}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(found).replace("\0", " ")


if __name__ == "__main__":
    (FOLDER / "schema.sql").write_text(schema_sql(), encoding="utf-8")
    (FOLDER / "star.svg").write_text(star(), encoding="utf-8")

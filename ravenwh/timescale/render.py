"""How an operation is written into a migration: the same operation gives the same text."""

from __future__ import annotations

import textwrap
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext

from ravenwh.timescale.ops import CreateContinuousAggregate, DropContinuousAggregate, TimescaleOp
from ravenwh.timescale.plain import literals_apart

__all__ = ["render"]

WIDTH = 88
SQL = ("definition", "fallback")


@renderers.dispatch_for(TimescaleOp)
def render(context: AutogenContext, op: TimescaleOp) -> list[str]:
    """Lines of Python; notes stand above as comments."""
    prefix = context.opts.get("alembic_module_prefix") or "op."
    lines = [f"# {line}" for note in op.notes for line in textwrap.wrap(note, WIDTH)]
    if isinstance(op, DropContinuousAggregate) and op.loss:
        lines += [f"# {line}" for line in textwrap.wrap(f"DATA LOSS: {op.loss}", WIDTH)]
    arguments = [repr(op.name)]
    arguments += [f"{name}={written(name, value)}" for name, value in op.arguments().items()]
    if op.schema is not None:
        arguments.append(f"schema={op.schema!r}")
    call = f"{prefix}{op.operation}({', '.join(arguments)})"
    if isinstance(op, CreateContinuousAggregate | DropContinuousAggregate) or len(call) > WIDTH:
        inner = "".join(f"    {argument},\n" for argument in arguments)
        call = f"{prefix}{op.operation}(\n{inner})"
    return [*lines, call]


def written(name: str, value: Any) -> str:
    """One argument; SQL in lines, broken only where it may be."""
    if name not in SQL or any(sign in value for sign in ("\\", '"""')) or breaks_inside(value):
        return repr(value)
    whole = "".join(
        piece.replace(" ", "\0").replace("-", "\1") if quoted else piece
        for quoted, piece in literals_apart(value)
    )
    broken = textwrap.wrap(whole, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    text = "\n".join(f"        {line}" for line in broken).replace("\0", " ").replace("\1", "-")
    return f'"""\n{text}\n    """'


def breaks_inside(sql: str) -> bool:
    """Whether a quoted piece holds what indenting would change."""
    return any(quoted and ("\n" in piece or "\t" in piece) for quoted, piece in literals_apart(sql))

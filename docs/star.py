"""The picture of the star, drawn from the metadata: SVG, which needs no other program to be seen.

Tables that others point to stand on top. Each has a line of its own colour, which runs down on the
left and along every row of the tables that point to it. Below are the rollups, and what stands
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ravenwh.schema import Base
from ravenwh.timescale import declarations_of

__all__ = ["star"]

COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#86198f", "#b45309", "#334155")
SHORT = {
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "DOUBLE PRECISION": "double",
}
WIDEST = 1020
LETTER = 6.35
LINE = 15
HEAD = 22
SIDE = 10
GAP = 26
TEXT = 'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="10.5"'


@attrs.frozen(kw_only=True)
class Row:
    """A column of a table; ``line`` is the number of the table it points to."""

    name: str
    type: str
    is_key: bool
    line: int | None


@attrs.frozen(kw_only=True)
class Box:
    """A table with its top left corner."""

    title: str
    rows: tuple[Row, ...] = ()
    x: float = 0
    y: float = 0

    @property
    def width(self) -> float:
        """As wide as its longest line."""
        longest = max((len(r.name) + len(r.type) + 3 for r in self.rows), default=0)
        return round(max(longest, len(self.title)) * LETTER + 2 * SIDE + 8)

    @property
    def height(self) -> float:
        """The title and the columns."""
        return HEAD + (len(self.rows) * LINE + 6 if self.rows else 0)

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.y + self.height

    def drawn(self) -> Iterator[str]:
        """Its frame, title and columns."""
        yield rectangle(self.x, self.y, self.width, self.height, fill="#ffffff")
        yield rectangle(self.x, self.y, self.width, HEAD, fill="#e2e8f0")
        yield text(self.x + SIDE, self.y + 15, self.title, weight="bold")
        for number, row in enumerate(self.rows):
            y = self.y + HEAD + 13 + number * LINE
            if row.line is not None:
                yield dot(self.x + SIDE, y - 4, fill=colour(row.line))
            weight = "bold" if row.is_key else "normal"
            yield text(self.x + SIDE + 8, y, row.name, weight=weight)
            yield text(self.x + self.width - SIDE, y, row.type, fill="#64748b", anchor="end")


def star() -> str:
    """The whole picture, the same each time."""
    tables = [table for table in Base.metadata.sorted_tables if not table.is_view]
    pointed_to = sorted(
        {key.column.table for table in tables for key in table.foreign_keys},
        key=lambda table: table.name,
    )
    pointing = [table for table in tables if table.foreign_keys]
    alone = [table for table in tables if table not in pointed_to and table not in pointing]

    drawing = Drawing(pointed_to=[table.name for table in pointed_to])
    y = drawing.put_row([box(table, pointed_to) for table in pointed_to], y=16)
    y += drawing.bundle
    for row in drawing.packed([box(table, pointed_to) for table in pointing]):
        y = drawing.put_row(row, y=y + GAP + drawing.bundle)
    y = drawing.put_rollups(y + 44)
    drawing.label(drawing.gutter, y + 30, "Beside the star: what the warehouse notes about itself")
    y = drawing.put_row([box(table, pointed_to) for table in alone], y=y + 40)
    return drawing.finished(y + 44)


def box(table: sa.Table, pointed_to: Sequence[sa.Table]) -> Box:
    """The box of a table."""
    lines = {key.parent.name: pointed_to.index(key.column.table) for key in table.foreign_keys}
    return Box(
        title=table.name,
        rows=tuple(
            Row(
                name=column.name,
                type=type_of(column),
                is_key=column.primary_key,
                line=lines.get(column.name),
            )
            for column in table.columns
        ),
    )


def type_of(column: sa.Column[object]) -> str:
    """The type in a word, with a question mark where it may be null."""
    name = column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    return SHORT.get(name, name.lower()) + ("?" if column.nullable else "")


@attrs.define(kw_only=True)
class Drawing:
    """The picture as far as it is drawn."""

    pointed_to: list[str]
    parts: list[str] = attrs.Factory(list)
    width: float = 0
    first: dict[int, tuple[float, float]] = attrs.Factory(dict)
    lowest: dict[int, float] = attrs.Factory(dict)
    below: float = 0

    @property
    def bundle(self) -> float:
        """How much room all lines take, side by side."""
        return 9.0 * len(self.pointed_to)

    @property
    def gutter(self) -> float:
        """Where boxes begin: on the left of it the lines run down."""
        return 24 + self.bundle

    def packed(self, boxes: Iterable[Box]) -> Iterator[list[Box]]:
        """As many boxes in a row as there is room for."""
        row, x = list[Box](), self.gutter
        for each in boxes:
            if row and x + each.width > WIDEST:
                yield row
                row, x = [], self.gutter
            row.append(each)
            x += each.width + GAP
        if row:
            yield row

    def put_row(self, boxes: Iterable[Box], *, y: float) -> float:
        """Draw boxes side by side, and the lines that lead to them; where the row ends."""
        x, bottom = self.gutter, y
        for each in boxes:
            placed = attrs.evolve(each, x=x, y=y)
            self._lead_to(placed)
            self.parts += placed.drawn()
            if placed.title in self.pointed_to:
                number = self.pointed_to.index(placed.title)
                self.first[number] = (placed.x + 20 + 9 * number, placed.bottom)
            x, bottom = x + placed.width + GAP, max(bottom, placed.bottom)
        self.width = max(self.width, x - GAP)
        self.below = self.below or bottom
        return bottom

    def _lead_to(self, placed: Box) -> None:
        """The lines from the left edge to the top of a box, with a crow's foot: many of them."""
        for number in sorted({row.line for row in placed.rows if row.line is not None}):
            x = placed.x + 16 + 11 * number
            y = placed.y - 16 - 9 * number
            left = 12 + 9 * number
            self.parts.append(line(number, f"M{left:g} {y:g}H{x:g}V{placed.y:g}"))
            foot = f"M{x - 4:g} {placed.y:g}L{x:g} {placed.y - 7:g}L{x + 4:g} {placed.y:g}"
            self.parts.append(line(number, foot))
            self.lowest[number] = y

    def put_rollups(self, y: float) -> float:
        """What is made of what, from left to right; where it ends."""
        declared = declarations_of(Base.metadata).aggregates
        source_of = {key: spec.sources[0] for key, spec in declared.items()}
        roots = [source for source in dict.fromkeys(source_of.values()) if source not in declared]
        columns = {
            tuple(Base.metadata.tables[".".join(filter(None, k))].c.keys()) for k in declared
        }
        self.label(
            self.gutter, y, "Rollups: continuous aggregates (plain views without TimescaleDB)"
        )
        y += 12
        placed: dict[object, Box] = {}
        level, x = list(roots), self.gutter
        bottom = y
        while level:
            at, width = y, 0.0
            for key in level:
                one = Box(title=key[1], x=x, y=at)
                placed[key] = one
                self.parts += one.drawn()
                if source := placed.get(source_of.get(key)):
                    middle = x - 18
                    path = (
                        f"M{source.x + source.width:g} {source.y + HEAD / 2:g}H{middle:g}"
                        f"V{at + HEAD / 2:g}H{x:g}"
                    )
                    self.parts.insert(0, line(len(COLOURS) - 1, path))
                at, width = at + HEAD + 8, max(width, one.width)
            bottom = max(bottom, at)
            level = [key for key in declared if source_of[key] in level]
            x += width + 44
        self.width = max(self.width, x - 44)
        for names in sorted(columns):
            for number in range(0, len(names), 8):
                begin = "each has " if number == 0 else "         "
                self.label(self.gutter, bottom + 12, begin + ", ".join(names[number : number + 8]))
                bottom += LINE
        return bottom

    def label(self, x: float, y: float, words: str) -> None:
        """A line of text."""
        self.parts.append(text(x, y, words, fill="#334155"))

    def finished(self, height: float) -> str:
        """The file: the trunks behind, then everything else."""
        trunks = []
        for number, (x, bottom) in self.first.items():
            left, top = 12 + 9 * number, self.below + 3 + 9 * (len(self.pointed_to) - number)
            path = f"M{x:g} {bottom:g}V{top:g}H{left:g}V{self.lowest[number]:g}"
            trunks += [line(number, path), line(number, f"M{x - 4:g} {bottom + 5:g}h8")]
        self.label(
            self.gutter,
            height - 14,
            "bold: the key   dot: points to the table of that colour   ?: may be null",
        )
        width = self.width + 16
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" {TEXT}>',
            "<title>The tables of the mart and how they point to each other</title>",
            f'<rect width="{width:g}" height="{height:g}" rx="6" fill="#f8fafc"/>',
        )
        return "\n".join((*head, *trunks, *self.parts, "</svg>", ""))


def colour(number: int) -> str:
    """The colour of a table that is pointed to."""
    return COLOURS[number % len(COLOURS)]


def line(number: int, path: str) -> str:
    """A line in the colour of a table."""
    return f'<path d="{path}" fill="none" stroke="{colour(number)}" stroke-width="1.4"/>'


def dot(x: float, y: float, *, fill: str) -> str:
    """A mark before a column."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="3.2" fill="{fill}"/>'


def rectangle(x: float, y: float, width: float, height: float, *, fill: str) -> str:
    """A frame."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} fill="{fill}" stroke="#94a3b8"/>'


def text(
    x: float,
    y: float,
    words: str,
    *,
    weight: str = "normal",
    fill: str = "#0f172a",
    anchor: str = "start",
) -> str:
    """Words; what is as usual is not written."""
    more = "" if weight == "normal" else f' font-weight="{weight}"'
    more += "" if anchor == "start" else f' text-anchor="{anchor}"'
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}"{more} xml:space="preserve">{escape(words)}</text>'
    )

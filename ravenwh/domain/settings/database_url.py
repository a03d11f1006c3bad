"""Where the database is: ``embedded``, or an address of PostgreSQL that may hold a password."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

import attrs

from ravenwh.domain.settings.kinds import Kind
from ravenwh.domain.settings.problem import Problem, Unfit, shown
from ravenwh.domain.settings.secret import MASK, Secret

__all__ = ["DatabaseAddress", "DatabaseUrl", "Driver"]

Driver = Literal["postgresql+asyncpg", "postgresql"]

_EMBEDDED = "embedded"
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|")
_FORM = (
    '"embedded", or postgresql://USER@HOST:PORT/DATABASE with every @ : / ? # % of a user name or '
    "password written as %40 %3A %2F %3F %23 %25"
)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class DatabaseUrl:
    """``embedded``, ``postgresql://...`` or ``postgresql+asyncpg://...``, shown without password.

    Raises ValueError; its text says what is allowed, and holds no part of the address. Of the query
    only ``host`` (the folder of a socket) and ``sslmode`` (or ``ssl``) are known, since the drivers
    agree on no other. Not an attrs class, for the reason that Secret is none.
    """

    __slots__ = ("_address",)

    def __init__(self, address: str) -> None:
        self._address = Secret(address)
        allowed = None if self.embedded else _allowed_instead(address)
        if allowed:
            raise ValueError(allowed)

    @property
    def embedded(self) -> bool:
        """Whether ravenwh runs the server itself."""
        return self._address.reveal() == _EMBEDDED

    @property
    def has_password(self) -> bool:
        """Whether the address holds a password."""
        return not self.embedded and self._parts().password is not None

    def reveal(
        self, password: Secret | None = None, *, driver: Driver = "postgresql+asyncpg"
    ) -> str:
        """The whole address with its password, or with the one given, in the driver's own words.

        SQLAlchemy with asyncpg says ``ssl`` where libpq (``driver="postgresql"``) says ``sslmode``.
        The word ``embedded`` has no address: ValueError.
        """
        if self.embedded:
            msg = "the embedded server has no fixed address; its launcher tells it"
            raise ValueError(msg)
        parts = self._parts()
        user = quote(unquote(parts.username or ""), safe="")
        if password is not None:
            user += f":{quote(password.reveal(), safe='')}"
        elif parts.password is not None:
            user += f":{quote(unquote(parts.password), safe='')}"
        ssl = "ssl" if driver == "postgresql+asyncpg" else "sslmode"
        query = [(ssl if key in ("ssl", "sslmode") else key, v) for key, v in _query(parts)]
        return _join(driver, user, parts, urlencode(query, safe="/"))

    def __str__(self) -> str:
        if self.embedded:
            return _EMBEDDED
        parts = self._parts()
        user = parts.username or ""
        if parts.password is not None:
            user += f":{MASK}"
        return _join(parts.scheme, user, parts, parts.query)

    def __repr__(self) -> str:
        return f"DatabaseUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self._address == other._address if isinstance(other, DatabaseUrl) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._address)

    def _parts(self) -> SplitResult:
        return urlsplit(self._address.reveal())


@attrs.frozen(kw_only=True)
class DatabaseAddress(Kind[DatabaseUrl]):
    """``embedded`` or an address of PostgreSQL, whose password is a secret."""

    @property
    def allowed(self) -> str:
        """The two forms."""
        return '"embedded", or postgresql://USER@HOST:PORT/DATABASE'

    def read(self, value: object) -> DatabaseUrl:
        """Shows nothing of a wrong address but its scheme, since it may hold a password."""
        if isinstance(value, DatabaseUrl):
            return value
        if not isinstance(value, str):
            found = "an address" if isinstance(value, bytes) else shown(value)
            raise Unfit([Problem(text=f"found {found}; allowed: {self.allowed}")])
        try:
            return DatabaseUrl(value)
        except ValueError as error:
            scheme = re.match(r"[A-Za-z0-9+]{1,20}://", value)
            text = f"found {scheme[0] if scheme else ''}{MASK}; allowed: {error}"
        raise Unfit([Problem(text=text)])

    def plain(self, value: DatabaseUrl) -> object:
        """The address, its password masked."""
        return str(value)


def _join(scheme: str, user: str, parts: SplitResult, query: str) -> str:
    place = parts.netloc.rpartition("@")[2]
    return f"{scheme}://{user}{'@' if user else ''}{place}{parts.path}{'?' if query else ''}{query}"


def _query(parts: SplitResult) -> list[tuple[str, str]]:
    return parse_qsl(parts.query, keep_blank_values=True)


def _allowed_instead(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its text would quote the address
        return _FORM
    if parts.scheme not in ("postgresql", "postgresql+asyncpg") or "://" not in text:
        return _FORM
    user, _, place = parts.netloc.rpartition("@")
    host = place if port is None else place.removesuffix(f":{port}")
    if "@" in user or port == 0 or parts.fragment or not _HOST.fullmatch(host):
        return _FORM
    if not text.isprintable() or " " in text or not re.fullmatch(r"/[^/]+", parts.path):
        return _FORM
    for key, value in _query(parts):
        if key not in ("host", "ssl", "sslmode"):
            return "host and sslmode after its question mark, nothing else"
        if key != "host" and value not in _SSL_MODES:
            return f"for its sslmode: {', '.join(_SSL_MODES)}"
    return None

"""A secret that a file holds, read again whenever it is asked for."""

from __future__ import annotations

import stat
from pathlib import Path

import attrs

from ravenwh.domain.errors import SettingsError, Unavailable
from ravenwh.domain.settings import Secret
from ravenwh.domain.settings.toml_text import toml_text

__all__ = ["secret_of"]

_MOST_BYTES = 65_536
_ALLOWED = f"a readable file in UTF-8, of at most {_MOST_BYTES} bytes"


@attrs.frozen(kw_only=True)
class _Reader:
    path: Path

    def __call__(self) -> str:
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                wrong = "no regular file"
            else:
                with self.path.open("rb") as file:
                    content = file.read(_MOST_BYTES + 1)
                secret = content.decode().rstrip("\r\n")
                if secret and len(content) <= _MOST_BYTES:
                    return secret
                wrong = "a file that is too long" if secret else "an empty file"
        except OSError as error:
            wrong = f"a file that cannot be read ({error.strerror})"
        except UnicodeDecodeError:
            wrong = "bytes that are no UTF-8"
        raise Unavailable(
            f"the secret in {toml_text(str(self.path))}: found {wrong}; allowed: {_ALLOWED}",
            needs_person=True,
        )


def secret_of(path: Path) -> Secret:
    """The secret in the file, without the line ends after it; a rotated file is seen.

    The file is read here once: raises SettingsError if that fails. Later, each ``reveal`` raises
    Unavailable with ``needs_person``, since a file may come back while a batch is kept.
    """
    reader = _Reader(path=path)
    try:
        reader()
    except Unavailable as error:
        raise SettingsError([str(error)]) from None
    return Secret(reader, path)

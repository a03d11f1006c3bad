"""What a key of CURVE may be; `ravenwh keys new` makes pairs of them."""

from __future__ import annotations

from ravenwh.domain.settings.kinds import Hidden, Text, Texts

__all__ = ["CLIENT_KEYS", "PUBLIC_KEY", "SECRET_KEY"]

_PATTERN = r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}"
_RULE = "a CURVE key, 40 characters of Z85"

PUBLIC_KEY = Text(pattern=_PATTERN, rule=_RULE)
SECRET_KEY = Hidden(pattern=_PATTERN, rule=_RULE)
CLIENT_KEYS = Texts(item=PUBLIC_KEY)

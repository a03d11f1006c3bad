"""What a preflight finds."""

from __future__ import annotations

import attrs

__all__ = ["Finding"]


@attrs.frozen(kw_only=True)
class Finding:
    """One check and its outcome: what was found, and, where it failed, what mends it.

    A failed check that is not ``required`` is a warning. ``remedy`` is a command or an edit that a
    person can do at once.
    """

    check: str
    ok: bool
    found: str
    remedy: str = ""
    required: bool = True

    @property
    def fatal(self) -> bool:
        """Whether nothing may go on while this stands."""
        return self.required and not self.ok

    def __str__(self) -> str:
        mark = "ok  " if self.ok else "FAIL" if self.required else "warn"
        text = f"{mark} {self.check}: {self.found}"
        if self.remedy and not self.ok:
            text += f"\nmend it: {self.remedy}"
        return text.replace("\n", "\n       ")

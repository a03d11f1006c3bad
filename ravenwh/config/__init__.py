"""Loading the settings: a TOML file, then the environment, then the files that hold secrets.

Owns where settings come from; what they are is :mod:`ravenwh.domain.settings`, and every key,
variable, bound and text here is derived from its declarations. The only place that looks at
``os.environ``. Offers :func:`load`, :func:`load_explained` (with where each value came from),
:func:`example` (a commented file) and ``reference`` (the page of the documentation).

Fails with one SettingsError that names everything wrong at once: key, origin, found, allowed.
Secrets are masked in it. A secret's file that goes away later is Unavailable, at ``reveal``.

Written on attrs alone. typed-settings was tried (26.0): it stops at the first file with unknown
keys, tells wrong types without bounds and bounds one at a time, and does not see unknown variables.

Tested by tables of wrong settings with their exact messages, by property tests over random files
and environments, and by loading what it writes itself.
"""

from __future__ import annotations

from ravenwh.config.environment import without_ours
from ravenwh.config.example import example
from ravenwh.config.explain import Explained, Row
from ravenwh.config.loading import load, load_explained
from ravenwh.config.secret_file import secret_of
from ravenwh.config.source import Source

__all__ = [
    "Explained",
    "Row",
    "Source",
    "example",
    "load",
    "load_explained",
    "secret_of",
    "without_ours",
]

"""The settings file: which one, and what is in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings.problem import shown

__all__ = ["CONFIG_VARIABLE", "DEFAULT_FILE", "SettingsFile", "find_file", "located"]

CONFIG_VARIABLE = "RAVENWH_CONFIG"
DEFAULT_FILE = "ravenwh.toml"


@attrs.frozen(kw_only=True)
class SettingsFile:
    """A settings file, and why it is that: named by --config, by the variable, or found here."""

    path: Path
    named: str

    def read(self) -> dict[str, Any]:
        """What TOML holds; raises SettingsError with the place of the first syntax error."""
        text = ""
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
            return tomllib.loads(text)
        except FileNotFoundError:
            problem = f"found no such file; allowed: a file that exists ({self.named})"
        except OSError as error:
            problem = f"found a file that cannot be read ({error.strerror}); allowed: a TOML file"
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problem = f"line {line}: found bytes that are no UTF-8; allowed: TOML in UTF-8"
        except tomllib.TOMLDecodeError as error:
            problem = _syntax_error(str(error), text)
        except (ValueError, RecursionError):  # endless digits, endless brackets
            problem = "found a value too long or too deep to be read; allowed: TOML"
        raise SettingsError([f"{self.path}: {problem}"])


def _syntax_error(message: str, text: str) -> str:
    """Line and column first; tomllib quotes no more than a key or one character of the file."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message)
    if found:
        what, line, column = found.groups()
    else:
        lines = text.split("\n")
        what = message.removesuffix(" (at end of document)")
        line, column = str(len(lines)), str(len(lines[-1]) + 1)
    return f"line {line}, column {column}: found no valid TOML ({what}); allowed: TOML"


def find_file(config: Path | None, environ: Mapping[str, str]) -> SettingsFile | None:
    """The file given, else that of RAVENWH_CONFIG, else ravenwh.toml here if there is one."""
    if config is not None:
        return SettingsFile(path=located(config, Path()), named="named by --config")
    if environ.get(CONFIG_VARIABLE):
        path = located(Path(environ[CONFIG_VARIABLE]), Path())
        return SettingsFile(path=path, named=f"named by {CONFIG_VARIABLE}")
    here = Path(DEFAULT_FILE).absolute()
    return SettingsFile(path=here, named="found here") if here.exists() else None


def located(path: Path, base: Path) -> Path:
    """The path with ``~`` as the home folder, and from ``base`` where it is relative.

    Raises SettingsError where there is no such home.
    """
    try:
        return (base / path.expanduser()).absolute()
    except RuntimeError:
        pass
    raise SettingsError(
        [f"found {shown(str(path))}, whose user has no home folder; allowed: a path"]
    )

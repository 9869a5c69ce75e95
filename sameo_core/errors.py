"""The error for bad input: it names the file, the record, the broken rule and the remedy."""

from functools import partial
from pathlib import Path


class InputError(ValueError):
    """Bad input from outside: a file, a record in it, an argument.

    Args:
        file: the file, or the argument's name where there is no file.
        record: the record in it, e.g. ``"annotation 17"``; None for the whole file.
        rule: the broken rule with the value found, e.g. ``"a box needs x1 > x0, found [5, 2, 5, 9]"``.
        remedy: how to fix it, as an imperative sentence.
    """

    def __init__(self, *, file: str | Path, rule: str, remedy: str, record: str | None = None):
        self.file, self.record, self.rule, self.remedy = str(file), record, rule, remedy
        where = self.file if record is None else f"{self.file}, {record}"
        super().__init__(f"{where}: {rule.rstrip('.')}. {remedy.rstrip('.')}.")

    def __reduce__(self) -> tuple:  # pickle, e.g. from a worker process, would drop keyword-only arguments
        return partial(type(self), file=self.file, record=self.record, rule=self.rule, remedy=self.remedy), ()


class Refused(InputError):
    """The server answers, but its file is missing or another one; its other files may be fine."""

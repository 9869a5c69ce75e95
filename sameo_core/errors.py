"""The one error of bad input: it names the file, the record, the rule that was broken and the remedy."""

from pathlib import Path


class InputError(ValueError):
    """Bad input from outside: a file, a record in it, an argument.

    Args:
        file: the file, or the argument's name where there is no file.
        record: what in it, e.g. ``"annotation 17"``; omitted where the whole file is meant.
        rule: the rule that was broken, with the value found, e.g. ``"a box needs x1 > x0, found [5, 2, 5, 9]"``.
        remedy: what the reader can do about it, as an imperative sentence.
    """

    def __init__(self, *, file: str | Path, rule: str, remedy: str, record: str | None = None):
        self.file, self.record, self.rule, self.remedy = str(file), record, rule, remedy
        where = self.file if record is None else f"{self.file}, {record}"
        super().__init__(f"{where}: {rule.rstrip('.')}. {remedy.rstrip('.')}.")

    def __reduce__(self) -> tuple:  # keyword-only arguments would not survive the way back from a worker process
        return _rebuild, (type(self), self.file, self.record, self.rule, self.remedy)


class Refused(InputError):
    """A server answers, but does not have the file, or has another one; its other files may be all right."""


def _rebuild(cls: type[InputError], file: str, record: str | None, rule: str, remedy: str) -> InputError:
    return cls(file=file, record=record, rule=rule, remedy=remedy)

"""Runs the notebooks and combines their outputs into one page."""

from sameo_core.reproduction.notebooks import (
    NUMBERED,
    code_cells,
    expected_minutes,
    find_notebooks,
    parameters_of,
    save_outputs,
    sections,
)
from sameo_core.reproduction.report import NotebookRun, write_report
from sameo_core.reproduction.runner import (
    execute,
    kernel_environment,
    quiet_logs,
    reproduce,
    train_ahead,
    trainings_ahead,
)

__all__ = [
    "NUMBERED",
    "NotebookRun",
    "code_cells",
    "execute",
    "expected_minutes",
    "find_notebooks",
    "kernel_environment",
    "parameters_of",
    "quiet_logs",
    "reproduce",
    "save_outputs",
    "sections",
    "train_ahead",
    "trainings_ahead",
    "write_report",
]

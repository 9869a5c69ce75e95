"""Where things lie, and the numbers of a run: `paper` is the defaults, `mini` the visible difference."""

import difflib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from sameo_core.errors import InputError

ROOT = Path(os.environ.get("SAMEO_ROOT", Path(__file__).resolve().parents[1]))
DATA = ROOT / "data"
WEIGHTS = DATA / "weights"  # tracked: the nano weights
RESULTS = DATA / "results"  # tracked for mini: one CSV a table, a folder a profile
RAW = DATA / "raw"  # ignored: data sets as downloaded (paper)
RUNS = DATA / "runs"  # ignored: everything a run produces
NOTEBOOKS = ROOT / "notebooks"

"""Widgets of notebook 06: a box drawn on a picture, an answer at once; wiring only, `reporting` draws.

`Explorer` shows photographs, `DatasetExplorer` annotated data sets, beside the truth; in `Playground` one object moves
over another. No `Output`, no `interact`: behind these a run without a browser can wait for ever. Whatever the mouse
does, the keyboard does too: Tab goes from widget to widget, the arrow keys move sliders, and on a picture that has the
focus W A S D move a drawn box, Q E R F resize it (with Shift by ten pixels).
"""

from sameo_core.explorer.base import PICTURE, Explorer, Picture, Target, photographs
from sameo_core.explorer.dataset_page import DatasetExplorer
from sameo_core.explorer.playground_page import Playground

__all__ = ["PICTURE", "DatasetExplorer", "Explorer", "Picture", "Playground", "Target", "photographs"]

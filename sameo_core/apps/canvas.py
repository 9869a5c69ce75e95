"""A picture on the page to draw a box on, or to slide a cut-out along; with a mouse, a finger or the keyboard."""

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as W
import traitlets as T

PICTURE = 420  # pixels, longer side: two beside each other in JupyterLab, three on a web page
WIDE = {"description_width": "90px"}
ROW = {"flex_flow": "row wrap", "align_items": "center"}


class Canvas(anywidget.AnyWidget):
    """A picture that reports what is done on it.

    The page only sends events, Python alone sets the state below: nothing comes back as an echo.
    """

    _esm = Path(__file__).with_name("canvas.js")
    _css = """
        .sameo-frame { position: relative; display: inline-block; max-width: 100%; line-height: 0; touch-action: none }
        .sameo-frame img { max-width: 100%; height: auto; user-select: none; pointer-events: none }
        .sameo-box { position: absolute; box-sizing: border-box; border: 2px solid black; outline: 1px solid white;
                     pointer-events: none }
        .sameo-box[hidden] { display: none }
    """

    about = T.Unicode().tag(sync=True)  # what the picture is for, as its alternative text
    picture = T.Bytes().tag(sync=True)  # a JPEG file
    size = T.List([1, 1]).tag(sync=True)  # width and height of the image, in pixels
    box: T.List = T.List().tag(sync=True)  # xyxy pixels of the image; or empty
    position = T.Int(-1).tag(sync=True)  # of the cut-out, pixels from the left; -1: boxes are drawn
    number = T.Int().tag(sync=True)  # of the image: events on an earlier one are dropped
    answered = T.Int().tag(sync=True)  # events so far: the page sends one when the last is answered

    def __init__(self, react: Callable[[Mapping[str, Any]], None], **state: object):
        """`react` is called with an event; `state` are the traits above.

        Events: {"kind": "box", "box": xyxy pixels}, {"kind": "point", "point": (x, y)} of a click, {"kind": "slide",
        "to": position in pixels}, {"kind": "key", "key": "n"}.
        """
        super().__init__(**state)
        self.on_msg(lambda widget, event, buffers: self._receive(react, event))

    def _receive(self, react: Callable[[Mapping[str, Any]], None], event: Mapping[str, Any]) -> None:
        try:
            if event.get("number", self.number) == self.number:
                react(event)
        finally:
            self.answered += 1


def panel(title: str, picture: W.Widget, label: W.HTML) -> W.VBox:
    """A picture with a title above and a label below."""
    layout = {"width": f"{PICTURE + 10}px", "max_width": "100%", "margin": "0 4px 8px 0"}
    return W.VBox([W.HTML(f"<b>{html.escape(title)}</b>"), picture, label], layout=layout)


def step(choice: W.Dropdown, by: int) -> None:
    """Choose the next (1) or the previous (-1) option, in a circle."""
    choice.index = (choice.index + by) % len(choice.options)

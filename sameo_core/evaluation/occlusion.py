"""How much of an object is hidden, and the settings that follow: buckets, occluded only, COCOA's ranges."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
from jaxtyping import Bool, Float64

from sameo_core.errors import InputError
from sameo_core.evaluation.overlaps import pixels, shared_pixels
from sameo_core.evaluation.records import Objects

# Share of an object's amodal area that is hidden: low <= rate < high, the last bucket includes 1.
OCCLUSION_BUCKETS = {"0-10 %": (0.0, 0.1), "10-50 %": (0.1, 0.5), "50-90 %": (0.5, 0.9), "90-100 %": (0.9, 1.0)}
COCOA_RANGES = {"all": (0.0, 1.0), "none": (0.0, 1e-5), "partial": (1e-5, 0.25), "heavy": (0.25, 1.0)}  # both ends in

Buckets = Mapping[str, tuple[float | int, float | int]]
Wanted = dict[str, Bool[np.ndarray, " objects"]]  # a setting -> the objects that are to be found


def closed_bucket(name: str, low: float | int, high: float | int) -> tuple[float, float]:
    """The bucket low <= rate < high as a closed interval.

    Raises:
        InputError: not 0 <= low < high <= 1.
    """
    if not (isinstance(low, Real) and isinstance(high, Real) and 0 <= low < high <= 1):
        rule = f"a bucket needs 0 <= low < high <= 1, found ({low}, {high})"
        raise InputError(file="buckets", record=repr(name), rule=rule, remedy="Give shares, not per cent")
    return float(low), 1.0 if high == 1 else float(np.nextafter(high, 0))


def occlusion_rates(objects: Objects) -> Float64[np.ndarray, " objects"]:
    """Hidden pixels / amodal pixels in 0..1: of the visible mask, else as stated by `occlude_rate`. NaN for crowds.

    Raises:
        InputError: an object without either.
    """
    rates = np.full(len(objects.amodal), np.nan)
    rows = [row for row, mask in enumerate(objects.visible) if mask is not None and not objects.crowd[row]]
    amodal, visible = ([masks[row] for row in rows] for masks in (objects.amodal, objects.visible))
    area = pixels(amodal)
    rates[rows] = (area - shared_pixels(amodal, visible)) / np.maximum(area, 1)
    for row in np.flatnonzero(np.isnan(rates) & ~objects.crowd).tolist():
        rate = objects.stated_rate[row]
        if not isinstance(rate, Real) or not 0 <= rate <= 1:  # type: ignore[operator]  # to typeshed no Real has an order
            rule = f"needs a 'visible_mask' or an 'occlude_rate' in 0..1, found {rate!r}"
            raise InputError(**objects.where(row), rule=rule, remedy="Add the visible mask of the object")
        rates[row] = rate
    return rates


def visible_masks(objects: Objects, rates: Float64[np.ndarray, " objects"]) -> list | None:
    """The visible mask of each object, as in COCOA the amodal one where nothing is hidden. None: not all known."""
    whole = objects.crowd | (rates == 0)
    rows = zip(objects.amodal, objects.visible, whole.tolist(), strict=True)
    masks = [amodal if visible is None and complete else visible for amodal, visible, complete in rows]
    return None if any(mask is None for mask in masks) else masks


def inside(rates: Float64[np.ndarray, " objects"], ranges: Mapping[str, tuple[float, float]]) -> Wanted:
    """The objects whose rate lies in each of the closed ranges."""
    return {name: (low <= rates) & (rates <= high) for name, (low, high) in ranges.items()}

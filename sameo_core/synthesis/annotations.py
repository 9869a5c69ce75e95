"""The content of a shard's annotation file: image records, "dual annotation", statistics; and reading statistics back.

The keys are documented in `datasets/amodal_lvis.py`.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from sameo_core.datasets.amodal_lvis import shards_there
from sameo_core.errors import InputError
from sameo_core.masks import RLE, encode_mask, mask_area, mask_box, subtract_rle, xyxy_to_xywh
from sameo_core.synthesis.composition import Pair
from sameo_core.synthesis.painting import Composed
from sameo_core.synthesis.pool import Pool


def image_records(pool: Pool, pair: Pair, composed: Composed) -> list[dict]:
    """The records of a pair's original and occluded image."""
    height, width = pool.size(pair.target)
    source = pool.provenance(pair.target)
    suffixes = {"original": pool.path(pair.target).suffix, "occluded": composed.suffix}
    return [
        {
            "id": 2 * pair.number + place,
            "file_name": f"{pair.number:08d}_{version}{suffix}",
            "height": height,
            "width": width,
            "pair_id": pair.number,
            "version": version,
            "source_dataset": source["source_dataset"],
            "source_image_id": source["source_image_id"],
        }
        for place, (version, suffix) in enumerate(suffixes.items(), start=1)
    ]


def annotate(pool: Pool, pair: Pair, brightness_shift: int) -> list[dict]:
    """The three annotations of a pair: the target whole, the target occluded, and the whole occluder."""
    whole, front = pool.rle(pair.target), encode_mask(pair.occluder_mask(*pool.size(pair.target)))
    pasted = {
        "scale": pair.scale,
        "flipped": pair.flipped,
        "direction": pair.direction,
        "paste_box": [*pair.corner, *pair.alpha.shape[::-1]],
        "brightness_shift": brightness_shift,
    }

    def record(place: int, image: int, index: int, mask: RLE, visible: RLE, rate: float, **how: object) -> dict:
        return {
            "id": 3 * pair.number + place,
            "image_id": 2 * pair.number + image,
            "category_id": int(pool.category_id[index]),
            "iscrowd": 0,
            "bbox": xyxy_to_xywh(mask_box(mask)).tolist(),
            "area": mask_area(mask),
            "segmentation": mask,
            "visible_mask": visible,
            "occlude_rate": rate,
            **pool.provenance(index),
            "synthesis": {"seed": pair.seed, "pair": pair.number, **how},
        }

    seen = subtract_rle(whole, front)
    return [
        record(1, 1, pair.target, whole, whole, 0.0, role="target"),
        record(2, 2, pair.target, whole, seen, pair.achieved_rate, role="target", target_rate=pair.target_rate),
        record(3, 2, pair.occluder, front, front, 0.0, role="occluder", **pasted),
    ]


def statistics(pairs: list[Pair]) -> dict:
    """Number of pairs, target and achieved rates, redraws by reason."""
    asked = np.array([pair.target_rate for pair in pairs])
    achieved = np.array([pair.achieved_rate for pair in pairs])
    redraws = sum((Counter(pair.redraws) for pair in pairs), Counter())
    return {
        "pairs": len(pairs),
        "mean_rate_asked": float(asked.mean()),
        "mean_rate_achieved": float(achieved.mean()),
        "largest_deviation": float(np.abs(asked - achieved).max()),
        "redraws": dict(sorted(redraws.items())),
    }


def read_statistics(root: str | Path, split: str = "train") -> list[dict]:
    """The statistics of all shards, in order; only the head of each file is parsed.

    Raises:
        InputError: no shard exists, or one of them does not begin with its info.
    """
    found = []
    for path in shards_there(Path(root), split):
        try:
            start = path.read_text()[:1_000_000]
            info, _ = json.JSONDecoder().raw_decode(start, start.index('"info":') + len('"info": '))
            found.append(info["statistics"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            rule, remedy = f"a shard begins with its info: {error}", "Synthesise it again"
            raise InputError(file=path, rule=rule, remedy=remedy) from error
    if not found:
        remedy = "Synthesise the split first"
        raise InputError(file=root, rule=f"at least one shard of split {split!r}", remedy=remedy)
    return found

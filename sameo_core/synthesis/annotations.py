"""The content of a shard's annotation file: image records, "dual annotation", statistics; and reading statistics back.

The keys are documented in `datasets/amodal_lvis.py`.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from sameo_core.arrays import BoxXYXY
from sameo_core.errors import InputError
from sameo_core.masks import RLE, encode_mask, mask_box, xyxy_to_xywh
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
    size = pool.size(pair.target)
    front, seen = pair.occluder_mask(*size), np.zeros(size, bool, order="F")
    x0, y0, x1, y1 = pool.bounds(pair.target)
    seen[y0:y1, x0:x1] = pair.target_mask & ~front[y0:y1, x0:x1]
    left, top, inside = pair.occluder_inside(*size)
    occluder_box = mask_box(inside) + np.array([left, top] * 2)
    area = int(pool.area[pair.target])
    target = _object(pool, pair.target, pool.box[pair.target], area, pool.rle(pair.target))
    occluder = _object(pool, pair.occluder, occluder_box, int(np.count_nonzero(inside)), encode_mask(front))
    pasted = {
        "scale": pair.scale,
        "flipped": pair.flipped,
        "direction": pair.direction,
        "paste_box": [*pair.corner, *pair.alpha.shape[::-1]],
        "brightness_shift": brightness_shift,
    }
    rows: list[tuple[int, dict, RLE, float, dict]] = [  # image, object, visible mask, occlusion rate, how it was made
        (1, target, target["segmentation"], 0.0, {"role": "target"}),
        (2, target, encode_mask(seen), pair.achieved_rate, {"role": "target", "target_rate": pair.target_rate}),
        (2, occluder, occluder["segmentation"], 0.0, {"role": "occluder", **pasted}),
    ]
    return [
        {
            "id": 3 * pair.number + place,
            "image_id": 2 * pair.number + image,
            **item,
            "visible_mask": visible,
            "occlude_rate": rate,
            **pool.provenance(pair.target if item is target else pair.occluder),
            "synthesis": {"seed": pair.seed, "pair": pair.number, **how},
        }
        for place, (image, item, visible, rate, how) in enumerate(rows, start=1)
    ]


def _object(pool: Pool, index: int, box: BoxXYXY, area: int, segmentation: RLE) -> dict:
    return {
        "category_id": int(pool.category_id[index]),
        "iscrowd": 0,
        "bbox": xyxy_to_xywh(box).tolist(),
        "area": area,
        "segmentation": segmentation,
    }


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
    digits = "[0-9]" * 5
    for path in sorted((Path(root) / "annotations").glob(f"amodal_lvis_{split}_{digits}-of-{digits}.json")):
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

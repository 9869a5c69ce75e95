"""What making a pair costs, beside what no composer can avoid: decoding two files and encoding one."""

import time
from io import BytesIO

import numpy as np
import PIL.Image

from sameo_core.config import SynthesisConfig
from sameo_core.datasets.images import FORMATS
from sameo_core.errors import InputError
from sameo_core.synthesis.composition import draw_pair
from sameo_core.synthesis.painting import compose
from sameo_core.synthesis.pool import Pool


def measure_speed(pool: Pool, config: SynthesisConfig, pairs: int = 60, seed: int = 0) -> dict[str, float]:
    """Processor time of one core for drawing and composing some pairs, and of the codec alone for the same pairs.

    Args:
        pool: complete objects alone (`Pool.complete`).
        config: as `synthesize`.
        pairs: how many are made, twice; nothing is written.
        seed: of the pairs.

    Returns:
        "seconds a pair", "codec seconds a pair" (two images decoded, one encoded), "share of codec bound" = the second
        / the first, and "megapixels" of an image on average.

    Raises:
        InputError: no pairs asked for; as `draw_pair` and `compose`.
    """
    if pairs < 1:
        raise InputError(file="pairs", rule=f"at least one pair, found {pairs}", remedy="Ask for some tens")
    codec = made = pixels = 0.0
    for number in range(pairs):  # in turn, so that a machine that slows down slows both
        start = time.process_time()
        pair = draw_pair(pool, config, seed, number)
        compose(pool, pair, config)
        middle = time.process_time()
        scene, other = (
            PIL.Image.open(BytesIO(pool.path(i).read_bytes()), formats=FORMATS) for i in (pair.target, pair.occluder)
        )
        scene.load()
        other.load()
        jpeg = {"quality": "keep"} if scene.format == "JPEG" else {}
        scene.save(BytesIO(), scene.format, **jpeg)
        codec, made = codec + time.process_time() - middle, made + middle - start
        pixels += float(np.prod(scene.size))
    return {
        "seconds a pair": made / pairs,
        "codec seconds a pair": codec / pairs,
        "share of codec bound": codec / made,
        "megapixels": pixels / pairs / 1e6,
    }

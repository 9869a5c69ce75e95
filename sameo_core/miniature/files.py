"""Miniature data sets on disk: scenes drawn in parallel, images first, the annotation file last and in one step."""

import json
import os
from pathlib import Path

from joblib import Parallel, delayed
from PIL import Image as PILImage
from tqdm import tqdm

from sameo_core.errors import InputError
from sameo_core.miniature import cocoa, cocoa_cls, lvis
from sameo_core.miniature.drawing import DOMAINS, draw_scene
from sameo_core.miniature.records import DrawnImage, Layout, describe_scene

JPEG_QUALITY = 92
WRITERS: dict[str, Layout] = {"cocoa": cocoa.LAYOUT, "cocoa_cls": cocoa_cls.LAYOUT, "lvis": lvis.LAYOUT}


def draw_dataset(name: str, root: str | Path, split: str, images: int, seed: int = 0, jobs: int = -1) -> Path:
    """Draw a miniature data set and write it below `root` in the real set's format; a finished one is left as it is.

    The annotation file is written last and in one step: where it exists, with the same recipe, the set is complete.

    Args:
        name: one of `WRITERS`; also the domain the scenes are drawn in.
        root: the folder that `load_dataset(name, root, split)` will read.
        split: "train" or "val".
        images: how many.
        seed: of the whole drawn world.
        jobs: processes that draw; -1 for one a core. The files do not depend on it.

    Returns:
        the path of the annotation file.

    Raises:
        InputError: an unknown name, or no images asked for.
    """
    if name not in WRITERS:
        rule = f"a miniature exists of {', '.join(WRITERS)}, found {name!r}"
        raise InputError(file="name", rule=rule, remedy="Choose one of these names")
    if images < 1:
        raise InputError(file="images", rule=f"at least 1 image, found {images}", remedy="Ask for one or more")
    root, layout = Path(root), WRITERS[name]
    annotation_file = root / layout.annotation_file.format(split=split)
    recipe = {
        "description": f"miniature {name}",
        "split": split,
        "images": images,
        "seed": seed,
        "domain": str(DOMAINS[name]),
    }
    if _recipe_of(annotation_file) == recipe:
        return annotation_file
    (root / layout.image_file.format(split=split, id=0)).parent.mkdir(parents=True, exist_ok=True)
    work = (
        delayed(_draw_image)(name, split, seed, index, root / layout.image_file.format(split=split, id=index + 1))
        for index in range(images)
    )
    drawn = Parallel(n_jobs=jobs, return_as="generator")(work)
    drawn = list(tqdm(drawn, total=images, desc=f"drawing {name} {split}", unit="image"))
    document = {"info": recipe, **layout.document(drawn, split)}
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    partial = annotation_file.with_suffix(".partial")
    partial.write_text(json.dumps(document))
    os.replace(partial, annotation_file)
    return annotation_file


def _recipe_of(annotation_file: Path) -> dict | None:
    try:
        return json.loads(annotation_file.read_text())["info"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, damaged or of another make: it is drawn anew


def _draw_image(domain: str, split: str, seed: int, index: int, path: Path) -> DrawnImage:
    scene = draw_scene(domain, index, seed, split)
    partial = path.with_suffix(".partial")
    PILImage.fromarray(scene.image).save(partial, format="JPEG", quality=JPEG_QUALITY)
    os.replace(partial, path)
    return describe_scene(scene, index + 1)

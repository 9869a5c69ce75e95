"""Miniature data sets on disk: scenes drawn in parallel, images first, annotation files last and each in one step."""

import json
import os
from pathlib import Path

from joblib import Parallel, delayed
from PIL import Image as PILImage
from tqdm import tqdm

from sameo_core.errors import InputError
from sameo_core.miniature import cocoa, cocoa_cls, d2sa, kins, lvis, muva
from sameo_core.miniature.drawing import DOMAINS, domain_of, draw_scene
from sameo_core.miniature.records import DrawnImage, Layout, describe_scene

JPEG_QUALITY = 92
WRITERS: dict[str, Layout] = {
    "cocoa": cocoa.LAYOUT,
    "cocoa_cls": cocoa_cls.LAYOUT,
    "d2sa": d2sa.LAYOUT,
    "kins": kins.LAYOUT,
    "muva": muva.LAYOUT,
    "lvis": lvis.LAYOUT,
}


def draw_dataset(name: str, root: str | Path, split: str, images: int, seed: int = 0, jobs: int = -1) -> Path:
    """Draw a miniature data set and write it below `root` in the real set's format; a finished one is left as it is.

    The annotation file is written last and in one step: where it exists, with the same recipe, the set is complete.

    Args:
        name: one of `WRITERS`; also the domain the scenes are drawn in (see `domain_of`).
        root: the folder that `load_dataset(name, root, split)` will read.
        split: "train" or "val"; of d2sa also "augmented".
        images: how many.
        seed: of the whole drawn world.
        jobs: processes that draw; -1 for one a core. The files do not depend on it.

    Returns:
        the path of the annotation file.

    Raises:
        InputError: an unknown name or split, or no images asked for.
    """
    if name not in WRITERS:
        rule = f"a miniature exists of {', '.join(WRITERS)}, found {name!r}"
        raise InputError(file="name", rule=rule, remedy="Choose one of these names")
    if images < 1:
        raise InputError(file="images", rule=f"at least 1 image, found {images}", remedy="Ask for one or more")
    root, layout, domain = Path(root), WRITERS[name], domain_of(name, split)
    if layout.words and split not in layout.words:
        rule = f"{name} has the splits {', '.join(layout.words)}; found {split!r}"
        raise InputError(file="split", rule=rule, remedy="Choose one of these")
    words = {"split": split, **layout.words.get(split, {})}
    annotation_file = root / layout.annotation_file.format(**words)
    recipe = {
        "description": f"miniature {name}",
        "split": split,
        "images": images,
        "seed": seed,
        "domain": str(DOMAINS[domain]),
    }
    if _recipe_of(annotation_file) == recipe:
        return annotation_file
    (root / layout.image_file.format(**words, id=0)).parent.mkdir(parents=True, exist_ok=True)
    work = (
        delayed(_draw_image)(domain, split, seed, index, root / layout.image_file.format(**words, id=index + 1))
        for index in range(images)
    )
    drawn = Parallel(n_jobs=jobs, return_as="generator")(work)
    drawn = list(tqdm(drawn, total=images, desc=f"drawing {name} {split}", unit="image"))
    documents = {**layout.more_files, layout.annotation_file: layout.document}
    for file, document in documents.items():
        path = root / file.format(**words)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"info": recipe, **document(drawn, split)}))
        os.replace(partial, path)
    return annotation_file


def _recipe_of(annotation_file: Path) -> dict | None:
    try:
        return json.loads(annotation_file.read_text())["info"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, damaged or of another make: it is drawn anew


def _draw_image(domain: str, split: str, seed: int, index: int, path: Path) -> DrawnImage:
    scene = draw_scene(domain, index, seed, split)
    partial = path.with_suffix(".partial")
    PILImage.fromarray(scene.image).save(
        partial, format="PNG" if path.suffix == ".png" else "JPEG", quality=JPEG_QUALITY
    )
    os.replace(partial, path)
    return describe_scene(scene, index + 1)

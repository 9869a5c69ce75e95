"""The drawn world: images with exact amodal masks, written in the real formats of the real data sets.

`domains` defines their look, `drawing` composes them from `shapes`, `places` and `painting`, `records` describes them,
and `coco`, `lvis` and `mask_files` are the formats. This module draws in parallel and writes, annotations last.
"""

import json
from pathlib import Path

from joblib import Parallel, delayed
from PIL import Image as PILImage
from tqdm import tqdm

from sameo_core.config import DATA_SEED
from sameo_core.errors import InputError
from sameo_core.miniature.coco import COCOA, COCOA_CLS, D2SA, KINS, MUVA
from sameo_core.miniature.domains import DOMAINS, domain_of
from sameo_core.miniature.drawing import Scene, draw_scene
from sameo_core.miniature.lvis import LVIS, LVVIS, hidden_shares
from sameo_core.miniature.mask_files import DYCE, KITTI360_APS, MP3D_AMODAL, PIX2GESTALT, WALT
from sameo_core.miniature.records import DrawnImage, Layout, describe_scene
from sameo_core.runs.atomic import atomic_write

__all__ = ["DOMAINS", "RELATIVE_SIZE", "WRITERS", "Scene", "draw_dataset", "draw_scene", "hidden_shares"]

JPEG_QUALITY = 92
WRITERS: dict[str, Layout] = {
    "cocoa": COCOA,
    "cocoa_cls": COCOA_CLS,
    "d2sa": D2SA,
    "kins": KINS,
    "muva": MUVA,
    "dyce": DYCE,
    "mp3d_amodal": MP3D_AMODAL,
    "walt": WALT,
    "kitti360_aps": KITTI360_APS,
    "pix2gestalt": PIX2GESTALT,
    "lvis": LVIS,
    "lvvis": LVVIS,
}

# Relative sizes of the train splits. They differ, as the real ones do (2,500 to 837,000 images), so that sampling
# proportional to log(size) is not uniform; but less, to be fast.
RELATIVE_SIZE = {name: 0.25 for name in WRITERS} | {"cocoa": 1.0, "lvis": 1.0, "pix2gestalt": 0.5}
RELATIVE_SIZE |= {"kitti360_aps": 0.125, "dyce": 0.125, "mp3d_amodal": 0.125}


def draw_dataset(name: str, root: str | Path, split: str, images: int, seed: int = DATA_SEED, jobs: int = -1) -> Path:
    """Draw a miniature data set below `root` in the real set's format, unless it exists with the same recipe.

    The recipe is the "info" of the annotation file or, if that is not JSON, of a file beside it. It is written last.

    Args:
        name: one of `WRITERS`; also the domain the scenes are drawn in (see `domain_of`).
        root: the folder that `load_dataset(name, root, split)` will read.
        split: "train" or "val"; d2sa also has "augmented".
        images: how many.
        seed: of the whole drawn world.
        jobs: processes that draw; -1 for one per core. The files do not depend on it.

    Returns:
        the path of the annotation file.

    Raises:
        InputError: an unknown name or split.
    """
    root, layout = Path(root), WRITERS.get(name)
    if layout is None or (layout.words and split not in layout.words):
        rule = f"one of {', '.join(WRITERS)}, and a split it has; found {name!r}, {split!r}"
        raise InputError(file="name, split", rule=rule, remedy="Choose from these")
    annotation_file = root / layout.annotation_name(split)
    recipe = {"description": f"miniature {name}", "split": split, "images": images, "seed": seed}
    recipe |= {"domain": str(DOMAINS[domain_of(name, split)])}
    is_json = annotation_file.suffix == ".json"
    recipe_file = annotation_file if is_json else annotation_file.with_suffix(".recipe.json")
    if annotation_file.exists() and _recipe_of(recipe_file) == recipe:
        return annotation_file
    work = (delayed(_draw_image)(name, split, seed, index, root) for index in range(images))
    drawn = Parallel(n_jobs=jobs, return_as="generator")(work)
    drawn = list(tqdm(drawn, total=images, desc=f"drawing {name} {split}", unit="image"))
    for file, document in {**layout.more_files, layout.annotation_file: layout.document}.items():
        content = document(drawn, split)
        content = {"info": recipe, **content} if isinstance(content, dict) else content
        _write(root / layout.annotation_name(split, file), content)
    if not is_json:
        _write(recipe_file, {"info": recipe})
    return annotation_file


def _write(path: Path, content: dict | str | bytes) -> None:
    content = json.dumps(content) if isinstance(content, dict) else content
    with atomic_write(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _recipe_of(annotation_file: Path) -> dict | None:
    try:
        return json.loads(annotation_file.read_text())["info"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, damaged or in another format: it is drawn again


def _draw_image(name: str, split: str, seed: int, index: int, root: Path) -> DrawnImage:
    layout = WRITERS[name]
    scene = layout.draw(domain_of(name, split), index, seed, split)
    image = describe_scene(scene, index + 1)
    path = root / layout.image_name(image.id, split)
    kind = {"format": "PNG"} if path.suffix == ".png" else {"format": "JPEG", "quality": JPEG_QUALITY}
    with atomic_write(path) as partial:
        PILImage.fromarray(scene.image).save(partial, **kind)
    if layout.write_files:
        layout.write_files(scene, image, root, split)
    return image

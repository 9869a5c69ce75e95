"""The kinds of work that the soak disturbs (`soak.py`): what is done, what may be damaged, what must be found."""

import json
import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch._dynamo  # optimisers do so when they are made: not in each child again
from conftest import IMAGES, SMALL, AgreeingTeacher, World, dataset_of, photograph, seeded_nano, tree, two_objects

from sameo_core import pipeline
from sameo_core.config import CompletenessConfig, profiles
from sameo_core.datasets import dataset as datasets_dataset
from sameo_core.datasets import json_index, load_dataset
from sameo_core.miniature import draw_dataset
from sameo_core.model import Sameo
from sameo_core.pipeline import open_clean_dataset
from sameo_core.reporting import read_table, write_table
from sameo_core.synthesis import Pool, collect_complete_objects, synthesize
from sameo_core.training import EmbeddingCache, fine_tuning, training_loss

DAMAGES = ("cut short", "zeros", "another byte", "gone")


class Work:
    """A kind of work. `folder` is empty before its first process; the next goes on with what it finds there."""

    def __init__(self, scratch):
        """`scratch`: a folder for what all trials share."""

    def run(self, folder):
        """Do it, in a child process. Returns what the trial must find, as bytes by name."""
        raise NotImplementedError

    def targets(self, folder):
        """The files that a damage may hit, each with the damages that must be noticed."""
        return {path: DAMAGES for path in files(folder) if path.name != "lock"}

    def finished(self, folder):
        """The files that need not be made again."""
        return []

    def begin(self, folder):
        """What is there before the first process."""

    def check_after_kill(self, folder):
        """Raises AssertionError where something half-written is taken for whole."""

    def steps_left(self, folder):
        """How many the next process may count in `self.steps` at most."""
        return math.inf

    steps = 0


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Training(Work):
    """A fine-tuning of six iterations with three checkpoints."""

    def __init__(self, scratch):
        profile = World(scratch).profile()
        draw_dataset("cocoa", scratch / "cocoa", "train", profile.data.train_images, jobs=1)
        self.set = open_clean_dataset("cocoa", "train", profile, scratch / "cocoa")
        self.start = seeded_nano()
        self.embeddings = scratch / "embeddings"
        EmbeddingCache(self.start, self.embeddings).embed(list(self.set))

    def run(self, folder):
        profiles.RUNS = folder
        pipeline.training_sets = lambda profile: [self.set]
        pipeline.starting_model = lambda recipe: self.start
        pipeline.embedding_cache = lambda _, model: EmbeddingCache(model, self.embeddings)
        fine_tuning.training_loss = self._counted
        path = pipeline.train(World(folder).profile(), seed=0)
        Sameo.load(path)
        return {name: (path.parent / name).read_bytes() for name in ("sameo.safetensors", "log.csv", "config.json")}

    def _counted(self, *arguments):
        self.steps += 1
        return training_loss(*arguments)

    def steps_left(self, folder):
        checkpoints = [torch.load(path, weights_only=True) for path in folder.rglob("checkpoint.pt")]
        return 6 - sum(state["iteration"] for state in checkpoints)

    def targets(self, folder):
        found = {}
        for path in super().targets(folder):
            names = ["checkpoint.pt", fine_tuning.RESULT]
            if not (path.parent / fine_tuning.RESULT).exists():
                names += ["log.csv", "config.json"]
            if path.name in names or path.suffix == ".partial":
                found[path] = DAMAGES
        return found

    def finished(self, folder):
        return list(folder.rglob(fine_tuning.RESULT))


class Embeddings(Work):
    """Eight embeddings; half of them stand there already when the first process starts."""

    def __init__(self, scratch):
        draw_dataset("cocoa", scratch / "cocoa", "train", 8, jobs=1)
        self.images = list(load_dataset("cocoa", scratch / "cocoa", "train"))
        self.model = seeded_nano()

    def run(self, folder):
        cache = EmbeddingCache(self.model, folder)
        with torch.inference_mode():
            found = [cache.embed(self.images[i : i + 2]) for i in range(0, 8, 2)]
        kept = {name: content for name, content in tree(folder).items() if not name.endswith(".partial")}
        return kept | {"values": torch.cat(found).numpy().tobytes()}  # a kill's half file is read by nobody

    def finished(self, folder):
        return list(folder.rglob("*.embedding"))


class Synthesis(Work):
    """Seven pairs in three shards."""

    def __init__(self, scratch):
        source = dataset_of([photograph(scratch, i, two_objects(i)) for i in range(1, 9)], scratch)
        self.pool = collect_complete_objects(AgreeingTeacher(source), source, CompletenessConfig(), scratch / "record")

    def run(self, folder):
        synthesize(self.pool, folder, IMAGES, config=SMALL)
        found = tree(folder)
        pool = Pool.load(folder / "synthesis_train/pool.npz")  # dates in it, e.g., are covered by no checksum
        return found | {"synthesis_train/pool.npz": f"{pool.fingerprint()} {pool.root}".encode()}

    def targets(self, folder):
        found = {}
        for path in super().targets(folder):
            if path.name == "pool.npz" or path.suffix == ".partial":
                found[path] = DAMAGES
            elif path.parent.name == "annotations":
                found[path] = tuple(damage for damage in DAMAGES if damage != "another byte")
            elif path.parent.name.isdigit() and not self._annotations(folder, path.parent.name).exists():
                found[path] = DAMAGES
        return found

    def finished(self, folder):
        """Of finished shards all files: their annotation file, and the images with it."""
        annotations = list((folder / "annotations").glob("*.json"))
        images = [p for a in annotations for p in files(folder / "images/train" / a.name.split("_")[3][:5])]
        return annotations + images

    def _annotations(self, folder, shard):
        return folder / f"annotations/amodal_lvis_train_{shard}-of-00003.json"


class Tables(Work):
    """Twenty tables that were there before, with other numbers."""

    def __init__(self, scratch):
        rng = np.random.default_rng(0)
        self.old, self.new = ([self._rows(rng) for _ in range(20)] for _ in range(2))
        self.bytes = {}
        for age in ("old", "new"):
            for i, rows in enumerate(getattr(self, age)):
                self.bytes[age, i] = write_table(f"table{i}", rows, "mini", scratch / age).read_bytes()

    @staticmethod
    def _rows(rng):
        return [{"method": f"method {i}", "AP": float(rng.random()), "seed": i} for i in range(60)]

    def run(self, folder):
        for i, rows in enumerate(self.new):
            write_table(f"table{i}", rows, "mini", folder)
        for path in folder.glob("*.partial"):  # nobody takes these for tables
            path.unlink()
        assert all(read_table(path) for path in folder.glob("*.csv"))
        return tree(folder)

    def begin(self, folder):
        for i in range(20):
            folder.joinpath(f"table{i}.csv").write_bytes(self.bytes["old", i])

    def check_after_kill(self, folder):
        for i in range(20):
            path = folder / f"table{i}.csv"
            assert not path.exists() or path.read_bytes() in (self.bytes["old", i], self.bytes["new", i]), path


class Index(Work):
    """Index and census of a COCO file."""

    def __init__(self, scratch):
        draw_dataset("lvis", scratch / "lvis", "train", 12, jobs=1)
        self.root = scratch / "lvis"
        (self.file,) = self.root.rglob("*train*.json")
        past = time.time_ns() - 10**12
        os.utime(self.file, ns=(past, past))

    def run(self, folder):
        profiles.RUNS = folder
        json_index.KEPT_FROM = datasets_dataset.CENSUS_KEPT_FROM = 0
        dataset = load_dataset("lvis", self.root, "train")
        census = dataset.census()
        dataset = load_dataset("lvis", self.root, "train")  # what was kept serves
        again = dataset.census()
        assert census.names == again.names and np.array_equal(census.amodal_area, again.amodal_area)
        assert len(list((folder / "index").glob("*.npz"))) == 2, "index and census are kept"
        records = [(image.image_id, image.file_name, len(image.instances)) for image in dataset]
        columns = {name: column.tobytes() for name, column in again.columns().items()}
        return columns | {"records": json.dumps([records, again.names, again.skipped]).encode()}

    def finished(self, folder):
        return list(folder.rglob("*.npz"))

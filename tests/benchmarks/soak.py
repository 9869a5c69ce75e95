"""Randomised kills and damages: whatever happens to a process or to what it has written, the next one ends the same.

    python tests/benchmarks/soak.py --trials 2000 --seed 0

A trial does one kind of work in a child process, up to three times disturbed, then once in peace, and compares what is
there at last with what an undisturbed process left, byte by byte. Disturbed means: killed (SIGKILL) at a random moment,
now and then while a second process does the same work in the same folder; and, as often, one of the written files is
cut short, ends in zeros, has another byte, or is gone. Trial `i` of a seed draws its numbers from (seed, i), but a kill
comes when it comes: a second run is another experiment.

What is damaged, and what must be seen:

    training    checkpoint, log of an unfinished run, weights: any damage. Weights with another byte are refused when
                they are loaded; they are deleted, as the message says, and trained again.
    embeddings  any damage of any file.
    synthesis   pool, images of unfinished shards: any damage. Annotation files: cut short, zeros, gone.
    tables      any damage: they are written anew. After each kill a table is the old one or the new one.
    index       index and census of an annotation file: any damage.

Not damaged, because nothing would tell: another byte in what is finished and has no checksum (tables, logs, images and
annotations of finished shards); git holds the tables that count.

Of each kind it prints: trials; kills that came before the work was done; damages; refusals with a message that names
the file; finished work that was done again (lost); results that differ or never came (changed). Lost and changed must
be 0, else it exits with 1. It needs Linux: children are forked, and start warm; moments are measured on their clocks.
"""

import argparse
import faulthandler
import functools
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch._dynamo  # optimisers do so when they are made: not in each child again
from conftest import AgreeingTeacher, World, dataset_of, photograph, seeded_nano, two_objects
from test_synthesis import IMAGES, SMALL, tree
from tqdm import tqdm

from sameo_core import pipeline
from sameo_core.config import CompletenessConfig, profiles
from sameo_core.datasets import dataset as datasets_dataset
from sameo_core.datasets import json_index, load_dataset
from sameo_core.errors import InputError
from sameo_core.miniature import draw_dataset
from sameo_core.model import Sameo
from sameo_core.pipeline import open_clean_dataset
from sameo_core.reporting import read_table, write_table
from sameo_core.synthesis import Pool, collect_complete_objects, synthesize
from sameo_core.training import EmbeddingCache, loop, training_loss

DAMAGES = ("cut short", "zeros", "another byte", "gone")
COUNTS = ("trials", "killed", "damaged", "refused", "lost", "changed")
PATIENCE = 600  # seconds that a child may take, on a machine that is busy with other things


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
        loop.training_loss = self._counted
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
            names = ["checkpoint.pt", loop.RESULT]
            if not (path.parent / loop.RESULT).exists():
                names += ["log.csv", "config.json"]
            if path.name in names or path.suffix == ".partial":
                found[path] = DAMAGES
        return found

    def finished(self, folder):
        return list(folder.rglob(loop.RESULT))


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
        time.sleep(0.1)  # json_index.RACE: what has just changed is not kept

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


KINDS = {"training": Training, "synthesis": Synthesis, "tables": Tables, "embeddings": Embeddings, "index": Index}
CYCLE = ("training", "synthesis", "tables", "index", "embeddings", "synthesis", "tables", "index")  # quick ones twice


# ------------------------------------------------------------------------------------------------------- one trial


def fork(work, folder, answer):
    """A child process that does the work and writes what came of it to the file `answer`; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        warnings.simplefilter("ignore")
        faulthandler.dump_traceback_later(PATIENCE - 10, file=answer.with_suffix(".stack").open("w"))
        try:
            results = work.run(folder)
            said = {"results": {name: content.hex() for name, content in results.items()}, "steps": work.steps}
        except InputError as error:
            said = {"refused": error.file, "message": str(error)}
        except BaseException:
            said = {"broken": traceback.format_exc()}
        partial = answer.with_name(f"{answer.name}.partial")
        partial.write_text(json.dumps(said))
        os.replace(partial, answer)
        status = 0
    finally:
        os._exit(status)


def cpu_seconds(child):
    """Of a process, from the clock that `clock_getcpuclockid` names."""
    return time.clock_gettime((~child << 3) | 2)


def wait(child, seconds=None):
    """Did the child end before it had computed for so many seconds (None: at all)? Others' work makes it no older."""
    left, end = PATIENCE, select.poll()
    handle = os.pidfd_open(child)
    end.register(handle, select.POLLIN)
    try:
        while left > 0:
            if seconds is not None and (left := seconds - cpu_seconds(child)) <= 0:
                break
            if end.poll(max(1, 1000 * left)):  # it cannot compute for longer than time goes by
                os.waitpid(child, 0)
                return True
            left = left if seconds is not None else 0
        return False
    finally:
        os.close(handle)


def kill(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def in_peace(work, folder, answer):
    """What a process says that nobody disturbs."""
    answer.unlink(missing_ok=True)
    child = fork(work, folder, answer)
    if not wait(child):
        kill(child)
        return {"broken": f"not done after {PATIENCE} s: {answer.with_suffix('.stack').read_text()}"}
    return answer_of(answer)


def answer_of(path):
    return json.loads(path.read_text()) if path.exists() else {"broken": "the process died"}


def damage(path, how, rng):
    content = bytearray(path.read_bytes())
    if how == "gone" or not content:
        path.unlink()
        return
    place = rng.randrange(len(content))
    if how == "cut short":
        del content[place:]
    elif how == "zeros":
        content[place:] = bytes(len(content) - place)
    else:
        content[place] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def places(paths):
    """Where files lie on the disk: one that is written again lies elsewhere."""
    return {path: path.stat().st_ino for path in paths}


def trial(work, folder, expected, seconds, rng):
    """Counts of what was done and what came of it; a word on what went wrong."""
    counts, answer = Counter(trials=1), folder.with_suffix(".answer")
    folder.mkdir()
    work.begin(folder)
    story, spoilt = [], {}
    for _ in range(rng.randint(1, 3)):
        both = rng.random() < 0.15
        children = [fork(work, folder, folder.with_suffix(f".{i}")) for i in range(1 + both)]
        moment = rng.uniform(0, seconds)
        ended = wait(children[0], moment)
        if not ended:
            kill(children[0])
            counts["killed"] += 1
        story.append(f"{'ended' if ended else 'killed'} within {moment:.3f} s of {seconds:.3f}")
        if both:
            if not wait(children[1]):
                kill(children[1])
            said = answer_of(folder.with_suffix(".1"))
            if said.get("results") != expected and "refused" not in said:
                counts["changed"] += 1
                story.append(f"its companion: {said.get('broken', 'another result')}")
        try:
            work.check_after_kill(folder) if not counts["damaged"] else None
        except AssertionError as error:
            counts["changed"] += 1
            story.append(f"half-written: {error}")
        targets = work.targets(folder)
        before = places(work.finished(folder))
        before = {path: place for path, place in before.items() if spoilt.get(path) != place}
        if targets and rng.random() < 0.5:
            path = rng.choice(sorted(targets))
            how = rng.choice(targets[path])
            story.append(f"{path.relative_to(folder)}: {how}")
            damage(path, how, rng)
            counts["damaged"] += 1
            spoilt |= places([path] if path.exists() else [])
            before.pop(path, None)
    steps = math.inf if counts["damaged"] else work.steps_left(folder)
    said = in_peace(work, folder, answer)
    for _ in range(3):
        if "refused" not in said:
            break
        counts["refused"] += 1
        story.append(said["message"])
        path = Path(said["refused"])
        if not path.is_relative_to(folder) or not path.is_file():
            break
        before.pop(path, None)
        path.unlink()  # as the message says
        said = in_peace(work, folder, answer)
    if said.get("results") != expected:
        counts["changed"] += 1
        results = said.get("results", {})
        differing = [n for n in expected | results if results.get(n) != expected.get(n)]
        story.append(f"changed: {said.get('broken') or said.get('message') or differing}")
    lost = [path for path, place in before.items() if not path.exists() or places([path])[path] != place]
    if lost or said.get("steps", 0) > steps:
        counts["lost"] += 1
        story.append(f"done again: {[str(path.relative_to(folder)) for path in lost]}, {said.get('steps')} steps")
    shutil.rmtree(folder)
    for path in folder.parent.glob(f"{folder.name}.*"):
        path.unlink()
    return counts, story


# ------------------------------------------------------------------------------------------------------ all of them


def soak(trials, seed=0, minutes=None, kinds=tuple(KINDS), say=print):
    """So many trials of these kinds in turn, or as many as the minutes are enough for. Returns kind -> counts."""
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is shared by forks: killed with it, a child would stop all others
    tqdm.monitor_interval = 0  # no thread: a fork may copy a lock that it holds just then
    totals, cycle = {kind: Counter() for kind in kinds}, [kind for kind in CYCLE if kind in kinds]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch).resolve()
        works, expected, seconds = {}, {}, {}
        for kind in kinds:
            (scratch / kind).mkdir()
            works[kind] = KINDS[kind](scratch / kind)
            took = []
            for i in range(3):
                folder = scratch / f"{kind}-{i}"
                folder.mkdir()
                begun = resource.getrusage(resource.RUSAGE_CHILDREN)
                said = in_peace(works[kind], folder, scratch / f"{kind}.answer")
                ended = resource.getrusage(resource.RUSAGE_CHILDREN)
                took.append(sum(ended[:2]) - sum(begun[:2]))  # user and system time
                if "results" not in said:
                    raise SystemExit(f"{kind}: undisturbed, it does not work: {said}")
                if expected.setdefault(kind, said["results"]) != said["results"]:
                    raise SystemExit(f"{kind}: undisturbed, two runs differ")
            seconds[kind] = min(took)
        for number in range(trials):
            if minutes is not None and time.monotonic() - start > 60 * minutes:
                say(f"{minutes} minutes are over after {number} of {trials} trials")
                break
            kind = cycle[number % len(cycle)]
            rng = random.Random(f"{seed} {number}")
            begun = time.monotonic()
            counts, story = trial(works[kind], scratch / f"{kind}-trial", expected[kind], seconds[kind], rng)
            totals[kind] += counts | Counter(milliseconds=round(1000 * (time.monotonic() - begun)))
            if counts["lost"] or counts["changed"]:
                say(f"trial {number}, {kind}: {'; '.join(story)}")
    say(f"{'kind':<12}{''.join(f'{name:>9}' for name in COUNTS)}{'s a trial':>11}")
    everything = functools.reduce(lambda a, b: a + b, totals.values(), Counter())
    for kind, counts in {**totals, "all": everything}.items():
        numbers = "".join(f"{counts[name]:>9}" for name in COUNTS)
        say(f"{kind:<12}{numbers}{counts['milliseconds'] / 1000 / max(1, counts['trials']):>11.2f}")
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    totals = soak(arguments.trials, arguments.seed, arguments.minutes, tuple(arguments.kinds))
    sys.exit(any(counts["lost"] or counts["changed"] for counts in totals.values()))


if __name__ == "__main__":
    main()

"""What a run folder says of the machine and the code that made it."""

import json
import subprocess
from importlib.metadata import version

import torch

from sameo_core import __version__
from sameo_core.runs import folders
from sameo_core.runs.folders import environment, write_environment
from sameo_core.training.loop import cpu_threads


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)


def test_it_says_what_numbers_may_depend_on(tmp_path):
    with cpu_threads(2):
        found = environment()
    packages = found["packages"]
    assert packages["sameo"] == __version__ and packages["torch"] == torch.__version__  # its build, too: +cpu, +cu130
    assert all(packages[name] == version(name) for name in ("torchvision", "numpy", "pycocotools"))
    assert found["threads"] == 2 and environment()["threads"] == torch.get_num_threads()
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["python"].startswith("3.") and found["cpu"]
    path = write_environment(tmp_path)
    assert path == tmp_path / "environment.json" and json.loads(path.read_text()) == environment()


def test_the_commit_and_whether_the_code_was_changed(tmp_path):
    (tmp_path / "sameo_core").mkdir()
    code, table = tmp_path / "sameo_core/a.py", tmp_path / "table.csv"
    code.write_text("a = 1\n")
    assert [environment(tmp_path)[key] for key in ("git_commit", "git_dirty")] == [None, None]  # not a checkout
    git(tmp_path, "init", "-q")
    assert environment(tmp_path)["git_commit"] is None  # nothing is committed
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    commit = git(tmp_path, "rev-parse", "HEAD").stdout.strip()
    assert [environment(tmp_path)[key] for key in ("git_commit", "git_dirty")] == [commit, False]
    table.write_text("what a run writes is not its code")
    assert environment(tmp_path)["git_dirty"] is False
    code.write_text("a = 2\n")
    assert [environment(tmp_path)[key] for key in ("git_commit", "git_dirty")] == [commit, True]


def test_without_git_the_commit_is_none(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment(tmp_path)["git_commit"] is None


def test_a_run_that_goes_on_elsewhere_keeps_where_it_began(tmp_path, monkeypatch):
    for commit in ("a", "a", "b", "a", "c"):
        monkeypatch.setattr(folders, "environment", lambda commit=commit: {"git_commit": commit})
        path = write_environment(tmp_path)
    assert json.loads(path.read_text()) == {"git_commit": "c", "earlier": [{"git_commit": "b"}, {"git_commit": "a"}]}
    assert [file.name for file in tmp_path.iterdir()] == ["environment.json"]


def test_a_damaged_one_is_written_anew(tmp_path):
    (tmp_path / "environment.json").write_text("{")
    assert json.loads(write_environment(tmp_path).read_text()) == environment()

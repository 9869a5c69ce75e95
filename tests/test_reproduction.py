"""Tiny notebooks of every kind of fate go through the runner."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from sameo_core import __main__ as command_line
from sameo_core import __version__, pipeline, reproduction
from sameo_core.config import RESULTS, ROOT
from sameo_core.errors import InputError
from sameo_core.reporting import read_table, write_table
from sameo_core.reporting.committed import claims_agree, tables_agree
from sameo_core.reproduction import report, runner

PARAMETERS = 'profile: str = "mini"  # which numbers'
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write_notebook(folder, name, *cells, metadata=KERNEL, parameters=PARAMETERS):
    """A notebook of a title, a parameters cell, and cells; text that starts with # and a blank is prose."""
    folder.mkdir(exist_ok=True)
    made = [new_markdown_cell(f"# {name}"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    made += [new_markdown_cell(cell) if re.match("#+ ", cell) else new_code_cell(cell) for cell in cells]
    nbformat.write(new_notebook(cells=made, metadata=metadata), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture
def places(tmp_path):
    return {"folder": tmp_path / "notebooks", "runs": tmp_path / "runs", "committed": tmp_path / "committed"}


def test_success_counts_checks_and_writes_the_report(places, capsys):
    table = places["runs"] / "mini" / "results" / "table.csv"
    path = write_notebook(
        places["folder"],
        "01_first",
        "## Look",
        "assert True  # not under Check: not counted",
        f"from pathlib import Path\ntable = Path({str(table)!r})",
        "table.parent.mkdir(parents=True)\ntable.write_text('a')",
        "import os\nprint('seen', profile, os.environ['TQDM_DISABLE'], os.getcwd())",
        "from IPython.display import HTML\nHTML('<script src=\"https://x.org/x.js\"></script><b>bold output</b>')",
        "## Check",
        "for number in (1, 2):\n    assert number\nassert profile",
        "assert not os.environ.get('absent')",
        "## Change it",
    )
    write_notebook(places["folder"], "A1_appendix", "## Check", "assert profile == 'mini'")
    write_notebook(places["folder"], "scratch", "raise RuntimeError('not numbered: not run')")
    before = path.read_bytes()

    first, appendix = reproduction.reproduce("mini", **places)

    assert (first.status, first.checks, first.error) == ("passed", 3, None)
    assert (appendix.name, appendix.status, appendix.checks) == ("A1_appendix", "passed", 1)
    assert path.read_bytes() == before
    there = json.loads((places["runs"] / "mini" / "environment.json").read_text())
    assert there["packages"]["sameo"] == __version__ and there["python"] == platform.python_version()
    executed = nbformat.read(first.output, as_version=4)
    assert first.output == places["runs"] / "mini" / "notebooks" / "01_first.ipynb"
    assert f"seen mini 1 {places['folder']}" in str([cell.get("outputs") for cell in executed.cells])
    printed = capsys.readouterr().out
    assert re.search(r"^\| 01_first +\| 0:\d\d +\| +3 \| passed \|$", printed, re.M)
    assert "\n2 of 2 notebooks passed, 4 checks held" in printed
    assert "\x1b" not in printed and "\r" not in printed
    page = (places["runs"] / "mini" / "report.html").read_text()
    assert "seen mini" in page and 0 < page.index("2 of 2") < page.index("bold output") < page.index(
        'href="results/table.csv"'
    )
    assert external_references(page) == []


def external_references(page):
    return re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>|@import", page)


def test_failing_cell_stops_the_run_and_is_named(places, capsys):
    """With the line of the notebook, and the line of the library that raised."""
    failing = "fine = 1\nassert fine == 1\njson.loads('{')\nassert fine == 3"
    write_notebook(places["folder"], "01_fails", "import json", "## Check", failing)
    write_notebook(places["folder"], "02_never", "print('unreached')")

    failed, never = reproduction.reproduce("mini", **places)

    assert (failed.status, failed.checks, never.status, never.output.exists()) == ("failed", 0, "not run", False)
    printed = capsys.readouterr().out
    for words in ('code cell 3 of 3, under "Check"', "line 3", "json.loads('{')", "json/decoder.py", "JSONDecodeError"):
        assert words in printed
    assert "\x1b" not in printed
    assert failed.output.is_file()
    page = (places["runs"] / "mini" / "report.html").read_text()
    assert "JSONDecodeError" in page and "not run" in page


def test_unknown_parameter_is_an_error_before_anything_runs(places):
    write_notebook(places["folder"], "01_good", "1")
    write_notebook(places["folder"], "02_typo", "1", parameters='profil: str = "mini"')
    with pytest.raises(InputError, match=r"02_typo\.ipynb.*no parameter 'profile'; it has profil"):
        reproduction.reproduce("mini", **places)
    with pytest.raises(InputError, match="no parameter 'seeds'"):
        reproduction.reproduce("mini", ["01"], seeds=2, **places)
    assert not places["runs"].exists()


def test_nobody_is_there_to_drag_a_box(places):
    """Widgets are left out of a run without a browser; were they shown, no state of theirs would be saved."""
    parameters = f"{PARAMETERS}\ninteractive: bool = True  # widgets"
    shown = "import ipywidgets\nbox = ipywidgets.HTML('x' * 10_000)\nif {}:\n    display(box)"
    write_notebook(places["folder"], "01_widgets", shown.format("interactive"), parameters=parameters)
    write_notebook(places["folder"], "02_widgets", shown.format("True"), parameters=parameters)
    silent, shown = (nbformat.read(run.output, as_version=4) for run in reproduction.reproduce("mini", **places))
    assert silent.cells[-1].outputs == []
    assert shown.cells[-1].outputs[0].output_type == "display_data"
    assert "widgets" not in shown.metadata and "x" * 1000 not in nbformat.writes(shown)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("import os\nos._exit(9)", "kernel died"),
        ("import time\ntime.sleep(60)", "longer than its 5 s"),
        ("import sys\nsys.exit(0)", "before its end"),
    ],
)
def test_a_notebook_that_does_not_reach_its_end_has_failed(cell, words, places):
    write_notebook(places["folder"], "01_ends", "## Boom", cell, "## Check", "assert True")
    (run,) = reproduction.reproduce("mini", cell_timeout=5, **places)
    assert run.status == "failed" and run.checks == 0
    assert 'code cell 2 of 3, under "Boom"' in run.error and words in run.error
    assert (places["runs"] / "mini" / "report.html").is_file()


def test_the_kernel_is_this_python_whatever_the_notebook_says(places):
    metadata = {"kernelspec": {"name": "someones-own", "display_name": "x"}}
    write_notebook(places["folder"], "01_other", f"import sys\nassert sys.prefix == {sys.prefix!r}", metadata=metadata)
    (run,) = reproduction.reproduce("mini", **places)
    assert (run.status, run.error) == ("passed", None)


def test_only_some_notebooks(places):
    for name in ("01_a", "02_b", "A1_c"):
        write_notebook(places["folder"], name)
    assert [path.stem for path in reproduction.find_notebooks(places["folder"])] == ["01_a", "02_b", "A1_c"]
    assert [path.stem for path in reproduction.find_notebooks(places["folder"], ["A1", "01_a"])] == ["01_a", "A1_c"]


def test_ctrl_c_stops_with_a_summary_and_leaves_no_kernel(places):
    mark = places["folder"] / "kernel.pid"
    write_notebook(places["folder"], "01_quick", "1")
    long = f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(120)"
    write_notebook(places["folder"], "02_long", long)
    write_notebook(places["folder"], "03_never", "1")
    script = (  # a job in the background of a shell is born deaf to Ctrl-C
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from pathlib import Path; from sameo_core.reproduction import reproduce;"
        f"runs = reproduce(folder=Path({str(places['folder'])!r}), runs=Path({str(places['runs'])!r}),"
        f" committed=Path({str(places['committed'])!r})); print([run.status for run in runs])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: mark.is_file() and mark.read_text(), 120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "['passed', 'interrupted', 'not run']" in out
    assert "02_long was interrupted" in out and "1 of 3 notebooks passed" in out
    assert not err.startswith("Traceback") and "\nTraceback" not in err, err  # a dying kernel's log is indented
    assert (places["runs"] / "mini" / "report.html").is_file()
    wait_until(lambda: not is_running(int(mark.read_text())), 30)


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def is_running(process_id):
    status = Path(f"/proc/{process_id}/stat")
    if status.parent.parent.joinpath("self").exists():  # a zombie that nobody waits for has ended
        return status.is_file() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_command_line_exit_codes(monkeypatch):
    for statuses, code in ((["passed"], 0), (["passed", "failed", "not run"], 1), (["interrupted"], 130)):
        runs = [reproduction.NotebookRun("01_x", status) for status in statuses]
        monkeypatch.setattr(reproduction, "reproduce", lambda *_, runs=runs, **__: runs)
        assert command_line.main(["reproduce"]) == code


def test_clock():
    assert [report.clock(seconds) for seconds in (0.4, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]


def test_outputs_worth_showing_are_taken_into_the_notebook(tmp_path):
    """Kept: what a tagged cell showed, without its warnings. Stripped: everything else, also from earlier times."""
    kept = new_code_cell("1", metadata={"tags": ["keep_output"]})
    source = new_notebook(cells=[kept, new_code_cell("1", outputs=[new_output("stream", text="old")])])
    executed = nbformat.from_dict(source)
    executed.cells[0].execution_count = 1
    executed.cells[0].outputs = [new_output("stream", name=name, text=name) for name in ("stdout", "stderr")]
    executed.cells[1].outputs = [new_output("stream", text="stripped")]
    for name, notebook in (("01_a.ipynb", source), ("executed.ipynb", executed)):
        nbformat.write(notebook, tmp_path / name)
    reproduction.save_outputs(tmp_path / "01_a.ipynb", tmp_path / "executed.ipynb")
    first, second = nbformat.read(tmp_path / "01_a.ipynb", as_version=4).cells
    assert [output.text for output in first.outputs] == ["stdout"] and first.execution_count == 1
    assert second.outputs == [] and second.execution_count is None


# --------------------------------------------------------------------------- beside the committed tables, and into them

WRITES = """
from pathlib import Path
from sameo_core.reporting import write_table
rows = [{"seed": seed, "model": "a", "AP": 0.5 + seed / 100} for seed in range(seeds)]
print(write_table("scores", rows, profile, Path(RUNS) / profile / "results"))
"""


@pytest.fixture
def scores(places):
    """A notebook that writes a table of so many seeds, kept with its output; the table of two is committed."""
    source, parameters = f"RUNS = {str(places['runs'])!r}{WRITES}", f"{PARAMETERS}\nseeds: int = 1  # how often"
    path = write_notebook(places["folder"], "01_scores", source, parameters=parameters)
    notebook = nbformat.read(path, 4)
    notebook.cells[-1].metadata["tags"] = ["keep_output"]
    nbformat.write(notebook, path)
    rows = [{"seed": seed, "model": "a", "AP": 0.5} for seed in (0, 1)]
    return write_table("scores", rows, "mini", places["committed"] / "mini")


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_touches_nothing_that_is_tracked_and_compares(places, scores, capsys):
    before = tree(places["folder"]) | tree(places["committed"])
    reproduction.reproduce("mini", **places)
    assert tree(places["folder"]) | tree(places["committed"]) == before
    assert "\n  equal: scores\n" in capsys.readouterr().out  # the committed row of its seed


def test_update_commits_tables_and_outputs(places, scores, capsys):
    reproduction.reproduce("mini", seeds=2, update=True, **places)
    assert "\n  within tolerance: scores\n" in capsys.readouterr().out
    assert "1, a: AP 0.5 -&gt; 0.51" in (places["runs"] / "mini" / "report.html").read_text()
    assert [row["AP"] for row in read_table(scores)] == [0.5, 0.51]
    (shown,) = nbformat.read(places["folder"] / "01_scores.ipynb", 4).cells[-1].outputs
    assert "scores.csv" in shown.text


def test_the_terminal_shows_every_claim_under_both_verdicts():
    rows = read_table(RESULTS / "mini" / "claims.csv")
    files = [RESULTS / "mini" / "claims.csv"]
    lines = report.brief(tables_agree(files, files[0].parent), claims_agree(*files, *files)).splitlines()
    assert lines[1] == "  equal: claims"
    for row in rows:
        kind = re.split("[,;]", row["setting"])[0]
        (place,) = [i for i, line in enumerate(lines) if line.endswith(f"  {row['claim']}, {row['metric']} ({kind})")]
        above = [line for line in lines[:place] if not line.startswith("    ")][-1]
        assert above == f"  {row['verdict']}, {row['verdict']}"


def test_a_run_that_fails_updates_nothing(places, scores):
    write_notebook(places["folder"], "02_fails", "1 / 0")
    before = tree(places["folder"]) | tree(places["committed"])
    reproduction.reproduce("mini", update=True, **places)
    assert tree(places["folder"]) | tree(places["committed"]) == before


def test_an_update_of_trained_tables_wants_several_seeds(capsys):
    assert command_line.main(["reproduce", "--update"]) == 2
    assert command_line.main(["reproduce", "--update", "--seeds", "1"]) == 2
    assert "--seeds 3" in capsys.readouterr().err


def test_expected_minutes_and_what_is_left_stand_before_each_notebook(places, capsys):
    for name, card in (
        ("01_a", "mini: 2 minutes on 2 cores, 8 with three seeds; paper: days"),
        ("02_b", "mini: 1 minute on 2 cores"),
    ):
        path = write_notebook(places["folder"], name, "1")
        notebook = nbformat.read(path, 4)
        notebook.cells[0].source += f"\n{card}"
        nbformat.write(notebook, path)
        assert [reproduction.expected_minutes(path, n) for n in (1, 2, 3)] in ([2, 5, 8], [1, 1, 1])
    reproduction.reproduce("mini", **places)
    printed = capsys.readouterr().out
    assert re.search(r"^01_a  about 2 min, then 1 more$", printed, re.M)
    assert re.search(r"^02_b  about 0 min, then 0 more$", printed, re.M)  # at the pace so far
    assert all(reproduction.expected_minutes(path) for path in reproduction.find_notebooks())


def test_kernels_of_mini_compute_in_one_thread_with_the_same_instructions_everywhere(monkeypatch):
    monkeypatch.setattr(runner.torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    with reproduction.kernel_environment("mini"):
        assert runner.AVX2.items() <= os.environ.items()
    with reproduction.kernel_environment("paper"):
        assert not runner.AVX2.items() <= os.environ.items()
    monkeypatch.setattr(runner.torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")  # e.g. ARM
    with reproduction.kernel_environment("mini"):
        assert "ATEN_CPU_CAPABILITY" not in os.environ and os.environ["OMP_NUM_THREADS"] == "1"


def test_what_notebooks_ask_for_is_trained_ahead(monkeypatch):
    """Each training that notebooks 03 to 05 ask for, for every seed; of one notebook, its own."""
    done = []

    def train(profile, seed):
        done.append((profile.data.train, seed))

    def train_amodal_rcnn(profile, seed):
        done.append(("end to end", seed))

    monkeypatch.setattr(pipeline, "train", train)
    monkeypatch.setattr(pipeline, "train_amodal_rcnn", train_amodal_rcnn)
    reproduction.train_ahead(["03"], 1)
    assert [train for train, _ in done] == [("cocoa_cls",), ("d2sa",), ("muva",)]
    done.clear()
    reproduction.train_ahead(["03", "05"], 2)
    assert done[-2:] == [("end to end", 0), ("end to end", 1)] and len(done) == 2 * 5


def test_the_process_that_trains_ahead_ends_with_the_run(monkeypatch, tmp_path):
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setattr(runner.subprocess, "Popen", lambda *_, **__: sleeping)
    with reproduction.trainings_ahead(["03"], 1, tmp_path / "log"):
        assert sleeping.poll() is None
    assert sleeping.poll() is not None

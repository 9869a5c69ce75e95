"""A run folder belongs to one process at a time; its log goes with its checkpoint."""

import subprocess
import sys
import textwrap
import threading

import pytest

from sameo_core.runs.folders import append_log, load_checkpoint, locked, read_log, save_checkpoint

HOLDING = """
    import sys
    from pathlib import Path
    from sameo_core.runs.folders import locked

    with locked(Path(sys.argv[1])):
        print("locked", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked tmp_path / "run" until it is told to go, or killed."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDING), str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("end", ["leaves", "is killed"])
def test_a_second_process_waits_for_the_first(holder, tmp_path, end):
    order = []

    def second():
        with locked(tmp_path / "run"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive() and not order
    order.append("first")
    if end == "leaves":
        holder.communicate("go\n")
    else:
        holder.kill()
    thread.join(20)
    assert order == ["first", "second"]


def test_a_log_forgets_what_came_after_the_checkpoint(tmp_path):
    path, checkpoint = tmp_path / "log.csv", tmp_path / "checkpoint.pt"
    save_checkpoint({"iteration": 0}, checkpoint)  # before anything is logged
    append_log(path, {"step": 25, "loss": 3.125})
    assert load_checkpoint(checkpoint) == {"iteration": 0} and not path.read_bytes()
    for step in (25, 50):
        append_log(path, {"step": step, "loss": step / 8})
    whole = path.read_bytes()
    save_checkpoint({"iteration": 50}, checkpoint)
    append_log(path, {"step": 125, "loss": 15.625})
    assert [row["step"] for row in read_log(path)] == [25, 50, 125]
    path.write_bytes(path.read_bytes()[:-6])  # killed while it wrote the last row: "125,15.625" is now "125,1"
    for damaged in (path.read_bytes(), whole[:-4], b"", whole.replace(b"6.25", b"6.26"), None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        assert load_checkpoint(checkpoint) == {"iteration": 50} and path.read_bytes() == whole
    checkpoint.unlink()
    assert load_checkpoint(checkpoint) is None and list(tmp_path.iterdir()) == []

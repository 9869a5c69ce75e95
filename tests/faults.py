"""What does the damage in tests of faults: files cut short, small disks, folders that cannot be written, processes."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def half(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def zeros(path):
    """The last third, as a file system may leave it after a crash."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + bytes(len(content) - len(content) * 2 // 3))


def another_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def mount(*arguments):
    if sys.platform != "linux" or subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode:
        pytest.skip("mounting a disk is not permitted here")


@contextmanager
def small_disk(folder, kilobytes):
    """A disk of its own at `folder`, while the block lasts; yields a function that changes its size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder)
    try:
        yield lambda kilobytes: mount("-o", f"remount,size={kilobytes}k", folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder):
    """Nothing in the folder can be written while the block lasts; as root, to whom rights mean nothing, by a mount."""
    if os.getuid():
        below = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        rights = {path: path.stat().st_mode for path in below}
        try:
            for path in below:
                path.chmod(0o555)
            yield
        finally:
            for path, mode in rights.items():
                path.chmod(mode)
        return
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,ro,bind", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def child(work):
    """A process that does the work, which must be free of PyTorch: a fork has none of its threads. Its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def ends_well(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0

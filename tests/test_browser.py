"""Notebook 06 in a real browser: its picture alone; then all of it in JupyterLab and Voilà on this machine.

Pictures of both pages are left in ``data/runs/mini/browser/``. Skipped where there is no Chromium.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import PIL.Image
import pytest

from sameo_core.apps.canvas import Canvas
from sameo_core.config import NOTEBOOKS, ROOT, RUNS, WEIGHTS
from sameo_core.miniature import draw_dataset
from sameo_core.model import SAM_ENCODER

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")

PATIENCE = 240_000  # milliseconds for anything that a busy machine may be slow at
NOTEBOOK = "06_explore_occlusions.ipynb"
ENCODER = WEIGHTS / SAM_ENCODER  # with it, the first page is that of photographs
LITTLE = "train_images=8, val_images=8"
# Console errors that are not ours: Voilà's page asks a server far away for its icon font, and tests run offline.
HARMLESS = ("https://cdn.jsdelivr.net/npm/@fortawesome/",)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the notebook, shrunk, and a checkout's data folder with the weights and little data."""
    place = tmp_path_factory.mktemp("browser")
    (place / "root" / "data").mkdir(parents=True)
    (place / "root" / "data" / "weights").symlink_to(WEIGHTS)
    folder = place / "root" / "data" / "runs" / "mini" / "datasets" / "cocoa_cls"
    draw_dataset("cocoa_cls", folder, "val", 8, jobs=1)
    notebook = nbformat.read(NOTEBOOKS / NOTEBOOK, as_version=4)
    left_out = {"lesson", "drawn"} if ENCODER.is_file() else {"lesson"}  # as `make explore`
    notebook.cells = [cell for cell in notebook.cells if not left_out & {*cell.metadata.get("tags", [])}]
    for cell in notebook.cells:
        cell.source = cell.source.replace("load_profile(profile)", f"load_profile(profile, {LITTLE})")
        cell.source = cell.source.replace("pairs: int = 16", "pairs: int = 2")
    (place / "notebooks").mkdir()
    nbformat.write(notebook, place / "notebooks" / NOTEBOOK)
    return place


@contextmanager
def server(place, *command):
    """A server of Jupyter's on a free port of this machine, with no settings of the user's; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "JUPYTERLAB_WORKSPACES", "JUPYTERLAB_SETTINGS")
    scratch = {f"{name}_DIR": str(place / name.lower()) for name in folders}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | scratch | {"SAMEO_ROOT": str(place / "root"), "PYTHONPATH": paths, "TQDM_DISABLE": "1"}
    environment |= {"IPYTHONDIR": str(place / "ipython"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *(word.format(port=port, place=place) for word in command)]
    with (place / "server.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(port, process, place / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(port, process, log):
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            return
        except OSError:
            time.sleep(0.1)  # between two attempts to connect; nothing to wait on
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"]
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that collects what its console calls an error."""
    page = browser.new_page(viewport={"width": 1600, "height": 1300})
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("console", lambda message: message.type == "error" and page.problems.append(told(message)))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    page.close()


def told(message):
    return f"{message.text} ({message.location.get('url', '')})"


def drag_a_box(page, name=None):
    """Drag a box over the picture; returns what label and picture said before and after. `name`: of a first look."""
    page.wait_for_selector(".sameo-canvas img", state="attached")
    page.evaluate("document.querySelector('.sameo-canvas').scrollIntoView()")  # JupyterLab hides what is far away
    page.wait_for_function("document.querySelector('.sameo-answer').innerText.includes('predicted IoU')")
    page.wait_for_function("document.querySelector('.sameo-canvas img').naturalWidth > 100")
    if name:
        leave_picture(page, name)
    before = state(page, ".sameo-answer", ".sameo-canvas img")
    side = boxed(page, ".sameo-canvas img")
    drag(page, ".sameo-canvas img", (6, 6), (0.6 * side["width"], 0.6 * side["height"]), steps=10)
    page.mouse.up()
    wait_for_change(page, ".sameo-answer", ".sameo-canvas img", before)
    return before, state(page, ".sameo-answer", ".sameo-canvas img")


def state(page, text, picture):
    return page.locator(text).first.inner_text(), page.locator(picture).first.get_attribute("src")


def wait_for_change(page, text, picture, before):
    changed = """([text, picture, before]) => document.querySelector(text).innerText != before[0]
                 && document.querySelector(picture).src != before[1]"""
    page.wait_for_function(changed, arg=[text, picture, list(before)])


def play(page):
    """Drag the cut-out: the share that is hidden, the picture and the curve change."""
    page.wait_for_function("document.querySelector('.sameo-occlusion').innerText.includes('hidden')")
    page.locator(".sameo-slide").first.evaluate("element => element.scrollIntoView({block: 'start'})")
    before = state(page, ".sameo-occlusion", ".sameo-slide img")
    side = boxed(page, ".sameo-slide img")
    drag(page, ".sameo-slide img", (0.3 * side["width"], 50), (0.8 * side["width"], 50), steps=10)
    wait_for_change(page, ".sameo-occlusion", ".sameo-slide img", before)
    page.mouse.up()
    page.wait_for_function("document.querySelectorAll('.sameo-curve circle').length >= 4")  # two places, two decoders


def click(page):
    """A click beside the box that was drawn is a prompt, too: the label says something else."""
    box, before = boxed(page, ".sameo-canvas img"), state(page, ".sameo-answer", ".sameo-canvas img")
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.75 * box["height"])
    wait_for_change(page, ".sameo-answer", ".sameo-canvas img", before)


def boxed(page, selector):
    canvas = page.locator(selector).first
    canvas.scroll_into_view_if_needed()
    return canvas.bounding_box()


def drag(page, selector, *points, steps=1):
    """Press at the first point, in pixels from the picture's corner, and move over the others."""
    corner = boxed(page, selector)
    for number, (x, y) in enumerate(points):
        page.mouse.move(corner["x"] + x, corner["y"] + y, steps=steps if number else 1)
        if not number:
            page.mouse.down()


def leave_picture(page, name):
    folder = RUNS / "mini" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(folder / f"{name}.png"))


def check(page, before, after):
    assert predicted_iou(after[0]) != predicted_iou(before[0])
    assert 0 <= predicted_iou(after[0]) <= 1
    ours = [problem for problem in page.problems if not any(source in problem for source in HARMLESS)]
    assert ours == []


def predicted_iou(text):
    return float(text.split("predicted IoU")[1].split()[0])


# ---------------------------------------------------------------------------------------------- the picture alone

MODEL = """async ([source, css, picture, state]) => {
    const heard = {};
    const fire = (names) => names.forEach((name) => (heard["change:" + name] || []).forEach((react) => react()));
    window.sent = [];
    window.put = (changes) => { Object.assign(state, changes); fire(Object.keys(changes)); };
    window.answer = () => put({ answered: state.answered + 1 });
    const send = (event) => { sent.push(event); if (!window.busy) queueMicrotask(answer); };
    const model = { get: (name) => state[name], send, on: (name, react) => (heard[name] ||= []).push(react) };
    state.picture = new Uint8Array(picture);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    const script = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    (await import(script)).default.render({ model, el: document.body });
}"""
START = {"about": "", "size": [200, 400], "box": [40, 50, 120, 150], "position": -1, "number": 1, "answered": 0}


@pytest.fixture
def shown(page):
    """Show a portrait of 200 x 400 pixels, twice as large as its image is said to be if `size` is halved."""

    def show(width=1600, **state):
        picture = io.BytesIO()
        PIL.Image.new("RGB", (200, 400), "teal").save(picture, "jpeg")
        page.set_viewport_size({"width": width, "height": 900})
        source = Path(Canvas._esm).read_text(encoding="utf-8") if isinstance(Canvas._esm, Path) else str(Canvas._esm)
        page.evaluate(MODEL, [source, str(Canvas._css), list(picture.getvalue()), START | state])
        page.wait_for_function("document.querySelector('img').naturalWidth == 200")
        return page

    return show


def sent(page, kind):
    return [event for event in page.evaluate("sent") if event["kind"] == kind]


def outline(page):
    """xyxy of the box as it is seen, in pixels of the picture."""
    corner, box = page.locator("img").bounding_box(), page.locator(".sameo-box").bounding_box()
    x, y = box["x"] - corner["x"], box["y"] - corner["y"]
    return pytest.approx([x, y, x + box["width"], y + box["height"]], abs=1.5)


def test_a_release_outside_the_picture_ends_the_box(shown):
    page = shown()
    drag(page, "img", (150, 200), (180, 260), (700, 600))
    page.mouse.up()
    assert sent(page, "box")[-1] == {"kind": "box", "box": [150, 200, 200, 400], "number": 1}
    assert outline(page) == [150, 200, 200, 400]
    before = len(sent(page, "box"))
    page.mouse.move(20, 20)
    assert len(sent(page, "box")) == before, "the button is up"


def test_a_press_without_a_movement_is_a_click_and_leaves_no_box(shown):
    page = shown()
    drag(page, "img", (150, 300), (151, 300))
    page.mouse.up()
    assert sent(page, "point") == [{"kind": "point", "point": [150, 300], "number": 1}]
    drag(page, "img", (150, 300), (190, 301))
    page.mouse.up()
    assert sent(page, "box") == [] and outline(page) == [40, 50, 120, 150], "too flat for a box"


def test_a_box_is_resized_at_its_corners_and_moved_by_its_border(shown):
    page = shown()
    drag(page, "img", (120, 150), (140, 180))
    page.mouse.up()
    assert sent(page, "box")[-1]["box"] == [40, 50, 140, 180]
    drag(page, "img", (40, 100), (50, 105))
    page.mouse.up()
    assert sent(page, "box")[-1]["box"] == [50, 55, 150, 185]


KEYS = {"w": [0, -1, 0, -1], "a": [-1, 0, -1, 0], "s": [0, 1, 0, 1], "Shift+D": [10, 0, 10, 0], "e": [0, 0, 1, 0]}


def test_keys_move_and_resize_the_box(shown):
    page, box = shown(), START["box"]
    page.locator(".sameo-frame").focus()
    for key, steps in KEYS.items():
        page.keyboard.press(key)
        box = [side + step for side, step in zip(box, steps, strict=True)]
        assert outline(page) == box and sent(page, "box")[-1] == {"kind": "box", "box": box, "number": 1}


def test_keys_step_and_none_is_lost_while_python_is_busy(shown):
    page = shown()
    page.evaluate("window.busy = true")
    drag(page, "img", (150, 200), (160, 260), (170, 270), (180, 300))
    page.mouse.up()
    for key in "nnp":
        page.keyboard.press(key)
    assert len(page.evaluate("sent")) == 1, "one event at a time"
    page.evaluate("window.busy = false; answer()")
    page.wait_for_function("sent.length == 5")
    assert [event["key"] for event in sent(page, "key")] == ["n", "n", "p"]
    assert [event["box"] for event in sent(page, "box")] == [[150, 200, 160, 260], [150, 200, 180, 300]], "the newest"


def test_another_picture_ends_the_drag_and_what_python_sets_does_not_come_back(shown):
    page = shown()
    drag(page, "img", (150, 200), (160, 260))
    page.evaluate("put({ number: 2, box: [10, 20, 60, 70] })")
    page.mouse.move(300, 300)
    page.mouse.up()
    assert {event["number"] for event in page.evaluate("sent")} == {1} and outline(page) == [10, 20, 60, 70]
    page.evaluate("put({ box: [] })")
    assert not page.locator(".sameo-box").is_visible()


def test_a_portrait_keeps_its_shape_also_on_a_phone(shown):
    page = shown()
    assert [page.locator("img").bounding_box()[side] for side in ("width", "height")] == [200, 400]
    page.evaluate("document.body.replaceChildren()")
    narrow = shown(width=150, size=[400, 800])
    box = narrow.locator("img").bounding_box()
    assert box["width"] < 150 and box["height"] == pytest.approx(2 * box["width"], abs=1)
    scale = 400 / box["width"]
    drag(narrow, "img", (50, 100), (100, 200))
    narrow.mouse.up()
    assert sent(narrow, "box")[-1]["box"] == pytest.approx([50 * scale, 100 * scale, 100 * scale, 200 * scale])


def test_a_cut_out_slides_from_where_it_is(shown):
    page = shown(position=30, box=[])
    drag(page, "img", (100, 100), (110, 100), (150, 90))
    page.mouse.up()
    assert sent(page, "slide")[-1] == {"kind": "slide", "to": 80, "number": 1}
    page.keyboard.press("ArrowRight")
    assert sent(page, "key") == [{"kind": "key", "key": "ArrowRight"}]


# ------------------------------------------------------------------------------------------------------- the notebook


def test_a_dragged_box_in_jupyterlab(place, browser, page):
    lab = ["jupyterlab", "--allow-root", "--no-browser", "--ip=127.0.0.1", "--port={port}"]
    lab += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="]
    lab += ["--LabApp.expose_app_in_browser=True", "--ServerApp.root_dir={place}/notebooks"]
    with server(place, *lab) as address:
        page.goto(f"{address}/lab/workspaces/test/tree/{NOTEBOOK}?reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        before, after = drag_a_box(page)
        leave_picture(page, "lab_explorer")
        play(page)
        leave_picture(page, "lab_playground")
        check(page, before, after)
        assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0


def test_a_dragged_box_in_voila(place, browser, page):
    voila = ["voila", "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}", f"{{place}}/notebooks/{NOTEBOOK}"]
    with server(place, *voila) as address:
        page.goto(address, wait_until="commit")
        before, after = drag_a_box(page, "voila_first")
        if ENCODER.is_file():
            click(page)
        leave_picture(page, "voila_explorer")
        play(page)
        leave_picture(page, "voila_playground")
        check(page, before, after)
        assert page.locator(".jp-InputArea-editor").count() == 0, "no code is shown"
        assert "load_profile" not in page.locator("body").inner_text()
        page.set_viewport_size({"width": 390, "height": 844})
        page.locator(".sameo-canvas").first.evaluate("element => element.scrollIntoView()")
        leave_picture(page, "voila_phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing lies beside the screen"
        assert page.evaluate("[...document.querySelectorAll('.sameo-frame img')].every((image) => image.width <= 390)")

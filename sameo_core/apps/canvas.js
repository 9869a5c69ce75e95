// A picture to draw a box on, or to slide a cut-out along. The page sends events, one after the other; Python sets the
// state. Pointer events serve mouse and finger alike, and a captured pointer is heard outside the picture, too.

const CLICK = 4, GRIP = 10; // CSS pixels: a press that moves less is a click; how near to a border or corner it is taken
const SMALLEST = 3; // pixels of the image
const STEPS = { // of the box's sides x0, y0, x1, y1
  w: [0, -1, 0, -1], s: [0, 1, 0, 1], a: [-1, 0, -1, 0], d: [1, 0, 1, 0],
  q: [0, 0, -1, 0], e: [0, 0, 1, 0], f: [0, 0, 0, -1], r: [0, 0, 0, 1],
};

function render({ model, el }) {
  const frame = document.createElement("div"), image = document.createElement("img");
  const outline = document.createElement("div"), slides = () => model.get("position") >= 0;
  frame.className = "sameo-frame";
  outline.className = "sameo-box";
  frame.tabIndex = 0;
  frame.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-label", model.get("about"));
  image.alt = model.get("about");
  image.draggable = false;
  frame.append(image, outline);
  el.append(frame);

  let box = [], drag = null; // the box shown; where a press began and what it does
  let waiting = false;
  const events = [];

  function send(event) { // of a movement only the newest event matters
    const last = events.at(-1);
    if (last && last.kind === event.kind && event.kind !== "key") events.pop();
    events.push(event.kind === "key" ? event : { ...event, number: model.get("number") });
    next();
  }
  function next() {
    if (waiting || !events.length) return;
    waiting = true;
    model.send(events.shift());
  }
  function paint() {
    const url = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/jpeg" }));
    image.onload = () => URL.revokeObjectURL(url);
    image.src = url;
  }
  function place(sides) {
    const [width, height] = model.get("size"), share = (value, side) => `${(100 * value) / side}%`;
    box = sides;
    outline.hidden = !box.length;
    if (!box.length) return;
    const [x0, y0, x1, y1] = box;
    Object.assign(outline.style, {
      left: share(x0, width), top: share(y0, height), width: share(x1 - x0, width), height: share(y1 - y0, height),
    });
  }
  function at(event) { // pixels of the image, and how many make up one of the page
    const [width] = model.get("size"), shown = frame.getBoundingClientRect(), scale = width / shown.width;
    return [(event.clientX - shown.left) * scale, (event.clientY - shown.top) * scale, scale];
  }
  function cut([x0, y0, x1, y1]) {
    const [width, height] = model.get("size"), within = (value, side) => Math.min(Math.max(value, 0), side);
    return [within(Math.min(x0, x1), width), within(Math.min(y0, y1), height),
      within(Math.max(x0, x1), width), within(Math.max(y0, y1), height)];
  }
  function grip([x, y, scale]) { // the sides that a press takes: of a corner two, of a border all, else none
    if (!box.length) return [];
    const near = box.map((side, i) => Math.abs((i % 2 ? y : x) - side) < GRIP * scale);
    const horizontal = near[0] ? 0 : near[2] ? 2 : null, vertical = near[1] ? 1 : near[3] ? 3 : null;
    const inside = x > box[0] - GRIP * scale && x < box[2] + GRIP * scale
      && y > box[1] - GRIP * scale && y < box[3] + GRIP * scale;
    if (!inside || (horizontal === null && vertical === null)) return [];
    return horizontal !== null && vertical !== null ? [horizontal, vertical] : [0, 1, 2, 3];
  }
  function moved(event) { // the box under the pointer
    const [x, y] = at(event);
    if (!drag.sides.length) return cut([drag.x, drag.y, x, y]);
    return cut(drag.box.map((side, i) => (drag.sides.includes(i) ? side + (i % 2 ? y - drag.y : x - drag.x) : side)));
  }
  const large = ([x0, y0, x1, y1]) => Math.min(x1 - x0, y1 - y0) >= SMALLEST;

  frame.addEventListener("pointerdown", (event) => {
    if (event.button || drag) return;
    event.preventDefault();
    frame.focus({ preventScroll: true });
    frame.setPointerCapture(event.pointerId);
    const here = at(event);
    drag = { x: here[0], y: here[1], left: event.clientX, top: event.clientY, position: model.get("position"),
      sides: slides() ? [] : grip(here), box, far: false };
  });
  frame.addEventListener("pointermove", (event) => {
    if (!drag) {
      const sides = slides() ? [] : grip(at(event));
      const corner = sides[0] + 1 === sides[1] ? "nwse-resize" : "nesw-resize";
      frame.style.cursor = slides() ? "grab" : { 0: "crosshair", 2: corner, 4: "move" }[sides.length];
      return;
    }
    drag.far ||= Math.hypot(event.clientX - drag.left, event.clientY - drag.top) >= CLICK;
    if (!drag.far) return;
    if (slides()) {
      send({ kind: "slide", to: drag.position + at(event)[0] - drag.x });
      return;
    }
    place(moved(event));
    if (large(box)) send({ kind: "box", box });
  });
  function release(event) {
    if (!drag) return;
    const { far, x, y } = drag;
    drag = null;
    if (slides()) return;
    if (!far && event.type === "pointerup") send({ kind: "point", point: [x, y] });
    if (far && large(box)) send({ kind: "box", box });
    else place(model.get("box"));
  }
  frame.addEventListener("pointerup", release);
  frame.addEventListener("pointercancel", release);
  frame.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, step = STEPS[key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step && box.length) {
      const shifted = box.map((side, i) => side + step[i] * (event.shiftKey ? 10 : 1));
      if (!large(cut(shifted))) return;
      place(cut(shifted));
      send({ kind: "box", box });
    } else if (["n", "p", ...(slides() ? ["ArrowLeft", "ArrowRight"] : [])].includes(key)) send({ kind: "key", key });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  model.on("change:answered", () => { waiting = false; next(); });
  model.on("change:picture", paint);
  model.on("change:number", () => { drag = null; place(model.get("box")); });
  model.on("change:box", () => { if (!drag && !events.length) place(model.get("box")); });
  paint();
  place(model.get("box"));
}

export default { render };

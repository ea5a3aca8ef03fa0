// What is shown, and what changes it.
const state = { layer: 0, step: 0, hovered: null, selected: null, hits: new Set(), strong: false, playing: 0,
  colour: Object.keys(COLOURS).find(name => COLOURS[name].there) };
const controls = Object.fromEntries(["play", "layer", "step", "colour", "strong", "search"].map(id => [id, document.getElementById(id)]));
let scheduled = false;

function focusOf() {
  const node = state.hovered ?? state.selected;
  if (node === null) return null;
  const near = neighborsOf(state.layer, state.step, node);
  return { node, ...near, lit: new Map([[node, "focus"], ...near.found.map(each => [each.node, each.kind])]) };
}

function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(time => {
    scheduled = false;
    if (drawCanvas(state, focusOf(), Math.max(time, performance.now()))) draw();
  });
}
function paint() {
  const focus = focusOf();
  paintText(state, focus);
  paintDetail(state, focus);
  paintLegend(state);
  document.getElementById("layer-name").textContent = DATA.layers[state.layer];
  document.getElementById("step-name").textContent = DATA.steps[state.step];
  controls.layer.value = state.layer;
  controls.step.value = state.step;
  controls.colour.value = state.colour;
  controls.strong.checked = state.strong;
  controls.layer.setAttribute("aria-valuetext", DATA.layers[state.layer]);
  canvas.setAttribute("aria-label", `${COUNT} nodes in ${DATA.layers[state.layer]}`);
  draw();
  tellChoices();
}

// Goes to a frame; returns whether that is another one.
function goTo(layer, step, glide) {
  const before = frameOf(state.layer, state.step);
  [state.layer, state.step] = [Math.min(Math.max(layer, 0), LAYERS - 1), Math.min(Math.max(step, 0), STEPS - 1)];
  const after = frameOf(state.layer, state.step);
  if (after !== before) setFrame(after, glide);
  return after !== before;
}
function show(layer, step) { if (goTo(layer, step, true)) paint(); }
function point(node) { if (node !== state.hovered) { state.hovered = node; paint(); } }
function select(node) {
  state.selected = node;
  if (node !== null) spans[node].scrollIntoView({ block: "nearest" });
  paint();
}
function pin(node) { select(state.selected === node ? null : node); }
function search(words) {
  const wanted = words.trim().toLowerCase();
  state.hits = new Set(wanted ? [...Array(COUNT).keys()].filter(node => wordOf(node).toLowerCase().includes(wanted)) : []);
  document.getElementById("hits").textContent = wanted ? `${state.hits.size} found` : "";
  if (state.hits.size) spans[[...state.hits][0]].scrollIntoView({ block: "nearest" });
  paint();
}
function stop() {
  clearInterval(state.playing);
  state.playing = 0;
  controls.play.textContent = "▶";
  controls.play.setAttribute("aria-label", "play");
}
function play() {
  if (state.playing) return stop();
  const steps = LAYERS === 1;
  const last = () => steps ? state.step === STEPS - 1 : state.layer === LAYERS - 1;
  if (last()) steps ? show(0, 0) : show(0, state.step);
  controls.play.textContent = "⏸";
  controls.play.setAttribute("aria-label", "pause");
  state.playing = setInterval(() => {
    steps ? show(0, state.step + 1) : show(state.layer + 1, state.step);
    if (last()) stop();
  }, 1100);
}
function clear() {
  controls.search.value = "";
  state.selected = state.hovered = null;
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  stop();
  search("");
}

const KEYS = {
  ArrowRight: () => show(state.layer + 1, state.step), ArrowLeft: () => show(state.layer - 1, state.step),
  ArrowUp: () => show(state.layer, state.step + 1), ArrowDown: () => show(state.layer, state.step - 1),
  " ": play, "/": () => controls.search.focus(), Escape: clear,
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target === controls.search, own = ["SELECT", "BUTTON"].includes(event.target.tagName);
  if (!KEYS[event.key] || (typing && event.key !== "Escape") || (own && event.key !== "/" && event.key !== "Escape")) return;
  if (event.key === "Escape") controls.search.blur();
  if (STEPS === 1 && ["ArrowUp", "ArrowDown"].includes(event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function nodeOf(target) { const held = target.closest("[data-node]"); return held ? Number(held.dataset.node) : null; }
textBox.addEventListener("pointerover", event => point(nodeOf(event.target)));
textBox.addEventListener("pointerleave", () => point(null));
textBox.addEventListener("click", event => { const node = nodeOf(event.target); if (node !== null) pin(node); });
detail.addEventListener("click", event => { const node = nodeOf(event.target); if (node !== null) pin(node); });

let held = null;  // where a drag was last, and how far it has gone
canvas.addEventListener("pointerdown", event => { held = { x: event.offsetX, y: event.offsetY, far: 0 }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", event => {
  if (!held) return point(nodeAt(event.offsetX, event.offsetY));
  const [dx, dy] = [event.offsetX - held.x, event.offsetY - held.y];
  Object.assign(held, { x: event.offsetX, y: event.offsetY, far: held.far + Math.abs(dx) + Math.abs(dy) });
  if (DATA.dims === 3) { view.yaw += dx / 150; view.pitch += dy / 150; } else { view.x += dx; view.y += dy; }
  draw();
});
canvas.addEventListener("pointerup", event => {
  const still = held && held.far < 4, node = nodeAt(event.offsetX, event.offsetY);
  held = null;
  if (still) node === null ? select(null) : pin(node);
});
canvas.addEventListener("pointerleave", () => point(null));
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const factor = Math.exp(-event.deltaY / 400), zoom = Math.min(Math.max(view.zoom * factor, 0.5), 30), by = zoom / view.zoom;
  view.x = (view.x + size.width / 2 - event.offsetX) * by + event.offsetX - size.width / 2;
  view.y = (view.y + size.height / 2 - event.offsetY) * by + event.offsetY - size.height / 2;
  view.zoom = zoom;
  draw();
}, { passive: false });

controls.layer.max = LAYERS - 1;
controls.step.max = STEPS - 1;
controls.layer.closest("label").hidden = LAYERS === 1;
controls.layer.addEventListener("input", () => show(Number(controls.layer.value), state.step));
controls.step.addEventListener("input", () => show(state.layer, Number(controls.step.value)));
controls.play.addEventListener("click", play);
controls.play.hidden = LAYERS * STEPS === 1;
document.getElementById("steps").hidden = STEPS === 1;
controls.colour.addEventListener("change", () => { state.colour = controls.colour.value; paint(); });
controls.strong.addEventListener("change", () => { state.strong = controls.strong.checked; paint(); });
controls.search.addEventListener("input", () => search(controls.search.value));
for (const [name, scheme] of Object.entries(COLOURS)) {
  if (scheme.there) controls.colour.append(new Option(scheme.name, name));
}
document.getElementById("note").textContent = DATA.note;
DARK.addEventListener("change", paint);
buildText();
setFrame(0, false);
new ResizeObserver(() => { fitCanvas(); draw(); }).observe(canvas);
paint();
hearChoices();

// What the page shows, to be read from outside.
window.explorer = {
  get state() { return { ...state, hits: [...state.hits] }; },
  get lit() { const focus = focusOf(); return focus ? [...focus.lit] : []; },
  get labels() { return labels; },
  get resting() { return !scheduled; },
  placeOf, show, choose,
};

// The nodes on a canvas: places that glide from frame to frame, edges of what is asked for, labels.
const canvas = document.getElementById("nodes"), pen = canvas.getContext("2d");
const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const GLIDE = 450;  // milliseconds
const view = { zoom: 1, x: 0, y: 0, yaw: 0.5, pitch: 0.35 };
const now = new Float32Array(COUNT * 3), from = new Float32Array(COUNT * 3), to = new Float32Array(COUNT * 3);
const screen = new Float32Array(COUNT * 3);  // x, y and depth
let size = { width: 1, height: 1 }, moved = -Infinity, labels = [];

function setFrame(frame, glide) {
  const dims = DATA.dims;
  from.set(now);
  for (let node = 0; node < COUNT; node++) {
    for (let d = 0; d < dims; d++) to[node * 3 + d] = PLACES[(frame * COUNT + node) * dims + d] / 32767;
  }
  moved = glide && !STILL.matches ? performance.now() : -Infinity;
}

// Places of this moment on the screen; whether they move still.
function project(time) {
  const share = Math.min((time - moved) / GLIDE, 1), eased = share * share * (3 - 2 * share);
  const scale = view.zoom * Math.min(size.width / 2 - 46, size.height / 2 - 26);
  const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
  for (let i = 0; i < COUNT * 3; i += 3) {
    for (let d = 0; d < 3; d++) now[i + d] = from[i + d] + eased * (to[i + d] - from[i + d]);
    let [x, y, z] = [now[i], now[i + 1], now[i + 2]];
    if (DATA.dims === 3) {
      [x, z] = [cy * x + sy * z, cy * z - sy * x];
      [y, z] = [cp * y - sp * z, cp * z + sp * y];
    }
    screen[i] = size.width / 2 + view.x + scale * x;
    screen[i + 1] = size.height / 2 + view.y - scale * y;
    screen[i + 2] = z;
  }
  return share < 1;
}
function placeOf(node) { return [screen[node * 3], screen[node * 3 + 1]]; }

function fitCanvas() {
  const box = canvas.getBoundingClientRect(), dots = devicePixelRatio || 1;
  size = { width: box.width, height: box.height };
  canvas.width = Math.round(box.width * dots);
  canvas.height = Math.round(box.height * dots);
  pen.setTransform(dots, 0, 0, dots, 0, 0);
}

function nodeAt(x, y, reach = 14) {
  let best = null, least = reach * reach;
  for (let node = 0; node < COUNT; node++) {
    const [a, b] = placeOf(node), far = (a - x) ** 2 + (b - y) ** 2;
    if (far < least) [best, least] = [node, far];
  }
  return best;
}

function radius(active) { return (COUNT > 800 ? 2.6 : COUNT > 150 ? 4 : 6) * (active ? 1 : 0.75) * Math.min(view.zoom ** 0.35, 2); }

function drawEdge(each, style, strength, ink) {
  const [x, y] = placeOf(each.node), [a, b] = placeOf(each.target);
  pen.strokeStyle = style[each.kind];
  pen.globalAlpha = ink * (0.45 + 0.5 * strength);
  pen.lineWidth = ink * (1.2 + 2.8 * strength);
  pen.setLineDash(each.kind === "mesh" ? [6, 4] : []);
  pen.beginPath();
  pen.moveTo(x, y);
  pen.quadraticCurveTo((x + a) / 2 - (b - y) * 0.12, (y + b) / 2 + (a - x) * 0.12, a, b);
  pen.stroke();
}
// Many edges at once are drawn with less ink each.
function drawEdges(edges, style, ink) {
  const most = edges.reduce((best, each) => Math.max(best, each.weight), 1e-9);
  for (const each of edges) drawEdge(each, style, each.weight / most, ink);
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

// Circle, square, triangle, diamond: the next for each round of colours.
function outline(x, y, r, shape) {
  pen.beginPath();
  if (shape === 0) return pen.arc(x, y, r, 0, 7);
  const corners = shape === 2 ? 3 : 4, turn = shape === 1 ? Math.PI / 4 : -Math.PI / 2;
  for (let i = 0; i < corners; i++) {
    const angle = turn + 2 * Math.PI * i / corners;
    pen.lineTo(x + 1.25 * r * Math.cos(angle), y + 1.25 * r * Math.sin(angle));
  }
  pen.closePath();
}

function drawNodes(state, lit, style) {
  const frame = frameOf(state.layer, state.step), colourOf = COLOURS[state.colour].of(state.layer, state.step);
  const nodes = [...Array(COUNT).keys()];
  if (DATA.dims === 3) nodes.sort((a, b) => screen[a * 3 + 2] - screen[b * 3 + 2]);
  const front = nodes.filter(node => lit.has(node) || state.hits.has(node));
  for (const node of [...nodes.filter(node => !lit.has(node) && !state.hits.has(node)), ...front]) {
    const [x, y] = placeOf(node), active = isActive(frame, node), colour = rgb(colourOf(node));
    const shown = lit.size === 0 && state.hits.size === 0 || lit.has(node) || state.hits.has(node);
    const near = DATA.dims === 3 ? 1 + 0.3 * screen[node * 3 + 2] : 1, r = radius(active) * near * (lit.has(node) ? 1.3 : 1);
    pen.globalAlpha = shown ? 1 : 0.25;
    outline(x, y, r, state.colour === "group" ? Math.floor(Math.max(groupOf(frame, node), 0) / GROUP_COLOURS.length) % 4 : 0);
    pen.fillStyle = active ? colour : style.page;
    pen.fill();
    pen.lineWidth = active ? 0.8 : 1.8;
    pen.strokeStyle = active ? style.ink : colour;
    pen.stroke();
    if (lit.has(node) || state.hits.has(node)) {
      outline(x, y, r + 2.5, 0);
      pen.lineWidth = 2;
      pen.strokeStyle = lit.has(node) ? style[lit.get(node)] : style.hit;
      pen.stroke();
    }
  }
  pen.globalAlpha = 1;
}

const widths = new Map();
function font(strong) { return `${strong ? "600 " : ""}12px system-ui, sans-serif`; }
function shortWord(node) { const word = wordOf(node); return word.length > 24 ? SHORT[node].slice(0, 24) : word; }
function widthOf(node, strong) {
  const key = (strong ? "!" : " ") + shortWord(node);
  if (!widths.has(key)) {
    pen.font = font(strong);
    widths.set(key, pen.measureText(shortWord(node)).width + 4);
  }
  return widths.get(key);
}

function wantedLabels(state, lit) {
  const first = [...lit.keys(), ...state.hits];
  if (first.length) return [...new Set(first)];
  const { weight } = receivedOf(frameOf(state.layer, state.step));
  return [...Array(COUNT).keys()].sort((a, b) => weight[b] - weight[a]);
}
function layLabels(state, lit) {
  const all = lit.size === 0 && state.hits.size === 0, dots = [];
  const watched = all ? (COUNT <= 800 ? [...Array(COUNT).keys()] : []) : [...lit.keys()];
  for (const node of watched) {
    const [x, y] = placeOf(node), r = all && COUNT > 150 ? 2 : 5;
    dots.push({ node, left: x - r, right: x + r, top: y - r, bottom: y + r });
  }
  labels = placeLabels(wantedLabels(state, lit), placeOf, node => widthOf(node, lit.get(node) === "focus"), size, dots);
}
// The piece of a word that the node is stands in ink, the rest of the word softer.
function drawLabels(lit, style) {
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  for (const label of labels) {
    const [x, y] = placeOf(label.node), word = shortWord(label.node);
    pen.font = font(lit.get(label.node) === "focus");
    pen.lineWidth = 4;
    pen.strokeStyle = style.page;
    pen.strokeText(word, x + label.dx + 2, y + label.dy + LABEL_HEIGHT / 2);
    const before = word === wordOf(label.node) ? SHORT.slice(FIRST[label.node], label.node).join("") : "";
    let left = x + label.dx + 2;
    for (const [part, ink] of [[before, style.soft], [SHORT[label.node], style.ink], [word.slice(before.length + SHORT[label.node].length), style.soft]]) {
      pen.fillStyle = ink;
      pen.fillText(part, left, y + label.dy + LABEL_HEIGHT / 2);
      left += pen.measureText(part).width;
    }
  }
}

function styleNow() {
  const read = getComputedStyle(document.documentElement), named = name => read.getPropertyValue("--" + name).trim();
  return { page: named("page"), ink: named("ink"), soft: named("soft"), window: named("window"), mesh: named("mesh"),
    edge: named("edge"), hit: named("hit"), focus: named("ink") };
}

// Draws the moment; returns whether the next one looks different.
function drawCanvas(state, focus, time) {
  const moving = project(time), style = styleNow();
  pen.clearRect(0, 0, size.width, size.height);
  if (state.strong && !focus) drawEdges(strongestOf(frameOf(state.layer, state.step)), style, 0.5);
  if (focus) drawEdges(focus.found, style, 1);
  const lit = focus ? focus.lit : new Map();
  drawNodes(state, lit, style);
  if (!moving) layLabels(state, lit);
  drawLabels(lit, style);
  return moving;
}

// What the page knows: places, states and edges of every frame, one frame for each layer of each step.
const DATA = JSON.parse(document.getElementById("data").textContent);
const COUNT = DATA.labels.length, LAYERS = DATA.layers.length, STEPS = DATA.steps.length;

function bytes(text) { return Uint8Array.from(atob(text), letter => letter.charCodeAt(0)); }
function numbers(Kind, text) { return new Kind(bytes(text).buffer); }

const ORDER = numbers(Uint32Array, DATA.order);  // the place of each node in its text or graph
const ACTIVE = bytes(DATA.active);  // [frames, nodes]
const PLACES = numbers(Int16Array, DATA.places);  // [frames, nodes, dimensions]
const CONFIDENCE = DATA.confidence && bytes(DATA.confidence);
const GROUPS = DATA.groups && numbers(Int16Array, DATA.groups);

// Label without the space that begins a word, and for each node the first and the last of its word.
const SHORT = DATA.labels.map((label, node) => DATA.text && label.trim() ? label.trim() : label || "·");
const FIRST = new Int32Array(COUNT), LAST = new Int32Array(COUNT);
for (let node = 0; node < COUNT; node++) FIRST[node] = DATA.begins[node] ? node : FIRST[node - 1];
for (let node = COUNT - 1; node >= 0; node--) {
  LAST[node] = node + 1 < COUNT && !DATA.begins[node + 1] ? LAST[node + 1] : node;
}
function wordOf(node) { return SHORT.slice(FIRST[node], LAST[node] + 1).join(""); }

function frameOf(layer, step) { return step * LAYERS + layer; }
function isActive(frame, node) { return ACTIVE[frame * COUNT + node] === 1; }
function depthOf(step, node) {
  let depth = 0;
  for (let layer = 0; layer < LAYERS; layer++) depth += isActive(frameOf(layer, step), node);
  return depth;
}

// Kinds of edges that can be: where a graph does not tell, they are edges.
const KINDS = [...new Set(DATA.edges.flatMap(({ window }) => window === null ? ["edge"] : window ? ["window", "mesh"] : ["mesh"]))];
const unpacked = [];
function edgesOf(frame) {
  if (!unpacked[frame]) {
    const packed = DATA.edges[frame], Source = COUNT > 65535 ? Uint32Array : Uint16Array;
    unpacked[frame] = {
      starts: numbers(Uint32Array, packed.starts), source: numbers(Source, packed.source),
      weight: numbers(Uint16Array, packed.weight), decay: packed.decay && bytes(packed.decay), window: packed.window,
    };
  }
  return unpacked[frame];
}

function edge(edges, index, target) {
  const node = edges.source[index], lag = ORDER[target] - ORDER[node];
  const kind = edges.window === null ? "edge" : lag >= 1 && lag <= edges.window ? "window" : "mesh";
  return { node, target, lag, kind, weight: edges.weight[index] / 65535, decay: edges.decay && edges.decay[index] / 255 };
}

// The edges into a node, strongest first; those of the last layer that computed it where it is frozen.
function neighborsOf(layer, step, node) {
  while (layer > 0 && !isActive(frameOf(layer, step), node)) layer--;
  const edges = edgesOf(frameOf(layer, step)), found = [];
  for (let i = edges.starts[node]; i < edges.starts[node + 1]; i++) found.push(edge(edges, i, node));
  return { layer, found };
}

const kept = {};
function strongestOf(frame) {
  if (!kept[frame]) {
    const edges = edgesOf(frame), all = [];
    const floor = edges.weight.slice().sort().at(-Math.min(edges.weight.length, Math.max(12, Math.min(COUNT, 150))));
    for (let target = 0; target < COUNT; target++) {
      for (let i = edges.starts[target]; i < edges.starts[target + 1]; i++) {
        if (edges.weight[i] >= floor) all.push(edge(edges, i, target));
      }
    }
    kept[frame] = all.slice(0, 300);
  }
  return kept[frame];
}

// The weight that all others give to each node, and how many give any, in a frame.
const sums = [];
function receivedOf(frame) {
  if (!sums[frame]) {
    const edges = edgesOf(frame), weight = new Float32Array(COUNT), count = new Uint32Array(COUNT);
    for (let i = 0; i < edges.source.length; i++) {
      weight[edges.source[i]] += edges.weight[i] / 65535;
      count[edges.source[i]]++;
    }
    sums[frame] = { weight, count, most: weight.reduce((a, b) => Math.max(a, b), 1e-9) };
  }
  return sums[frame];
}

// What a colour means. All are told apart with any common colour vision (Okabe and Ito, 2008); ramps grow lighter or
// darker all the way.
const GROUP_COLOURS = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];
const NO_GROUP = [153, 153, 153];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const RAMPS = {
  amount: { light: [[176, 206, 230], [80, 150, 200], [0, 76, 130]], dark: [[62, 88, 112], [66, 138, 190], [160, 215, 252]] },
  order: { light: [[20, 66, 130], [26, 140, 130], [228, 170, 30]], dark: [[70, 130, 215], [60, 180, 160], [250, 215, 100]] },
};

function ramp(name, share) {
  const stops = RAMPS[name][DARK.matches ? "dark" : "light"], at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((part, i) => Math.round(part + (at - low) * (stops[low + 1][i] - part)));
}
function rgb(colour, alpha = 1) { return `rgba(${colour.join(",")},${alpha})`; }
function groupOf(frame, node) { return GROUPS[frame * COUNT + node]; }
function groupColour(group) { return group < 0 ? NO_GROUP : GROUP_COLOURS[group % GROUP_COLOURS.length]; }

const COLOURS = {
  depth: {
    name: "layers computed", there: ACTIVE.includes(0), ramp: "amount", ends: ["1 layer", `${LAYERS} layers`],
    of: (layer, step) => node => ramp("amount", (depthOf(step, node) - 1) / Math.max(LAYERS - 1, 1)),
  },
  group: {
    name: DATA.groupTitle, there: GROUPS !== null, ramp: null,
    of: (layer, step) => node => groupColour(groupOf(frameOf(layer, step), node)),
  },
  order: {
    name: "place in the text", there: DATA.text, ramp: "order", ends: ["first", "last"],
    of: () => { const last = ORDER.reduce((a, b) => Math.max(a, b), 1); return node => ramp("order", ORDER[node] / last); },
  },
  received: {
    name: "attention received", there: true, ramp: "amount", ends: ["none", "most"],
    of: (layer, step) => {
      const { weight, most } = receivedOf(frameOf(layer, step));
      return node => ramp("amount", Math.sqrt(weight[node] / most));
    },
  },
};

// The text as text, or the list of the nodes, and the table of what a node attends to.
const textBox = document.getElementById("text"), detail = document.getElementById("detail");
const spans = [];

function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

function buildText() {
  for (let node = 0; node < COUNT; node++) {
    const begins = FIRST[node] === node, ends = LAST[node] === node;
    if (begins) textBox.append(node ? " " : "");
    const span = element("span", (begins ? "begins " : "") + (ends ? "ends" : ""), SHORT[node]);
    span.dataset.node = node;
    spans.push(span);
    textBox.append(span);
    if (SHORT[node].endsWith("↵")) textBox.append(document.createElement("br"));
  }
}

function paintText(state, focus) {
  const frame = frameOf(state.layer, state.step), colourOf = COLOURS[state.colour].of(state.layer, state.step);
  for (let node = 0; node < COUNT; node++) {
    const span = spans[node], kind = focus ? focus.lit.get(node) : undefined;
    const classes = [FIRST[node] === node && "begins", LAST[node] === node && "ends", !isActive(frame, node) && "frozen", kind,
      state.hits.has(node) && "hit"].filter(Boolean).join(" ");
    if (span.className !== classes) span.className = classes;
    const colour = rgb(colourOf(node), DARK.matches ? 0.36 : 0.3);
    if (span.dataset.colour !== colour) span.style.backgroundColor = span.dataset.colour = colour;
  }
}

function inContext(node) {
  const cell = element("td", "token");
  if (DATA.text && FIRST[node] > 0) cell.append(element("small", "", SHORT[FIRST[node] - 1] + " "));
  if (DATA.text) {
    cell.append(element("small", "", SHORT.slice(FIRST[node], node).join("")), element("b", "", SHORT[node]),
      element("small", "", SHORT.slice(node + 1, LAST[node] + 1).join("")));
    if (LAST[node] + 1 < COUNT) cell.append(element("small", "", " " + SHORT[LAST[node] + 1]));
  } else cell.append(element("b", "", SHORT[node]));
  return cell;
}

function row(each, most) {
  const line = element("tr"), weight = element("td"), bar = element("i", `bar ${each.kind}`);
  bar.style.width = `${(4 * each.weight / most).toFixed(2)}em`;
  weight.append(bar, each.weight.toFixed(3));
  line.dataset.node = each.node;
  line.append(inContext(each.node), weight);
  if (each.decay !== null) line.append(element("td", "", each.decay.toFixed(2)));
  line.append(element("td", "", each.kind));
  if (DATA.text) line.append(element("td", "", each.lag > 0 ? `${each.lag} back` : `${-each.lag} ahead`));
  return line;
}

// Of the whole layer: how much it computed, and what most is attended to.
function paintLayer(state) {
  const frame = frameOf(state.layer, state.step), edges = edgesOf(frame), { weight, count } = receivedOf(frame);
  const active = spans.filter((_, node) => isActive(frame, node)).length, table = element("table"), head = element("tr");
  const best = [...weight.keys()].sort((a, b) => weight[b] - weight[a]).slice(0, 12).filter(node => weight[node] > 0);
  for (const name of ["most attended to", "weights together", "by"]) head.append(element("th", "", name));
  const rows = best.map(node => {
    const line = element("tr"), bar = element("i", "bar all"), cell = element("td");
    bar.style.width = `${(4 * weight[node] / weight[best[0]]).toFixed(2)}em`;
    cell.append(bar, weight[node].toFixed(2));
    line.dataset.node = node;
    line.append(inContext(node), cell, element("td", "", `${count[node]}`));
    return line;
  });
  table.append(head, ...rows);
  const facts = `${active.toLocaleString("en")} of ${COUNT.toLocaleString("en")} computed · ${edges.source.length.toLocaleString("en")} edges`;
  detail.append(element("h2", "", DATA.layers[state.layer]),
    element("p", "", `${facts} · point at a ${DATA.text ? "word" : "node"}, click to keep it`), table);
}
function paintDetail(state, focus) {
  detail.replaceChildren();
  if (!focus) return paintLayer(state);
  const { node, found, layer } = focus, frame = frameOf(state.layer, state.step), { count } = receivedOf(frame);
  const title = element("h2", "", DATA.text ? `“${wordOf(node)}”` : SHORT[node]);
  const facts = [DATA.text && `token ${node + 1} of ${COUNT}`, `attends to ${found.length}`, `attended to by ${count[node]}`];
  if (CONFIDENCE) facts.push(`confidence ${(CONFIDENCE[frame * COUNT + node] / 255).toFixed(2)}`);
  if (layer !== state.layer || !isActive(frame, node)) facts.push(`frozen: edges of ${DATA.layers[layer]}, its last`);
  const table = element("table"), head = element("tr");
  for (const name of ["attends to", "weight", found.some(each => each.decay !== null) && "decay", "kind", DATA.text && "where"]) {
    if (name) head.append(element("th", "", name));
  }
  table.append(head, ...found.map(each => row(each, Math.max(found[0].weight, 1e-9))));
  detail.append(title, element("p", "", facts.filter(Boolean).join(" · ")), table);
}

function paintLegend(state) {
  const legend = document.getElementById("legend"), made = [], scheme = COLOURS[state.colour];
  const entry = (...parts) => { const span = element("span"); span.append(...parts); made.push(span); };
  if (scheme.ramp) {
    const bar = element("i", "ramp");
    bar.style.background = `linear-gradient(90deg, ${[0, 0.5, 1].map(share => rgb(ramp(scheme.ramp, share))).join(",")})`;
    entry(`${scheme.name}: ${scheme.ends[0]}`, bar, scheme.ends[1]);
  } else {
    const frame = frameOf(state.layer, state.step), groups = new Set();
    for (let node = 0; node < COUNT; node++) groups.add(groupOf(frame, node));
    for (const group of [...groups].sort((a, b) => a - b).slice(0, 12)) {
      const dot = element("i", "dot");
      dot.style.background = rgb(groupColour(group));
      entry(dot, group < 0 ? `no ${DATA.groupTitle}` : `${DATA.groupTitle} ${group}`);
    }
  }
  entry(element("i", "dot filled"), "computed in this layer");
  if (ACTIVE.includes(0)) entry(element("i", "dot hollow"), DATA.text ? "frozen (dotted in the text)" : "frozen");
  for (const kind of KINDS) entry(element("i", `stroke ${kind}`), kind === "edge" ? kind : `edge of the ${kind}`);
  entry("thicker edge: more weight");
  if (DATA.text) { const word = element("span", "word"); word.append("wo", element("i"), "rd"); entry(word, "one word of two tokens"); }
  for (const [key, does] of [["← →", "layer"], ...(STEPS > 1 ? [["↑ ↓", "step"]] : []), ["space", "play"], ["/", "search"], ["esc", "clear"]]) {
    entry(element("kbd", "", key), does);
  }
  legend.replaceChildren(...made);
}

// Labels that do not collide: each is drawn only where its box is free, the most wanted first.
const LABEL_HEIGHT = 15, MOST_LABELS = 90, MOST_TRIED = 500;

function overlaps(a, b) { return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom; }

// The sides of a node where its label may stand: right, left, above, below.
function boxesAround(x, y, width, gap) {
  const half = LABEL_HEIGHT / 2;
  return [[x + gap, y - half], [x - gap - width, y - half], [x - width / 2, y - gap - LABEL_HEIGHT], [x - width / 2, y + gap]]
    .map(([left, top]) => ({ left, top, right: left + width, bottom: top + LABEL_HEIGHT }));
}

// `wanted` are nodes in the order of importance, `dots` boxes that no label may cover.
function placeLabels(wanted, at, widthOf, size, dots) {
  const placed = [], page = { width: size.width, height: size.height };
  for (const node of wanted.slice(0, MOST_TRIED)) {
    if (placed.length === MOST_LABELS) break;
    const [x, y] = at(node);
    const free = boxesAround(x, y, widthOf(node), 8).find(box =>
      box.left >= 2 && box.top >= 2 && box.right <= page.width - 2 && box.bottom <= page.height - 2 &&
      !placed.some(other => overlaps(box, other)) && !dots.some(dot => dot.node !== node && overlaps(box, dot)));
    if (free) placed.push({ node, ...free, dx: free.left - x, dy: free.top - y });
  }
  return placed;
}

// What is chosen here is told to the page around this one, if that one listens, and it may choose too.
const AROUND = parent === window ? null : parent;
let known = null;  // the choices that the page around knows of; null before it has chosen any

function choices() {
  const { layer, step, selected, hovered, colour, strong } = state;
  return { layer, step, selected, hovered, colour, strong };
}
function tellChoices() {
  const now = JSON.stringify(choices());
  if (known === null || known === now) return;
  known = now;
  AROUND.postMessage({ explorer: choices() }, "*");
}

// Takes some of the choices or all; what was chosen for another text may not be there.
function choose(wanted) {
  const { layer, step, selected, hovered, colour, strong } = { ...choices(), ...wanted };
  const there = node => node < COUNT ? node : null;
  goTo(layer, step, known !== null);  // where nobody has seen the page yet, nothing glides
  Object.assign(state, { selected: there(selected), hovered: there(hovered), strong });
  if (COLOURS[colour]?.there) state.colour = colour;
  known = JSON.stringify(choices());
  select(state.selected);
}
function hearChoices() {
  if (!AROUND) return;
  addEventListener("message", event => {
    if (event.source === AROUND && event.data.explorer) choose(event.data.explorer);
  });
  AROUND.postMessage({ explorer: null }, "*");
}

// The page as a widget: what is chosen in it are values of the model.
const NAMES = ["layer", "step", "selected", "hovered"];

function render({ model, el }) {
  el.innerHTML = model.get("frame");
  const frame = el.querySelector("iframe");
  let shown = {};  // what the page has chosen or was told

  function tell(...names) {
    const news = Object.fromEntries(names.map(name => [name, model.get(name)]).filter(([name, value]) => value !== shown[name]));
    if (Object.keys(news).length === 0) return;
    shown = { ...shown, ...news };
    frame.contentWindow.postMessage({ explorer: news }, "*");
  }
  function hear({ source, data }) {
    if (source !== frame.contentWindow || data.explorer === undefined) return;
    if (data.explorer === null) {  // a page that has just opened
      shown = {};
      return tell(...NAMES);
    }
    shown = data.explorer;
    for (const name of NAMES) model.set(name, shown[name]);
    model.save_changes();
  }

  const listeners = NAMES.map(name => [`change:${name}`, () => tell(name)]);
  addEventListener("message", hear);
  for (const [event, listener] of listeners) model.on(event, listener);
  return () => {
    removeEventListener("message", hear);
    for (const [event, listener] of listeners) model.off(event, listener);
  };
}
export default { render };

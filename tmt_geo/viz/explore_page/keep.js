// Around linked views: what was chosen in them stays when the page is loaded again.
(() => {
  let store = {};
  try { store = sessionStorage; } catch { /* a page in a sandbox has none, and is not loaded again */ }

  addEventListener("message", ({ source, data }) => {
    const place = [...document.querySelectorAll("iframe")].findIndex(frame => frame.contentWindow === source);
    if (place < 0 || data.explorer === undefined) return;
    const key = `${location.pathname} ${place}`;
    if (data.explorer) store[key] = JSON.stringify({ ...data.explorer, hovered: null });
    else source.postMessage({ explorer: JSON.parse(store[key] ?? "{}") }, "*");  // it has just opened
  });
})();

// Draws the report's figures: plots at once, 3D views when they are scrolled to, because a browser gives a page few
// WebGL contexts. Colours follow the page's theme; paper is always light, and shows the still picture of a 3D view.
"use strict";
(() => {
  const figures = new Map();
  for (const source of document.querySelectorAll("script[data-plot]")) {
    const place = document.getElementById(source.dataset.plot);
    figures.set(place, JSON.parse(source.textContent));
  }
  const isSolid = (place) => place.parentElement.classList.contains("stage");
  const plots = [...figures.keys()].filter((place) => !isSolid(place));
  const solids = [...figures.keys()].filter(isSolid);

  function theme() {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
      automargin: true };
    const clear = "rgba(0,0,0,0)";
    return { layout: { paper_bgcolor: clear, plot_bgcolor: clear, xaxis: axis, yaxis: axis, dragmode: false,
      font: { color: colour("--text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 48, r: 12, t: 12, b: 48 },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
      modebar: { bgcolor: clear, color: colour("--quiet"), activecolor: colour("--text") } } };
  }

  function drawPlot(place) {
    place.replaceChildren();
    const { data, layout } = figures.get(place);
    Plotly.newPlot(place, data, { ...layout, template: theme() }, { displayModeBar: false, responsive: true });
  }

  function hasWebGL() {
    const context = document.createElement("canvas").getContext("webgl");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return context !== null;
  }

  async function drawSolid(place) {
    if (place.dataset.state) return;
    place.dataset.state = "drawing";
    place.replaceChildren();
    const figure = figures.get(place);
    const config = { displaylogo: false, responsive: true, modeBarButtons: [["resetCameraDefault3d", "toImage"]] };
    await Plotly.newPlot(place, figure.data, { ...figure.layout, template: theme() }, config);
    place.on("plotly_relayout", (change) => follow(place, change));
    place.parentElement.classList.add("drawn");
    place.dataset.state = "drawn";
  }

  // Both sides of a view are looked at from the same place.
  function follow(place, change) {
    for (const [mine, other] of [["scene", "scene2"], ["scene2", "scene"]]) {
      const camera = change[`${mine}.camera`];
      if (!camera || change[`${other}.camera`]) continue;
      figures.get(place).layout[mine].camera = figures.get(place).layout[other].camera = camera;
      Plotly.relayout(place, { [`${other}.camera`]: camera, [`${mine}.camera`]: camera });
    }
  }

  function dropSolid(place) {
    if (place.dataset.state !== "drawn") return;
    place.parentElement.classList.remove("drawn");
    Plotly.purge(place);
    delete place.dataset.state;
  }

  function watch() {
    if (!hasWebGL()) return; // the still pictures stay
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const place = entry.target.querySelector(".plot");
        if (entry.isIntersecting) drawSolid(place); else dropSolid(place);
      }
    }, { rootMargin: "25% 0px" });
    for (const place of solids) {
      const stage = place.parentElement;
      watcher.observe(stage);
      // The wheel scrolls the page until a view is clicked.
      stage.addEventListener("wheel", (event) => { if (!stage.dataset.held) event.stopPropagation(); }, true);
      stage.addEventListener("pointerdown", () => { stage.dataset.held = "yes"; }, true);
      stage.addEventListener("pointerleave", () => { delete stage.dataset.held; });
    }
  }

  const repaint = () => plots.forEach((place) => Plotly.relayout(place, { template: theme() }));
  plots.forEach(drawPlot);
  watch();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  matchMedia("print").addEventListener("change", repaint);
})();

"use strict";
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paper = { width: 340, wide: 690 };

  // "var(--name)" in a plot is the value that the page's style has for it now.
  const resolve = (value, style) => {
    if (typeof value === "string") {
      const name = /^var\((--[a-z0-9-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
    }
    return value;
  };

  const axis = (own) => ({
    automargin: true, gridcolor: "var(--grid)", linecolor: "var(--line)", zeroline: false,
    ticks: "outside", tickcolor: "var(--line)", ticklen: 4, ...own,
    title: { standoff: 8, font: { size: 12 }, ...(own || {}).title },
  });

  const layout = (spec, width) => ({
    font: { family: "var(--font)", size: 12.5, color: "var(--ink-2)" },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 46, r: 14, t: 26, b: 40 },
    height: width ? 0.84 * spec.height : spec.height,
    ...(width ? { width } : { autosize: true }),
    hoverlabel: { bgcolor: "var(--ink)", bordercolor: "var(--ink)", font: { color: "var(--card)", size: 13 } },
    legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top", font: { size: 12 } },
    dragmode: false,
    ...spec.layout,
    xaxis: axis(spec.layout.xaxis), yaxis: axis(spec.layout.yaxis),
  });

  const config = { displayModeBar: false, responsive: true, scrollZoom: false, showTips: false };

  const draw = (printing) => {
    const style = getComputedStyle(root);
    for (const [name, spec] of Object.entries(specs)) {
      const place = document.getElementById(`plot-${name}`);
      if (!place) continue;
      const wide = place.dataset.wide === "yes";
      const width = printing ? (wide ? paper.wide : paper.width) : undefined;
      Plotly.react(place, resolve(spec.data, style), resolve(layout(spec, width), style), config);
    }
  };

  const onDrawn = [];

  const slider = document.getElementById("epoch");
  if (slider && specs.paths) {
    const said = document.getElementById("epoch-said");
    const place = document.getElementById("plot-paths");
    const play = document.getElementById("epoch-play");
    let timer = null;
    const show = () => {
      const frame = Number(slider.value);
      specs.paths.data[0].z = specs.paths.frames[frame];
      said.textContent = specs.paths.frame_names[frame];
      slider.setAttribute("aria-valuetext", specs.paths.frame_names[frame]);
      Plotly.restyle(place, { z: [specs.paths.frames[frame]] }, [0]);
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    };
    slider.addEventListener("input", () => { stop(); show(); });
    play.addEventListener("click", () => {
      if (timer) { stop(); return; }
      if (Number(slider.value) >= Number(slider.max)) slider.value = 0;
      play.textContent = "Pause";
      show();
      timer = setInterval(() => {
        slider.value = Number(slider.value) + 1;
        show();
        if (Number(slider.value) >= Number(slider.max)) stop();
      }, 180);
    });
  }

  const arch = document.getElementById("front-arch");
  if (arch) {
    const show = () => {
      for (const place of document.querySelectorAll(".front-arch")) {
        place.hidden = place.id !== `arch-${arch.value}`;
      }
    };
    arch.addEventListener("change", show);
    onDrawn.push(() => document.getElementById("plot-front").on("plotly_click", (event) => {
      const name = String(event.points[0].customdata);
      if (![...arch.options].some((option) => option.value === name)) return;
      arch.value = name;
      show();
    }));
  }

  const figure = document.getElementById("front-figure");
  if (figure) {
    figure.addEventListener("change", () => {
      const { title, x } = specs.front.figures[figure.value];
      specs.front.data.forEach((trace, i) => { trace.x = x[i]; });
      specs.front.layout.xaxis.title.text = title;
      draw(false);
    });
  }

  const copy = document.getElementById("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById("command").textContent);
      copy.textContent = "Copied";
    });
  }

  window.addEventListener("beforeprint", () => { root.dataset.paper = "yes"; draw(true); });
  window.addEventListener("afterprint", () => { delete root.dataset.paper; draw(false); });
  dark.addEventListener("change", () => draw(false));
  root.dataset.script = "yes";
  draw(false);
  for (const call of onDrawn) call();
  root.dataset.drawn = String(document.querySelectorAll(".plot .main-svg").length);
})();

// What the charts of all report pages share: their look, and following the width and the colours of the page.

globalThis.reportCharts = (() => {
  /** @returns a colour of the style sheet as it is now */
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  function axis() {
    return {
      stroke: () => colour("soft"),
      grid: { stroke: () => colour("line"), width: 1 },
      ticks: { stroke: () => colour("line"), width: 1 },
      font: "12px system-ui, sans-serif",
      labelFont: "12px system-ui, sans-serif",
      labelSize: 22,
    };
  }

  function widthOf(place) {
    const style = getComputedStyle(place);
    return place.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
  }

  /** charts: { plot, place, height } each */
  function follow(charts) {
    addEventListener("resize", () => {
      for (const { plot, place, height } of charts) plot.setSize({ width: widthOf(place), height });
    });
    // Colours are read when drawing, so a redraw is all that a change between light and dark needs.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const { plot } of charts) plot.redraw(false, true);
    });
  }

  return { colour, axis, widthOf, follow };
})();

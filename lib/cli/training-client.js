// The charts of the training report: one curve a codebook. It runs in the reader's browser.

(() => {
  const { charts } = JSON.parse(document.getElementById("report").textContent);
  const { colour, axis, widthOf, follow } = reportCharts;
  const height = 300;
  /** Distances of ticks where there is nothing in between. */
  const wholeNumbers = Array.from({ length: 10 }, (_, digits) => [1, 2, 5].map((first) => first * 10 ** digits)).flat();
  follow(charts.map(draw));

  /** names: of the lines; one a codebook, or a single one over the codebooks. */
  function draw({ id, xLabel, unit, digits, fromZero, x, lines, names }) {
    const place = document.getElementById(id);
    const readout = place.nextElementSibling;
    const last = x.length - 1;
    const hint = lines.length > 1 ? "Point at a curve to read its values." : "Point at the curve to read its values.";
    readout.textContent = hint;
    let focused = lines.length > 1 ? null : 1;
    const show = (plot) => {
      const at = plot.cursor.idx;
      const value = focused === null || at === null || at === undefined ? null : plot.data[focused][at];
      readout.textContent =
        value === null || value === undefined
          ? hint
          : withMinus(`${names[focused - 1]}${xLabel} ${x[at]}: ${value.toFixed(digits)}${unit}`);
    };
    const line = (_, i) => ({
      stroke: () => curveColour(lines.length > 1 ? i / (lines.length - 1) : 1),
      width: lines.length > 16 ? 1 : 2,
      points: { show: x.length === 1 || (lines.length === 1 && x.length <= 64), size: 5, fill: () => colour("card") },
    });
    const yTicks = digits === 0 ? { incrs: wholeNumbers } : {};
    const options = {
      width: widthOf(place),
      height,
      scales: {
        // A single point would have a range of its own making.
        x: { time: false, range: last === 0 ? [x[0] - 1, x[0] + 1] : [x[0], x[last]] },
        y: fromZero ? { range: (_, __, most) => [0, most > 0 ? 1.08 * most : 1] } : {},
      },
      axes: [
        { ...axis(), label: xLabel, incrs: wholeNumbers },
        { ...axis(), size: 62, values: (_, ticks) => ticks.map((tick) => withMinus(`${tick}${unit}`)), ...yTicks },
      ],
      series: [{}, ...lines.map(line)],
      legend: { show: false },
      focus: { alpha: 0.25 },
      cursor: { y: false, focus: { prox: lines.length > 1 ? 24 : -1 } },
      hooks: {
        setCursor: [show],
        setSeries: [
          (plot, series) => {
            if (lines.length === 1) return;
            focused = series;
            show(plot);
          },
        ],
      },
    };
    return { plot: new uPlot(options, [x, ...lines], place), place, height };
  }

  /** A minus sign is longer than a hyphen. */
  function withMinus(shown) {
    return shown.replace("-", "−");
  }

  /** From orange by way of magenta to blue, light enough for a dark page. */
  function curveColour(share) {
    return `hsl(${(380 - 160 * share).toFixed(0)}, 65%, ${colour("curve-lightness")})`;
  }
})();

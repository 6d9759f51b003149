// What moves on the report page: charts, and players that share one position. It runs in the reader's browser.

(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const { colour, axis, widthOf, follow } = reportCharts;
  const players = [...document.querySelectorAll("audio")];
  /** The player that was started or moved last. */
  let latest = null;

  for (const player of players) linkPlayer(player, player.parentElement.querySelector("[data-seek]"));
  follow(drawCharts());

  /** Starting one player stops the others and takes over their position; a line in its spectrogram shows it. */
  function linkPlayer(player, plot) {
    const playhead = plot.querySelector(".playhead");
    const show = () => {
      const share = player.duration > 0 ? player.currentTime / player.duration : 0;
      playhead.style.left = `${100 * share}%`;
      playhead.style.opacity = share > 0 ? "0.9" : "0";
    };
    const follow = () => {
      show();
      if (!player.paused) requestAnimationFrame(follow);
    };
    player.addEventListener("play", () => {
      if (latest !== null && latest !== player) {
        for (const other of players) if (other !== player) other.pause();
        if (!latest.ended) player.currentTime = latest.currentTime;
      }
      latest = player;
      follow();
    });
    player.addEventListener("timeupdate", show);
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect();
      latest = player;
      player.currentTime = (player.duration * (event.clientX - box.left)) / box.width;
    });
  }

  function drawCharts() {
    const stages = report.curve.map((at) => at.stages);
    const usage = (what, scale) => ["training", "clip"].map((set) => report.usage.map((at) => scale * at[set][what]));
    const small = { height: 240, stageLabel: "Codebook", digits: 1, moreAxes: [] };
    return [
      chart("chart-rate", [stages, ...["trainingSnrDb", "clipSnrDb"].map((set) => report.curve.map((at) => at[set]))], {
        height: 380,
        stageLabel: "Codebooks",
        unit: " dB",
        digits: 2,
        moreAxes: [bitrateAxis()],
      }),
      chart("chart-perplexity", [stages, ...usage("perplexity", 1)], {
        ...small,
        unit: "",
        range: (_, __, most) => [0, 1.1 * most],
      }),
      chart("chart-used", [stages, ...usage("used", 100)], { ...small, unit: " %", range: () => [0, 105] }),
    ];
  }

  /** Above the chart: the bitrate of the stages that have a tick below it. */
  function bitrateAxis() {
    const rate = (stage) => (report.curve[stage - 1].bitsPerSecond / 1000).toFixed(1);
    return { side: 0, label: "kbit/s", values: (_, stages) => stages.map(rate), grid: { show: false } };
  }

  /** data: stages, then one row for the training frames and one for the clip. */
  function chart(id, data, { height, stageLabel, unit, digits, moreAxes, range }) {
    const place = document.getElementById(id);
    const line = (label, name, dash) => ({
      label,
      stroke: () => colour(name),
      width: 2,
      dash,
      points: { show: true, size: 5, fill: () => colour("card") },
      value: (_, value) => (value === null || value === undefined ? "–" : value.toFixed(digits) + unit),
    });
    const splits = (plot) => {
      const step = plot.width < 480 ? 8 : 4;
      return [1, ...data[0].filter((stage) => stage % step === 0)];
    };
    const options = {
      width: widthOf(place),
      height,
      scales: { x: { time: false, range: [0.5, data[0].length + 0.5] }, y: range ? { range } : {} },
      axes: [
        { ...axis(), label: stageLabel.toLowerCase(), splits },
        { ...axis(), size: 54, values: (_, ticks) => ticks.map((tick) => tick + unit) },
        ...moreAxes.map((extra) => ({ ...axis(), scale: "x", splits, ...extra })),
      ],
      series: [{ label: stageLabel }, line("Training speakers", "training", [6, 4]), line("This clip", "clip")],
      cursor: { y: false },
      // Until the reader points at a stage, the legend shows the last one.
      hooks: { ready: [(plot) => plot.setLegend({ idx: data[0].length - 1 })] },
    };
    return { plot: new uPlot(options, data, place), place, height };
  }
})();

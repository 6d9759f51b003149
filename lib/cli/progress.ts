// Progress of a long step: a bar on a terminal, lines below it where there is more to tell; a few plain lines anywhere else.

import { MultiBar, Presets, SingleBar } from "cli-progress";
import { type Output, printLine } from "./context.js";

export interface Progress {
  /** `done` out of the total; `note` is a few words on where things stand, `lines` the lines below the bar; they stay until others come. */
  update(done: number, note?: string, lines?: readonly string[]): void;
  /** Ends the bar; a log gets how long it took. */
  stop(): void;
}

/** In a log, one line for each of these shares is enough to see that it moves. */
const logShare = 0.25;

/** The rows of a terminal that does not tell. */
const usualRows = 24;

/** The cursor is shown and lines are wrapped again. */
const restored = "\u001b[?25h\u001b[?7h\n";

/**
 * Starts the progress of one step, with room for `lines` lines below the bar as far as the terminal has it. Always stop it, also when
 * the step fails: the terminal's cursor comes back then.
 */
export function startProgress(output: Output, title: string, total: number, lines = 0): Progress {
  if (!output.isTTY) return startLog(output, title, total);
  // A process that ends at once, by a second Ctrl-C, cannot stop its bar.
  const restore = () => output.write(restored);
  process.once("exit", restore);
  const bar = lines === 0 ? startBar(output, title, total) : startLines(output, title, total, lines);
  const stop = () => {
    process.off("exit", restore);
    bar.stop();
  };
  return { ...bar, stop };
}

/** How many lines fit below a bar. */
export function linesBelow(output: Output): number {
  return Math.max(1, (output.rows ?? usualRows) - 3);
}

function barOptions(output: Output, title: string) {
  const format = `${title} {bar} {percentage} % · {eta_formatted} left{note}`;
  return { stream: output, format, hideCursor: true, barsize: 24 };
}

function startBar(output: Output, title: string, total: number): Progress {
  const bar = new SingleBar(barOptions(output, title), Presets.shades_classic);
  bar.start(Math.max(1, total), 0, { note: "" });
  return {
    update: (done, note) => bar.update(done, note === undefined ? {} : { note: ` · ${note}` }),
    stop: () => bar.stop(),
  };
}

function startLines(output: Output, title: string, total: number, lines: number): Progress {
  const bars = new MultiBar(barOptions(output, title), Presets.shades_classic);
  const bar = bars.create(Math.max(1, total), 0, { note: "" });
  const below = Array.from({ length: Math.min(lines, linesBelow(output)) }, () =>
    bars.create(1, 0, { line: "" }, { format: "{line}" }),
  );
  return {
    update(done, note, texts) {
      bar.update(done, note === undefined ? {} : { note: ` · ${note}` });
      if (texts !== undefined) for (const [i, one] of below.entries()) one.update(0, { line: texts[i] ?? "" });
    },
    stop: () => bars.stop(),
  };
}

function startLog(output: Output, title: string, total: number): Progress {
  const start = performance.now();
  let nextShare = logShare;
  printLine(output, `${title} …`);
  return {
    update(done, note = "") {
      if (done < nextShare * total || done >= total) return;
      printLine(output, `${title} ${Math.floor((100 * done) / total)} % ${note}`.trimEnd());
      while (done >= nextShare * total) nextShare += logShare;
    },
    stop() {
      printLine(output, `${title} took ${((performance.now() - start) / 1000).toFixed(1)} s`);
    },
  };
}

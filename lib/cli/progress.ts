// Progress of a long step: a bar on a terminal, a few plain lines anywhere else.

import { Presets, SingleBar } from "cli-progress";
import { type Output, printLine } from "./context.js";

export interface Progress {
  /** `done` out of the total; `note` is a few words on where things stand. */
  update(done: number, note?: string): void;
  /** Ends the bar; a log gets how long it took. */
  stop(): void;
}

/** In a log, one line for each of these shares is enough to see that it moves. */
const logShare = 0.25;

/** Starts the progress of one step. Always stop it, also when the step fails: the terminal's cursor comes back then. */
export function startProgress(output: Output, title: string, total: number): Progress {
  return output.isTTY ? startBar(output, title, total) : startLog(output, title, total);
}

function startBar(output: Output, title: string, total: number): Progress {
  const format = `${title} {bar} {percentage} % · {eta_formatted} left{note}`;
  const bar = new SingleBar({ stream: output, format, hideCursor: true, barsize: 24 }, Presets.shades_classic);
  bar.start(Math.max(1, total), 0, { note: "" });
  return {
    update: (done, note) => bar.update(done, note === undefined ? {} : { note: ` · ${note}` }),
    stop: () => bar.stop(),
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

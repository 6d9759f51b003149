// A worker process: takes jobs until it is told to stop, and tells its parent what it does.
//
// node worker.mjs '{"redis":"redis://127.0.0.1:6379","inputs":"/data/corpus","outputs":"/data/codes"}'

import { ClusterWorker } from "rvq/cluster";

const options = JSON.parse(process.argv[2]);
const tell = (message) => process.send?.(message);

const worker = await ClusterWorker.start({
  ...options,
  onJob: ({ state, kind, output, rows, elapsedMs, error }) =>
    tell({ state, kind, output, rows, elapsedMs, error: error?.message }),
});
tell({ state: "ready" });

// What is under way is given back to the queue, for others to do.
let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, async () => {
    if (stopping) return;
    stopping = true;
    await worker.close({ abort: true });
    process.exit(0);
  });
}

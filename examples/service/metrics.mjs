// Prometheus metrics: the process, the event loop, requests, and what the batcher counts.

import { collectDefaultMetrics, Gauge, Registry } from "prom-client";

/** @param batcher of rvq, or null */
export function createMetrics(batcher) {
  const registry = new Registry();
  // With nodejs_eventloop_lag_p99_seconds since the last scrape; the timer that measures it fires every millisecond.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 1 });
  const requests = new RequestSeconds();
  registry.registerMetric(
    readMetric("http_request_duration_seconds", "Time to answer requests, by route and status.", "histogram", () =>
      requests.values(),
    ),
  );
  if (batcher !== null) {
    for (const operation of ["encode", "decode"])
      addBatcherMetrics(registry, operation, () => batcher.metrics()[operation]);
  }
  return { registry, requests, stop: () => registry.clear() };
}

/** Counted in plain numbers: prom-client hashes the labels of every observation, which takes longer than a search in a batch. */
class RequestSeconds {
  #bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
  #histograms = new Map();

  observe(route, status, seconds) {
    const name = `${status} ${route}`;
    let histogram = this.#histograms.get(name);
    if (histogram === undefined) {
      const counts = new Array(this.#bounds.length + 1).fill(0);
      histogram = { labels: { route, status }, bounds: this.#bounds, counts, count: 0, sum: 0 };
      this.#histograms.set(name, histogram);
    }
    let range = 0;
    while (range < this.#bounds.length && seconds > this.#bounds[range]) range++;
    histogram.counts[range]++;
    histogram.count++;
    histogram.sum += seconds;
  }

  values() {
    return [...this.#histograms.values()].flatMap((histogram) => histogramValues(histogram, 1, histogram.labels));
  }
}

function addBatcherMetrics(registry, operation, read) {
  const prefix = `rvq_${operation}`;
  const gauges = {
    queuedVectors: "Vectors that no batch has taken yet.",
    waitingCalls: "Calls that wait for room in the queue.",
    batchesInFlight: "Batches that are being computed.",
  };
  const counters = {
    calls: "Calls that were accepted.",
    completed: "Calls that got their result.",
    failed: "Calls that got an error.",
    aborted: "Calls whose client went away.",
    refused: "Calls refused because the queue was full.",
    vectors: "Vectors that were computed.",
    batches: "Batches that were computed.",
  };
  for (const [name, help] of Object.entries(gauges)) {
    new Gauge({
      name: `${prefix}_${snakeCase(name)}`,
      help,
      registers: [registry],
      collect() {
        this.set(read()[name]);
      },
    });
  }
  for (const [name, help] of Object.entries(counters)) {
    registry.registerMetric(readMetric(`${prefix}_${name}_total`, help, "counter", () => [{ value: read()[name] }]));
  }
  const histograms = [
    ["batch_size", "Vectors of a batch.", () => histogramValues(read().batchSize, 1)],
    ["latency_seconds", "From call to result.", () => histogramValues(read().latencyMs, 1000)],
  ];
  for (const [name, help, values] of histograms) {
    registry.registerMetric(readMetric(`${prefix}_${name}`, help, "histogram", values));
  }
}

/** A metric whose values are counted elsewhere: prom-client's own counters can only be added to. */
function readMetric(name, help, type, values) {
  const get = () => ({
    name,
    help,
    type,
    aggregator: "sum",
    values: values().map(({ suffix = "", labels = {}, value }) => ({ metricName: name + suffix, labels, value })),
  });
  return { name, help, type, aggregator: "sum", get, reset() {} };
}

/** Prometheus counts in each range what the ranges below it hold, too. */
function histogramValues({ bounds, counts, count, sum }, scale, labels = {}) {
  let below = 0;
  const ranges = counts.map((inRange, i) => {
    below += inRange;
    const le = i < bounds.length ? bounds[i] / scale : "+Inf";
    return { suffix: "_bucket", labels: { le, ...labels }, value: below };
  });
  return [...ranges, { suffix: "_sum", labels, value: sum / scale }, { suffix: "_count", labels, value: count }];
}

function snakeCase(name) {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

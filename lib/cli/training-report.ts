// The report page of `rvq train`: curves of the codebooks in training, and how their codewords are used after it.

import type { BackendName } from "../index.js";
import { formatSeconds } from "./recordings-table.js";
import { decibels, factList, number, reportShell, text } from "./report-shell.js";
import type { MeasuredStage } from "./stage-lines.js";
import type { TrainingHistory } from "./training-history.js";
import type { TrainingPlan } from "./training-plan.js";

export interface TrainingReport {
  readonly version: string;
  readonly backend: BackendName;
  readonly modelId: string;
  readonly plan: TrainingPlan;
  /** What it was trained on, in words. */
  readonly data: string;
  readonly elapsedSeconds: number;
  /** Steps that were done before; null for a run from the start. */
  readonly resumedAt: number | null;
  readonly curves: TrainingCurves;
  /** Of the finished codebooks, on the training vectors. */
  readonly stages: readonly MeasuredStage[];
}

/** One entry a stage; null where there is no value. */
export interface TrainingCurves {
  /** Of k-means: iterations of each stage for itself. */
  readonly xLabel: "step" | "iteration";
  readonly x: readonly number[];
  readonly mse: readonly (readonly (number | null)[])[];
  readonly perplexity: readonly (readonly (number | null)[])[];
  /** Null where training knows no dead codewords. */
  readonly dead: readonly (readonly number[])[] | null;
}

/** mse[stage][iteration] and perplexity[stage][iteration]; a stage may end before the others. */
export function kmeansCurves(
  mse: readonly (readonly number[])[],
  perplexity: readonly (readonly number[])[],
): TrainingCurves {
  const longest = Math.max(...mse.map((line) => line.length));
  const x = Array.from({ length: longest }, (_, iteration) => iteration + 1);
  const padded = (lines: readonly (readonly number[])[]) =>
    lines.map((line) => x.map((_, iteration) => line[iteration] ?? null));
  return { xLabel: "iteration", x, mse: padded(mse), perplexity: padded(perplexity), dead: null };
}

export function averagesCurves(history: TrainingHistory): TrainingCurves {
  const { steps, stages } = history.toRecord();
  return {
    xLabel: "step",
    x: steps,
    mse: stages.map((stage) => stage.mse),
    perplexity: stages.map((stage) => stage.perplexity),
    dead: stages.map((stage) => stage.dead),
  };
}

interface Chart {
  readonly id: string;
  readonly title: string;
  readonly xLabel: string;
  readonly unit: string;
  readonly digits: number;
  /** Whether the axis begins at zero. */
  readonly fromZero: boolean;
  readonly x: readonly number[];
  readonly lines: readonly (readonly (number | null)[])[];
  readonly names: readonly string[];
}

/** Histograms on the page, and columns of each, at most: more is neither seen nor told apart. */
const mostHistograms = 64;
const mostColumns = 128;
/** The height of histograms: a single codeword for silence would flatten the rest. */
const mostTimesEven = 4;

export function trainingReportPage(report: TrainingReport): Promise<string> {
  const curves = curveCharts(report);
  const after = chartsAfter(report.stages);
  const body = `${introduction(report)}
<section>
<h2>In training</h2>
<p>${aboutCurves(report)}</p>
${curveScale(report.stages.length)}
<div class="charts curves">${curves.map(figure).join("")}</div>
</section>
<section>
<h2>After training</h2>
<p>The finished codebooks on all training vectors. Perplexity is the number of equally frequent codewords that would carry as
much information: ${mostCodewords(report)} is the most there can be.</p>
<div class="charts">${after.map(figure).join("")}</div>
</section>
${histograms(report.stages)}
${table(report.stages)}
<footer>rvq ${text(report.version)} · model ${text(report.modelId)}</footer>`;
  const charts = [...curves, ...after];
  return reportShell({ title: "rvq train", body, data: { charts }, client: "training-client.js" });
}

function introduction({ plan, data, backend, elapsedSeconds, resumedAt, stages }: TrainingReport): string {
  const { training, ema, audio } = plan;
  const last = stages[stages.length - 1];
  const since = resumedAt === null ? "" : `, resumed after step ${resumedAt}`;
  const facts: [string, string][] = [
    ["Data", data],
    ["Codebooks", `${training.stages} × ${training.codebookSize} codewords, seed ${training.seed}`],
    [
      "Learned by",
      ema === null
        ? `k-means, at most ${training.iterations} iterations a codebook`
        : `moving averages, ${ema.epochs} epochs of batches of at most ${ema.batch}, decay ${ema.decay}, after k-means`,
    ],
    ["SNR with all codebooks", decibels(finite(last.snrDb))],
    ["Time", `${formatSeconds(elapsedSeconds)} on the ${backend} backend${since}`],
  ];
  if (audio !== null) facts.splice(1, 0, ["Frames", `${audio.hop} MDCT coefficients, ${audio.sampleRate / 1000} kHz`]);
  return `<header>
<p class="eyebrow">Codebook learning</p>
<h1>${training.stages} codebooks of ${training.codebookSize}</h1>
${factList(facts)}
</header>`;
}

function aboutCurves({ curves }: TrainingReport): string {
  const distortion = "Distortion is the error that is left after a codebook, relative to the energy of the vectors.";
  return curves.xLabel === "step"
    ? `${distortion} Every step measures its own batch, by the codebooks before it moves them.`
    : `${distortion} Codebooks are trained one after the other, each on what the ones before left over.`;
}

function mostCodewords({ stages }: TrainingReport): number {
  return Math.max(...stages.map(({ counts }) => counts.length));
}

function curveCharts({ curves, stages }: TrainingReport): Chart[] {
  const { xLabel, x, mse, perplexity, dead } = curves;
  const names = stages.map((_, stage) => `codebook ${stage + 1}, `);
  // The energy of the vectors, an element, from a stage that leaves an error.
  const imperfect = stages.find((stage) => stage.mse > 0 && Number.isFinite(stage.snrDb));
  const energy = imperfect === undefined ? Number.NaN : imperfect.mse * 10 ** (imperfect.snrDb / 10);
  const relative = mse.map((line) => line.map((value) => (value === null ? null : decibelsOf(value / energy))));
  const shared = { xLabel, x, names };
  const distortion = { id: "chart-distortion", title: "Distortion", unit: " dB", digits: 2, fromZero: false };
  const even = { id: "chart-perplexity", title: "Perplexity", unit: "", digits: 1, fromZero: true };
  const charts: Chart[] = [
    { ...shared, ...distortion, lines: relative },
    { ...shared, ...even, lines: perplexity },
  ];
  if (dead !== null) {
    const look = { id: "chart-dead", title: "Dead codewords", unit: "", digits: 0, fromZero: true };
    charts.push({ ...shared, ...look, lines: dead });
  }
  return charts;
}

function chartsAfter(stages: readonly MeasuredStage[]): Chart[] {
  const x = stages.map((_, stage) => stage + 1);
  const shared = { xLabel: "codebook", x, names: [""], fromZero: true };
  const snr = stages.map(({ snrDb }) => finite(snrDb));
  const perplexity = stages.map((stage) => stage.perplexity);
  return [
    { ...shared, id: "chart-snr", title: "SNR after each codebook", unit: " dB", digits: 2, lines: [snr] },
    { ...shared, id: "chart-after", title: "Perplexity of each codebook", unit: "", digits: 1, lines: [perplexity] },
  ];
}

function figure({ id, title }: Chart): string {
  return `<figure><figcaption>${title}</figcaption><div class="chart" id="${id}"></div><p class="readout"></p></figure>`;
}

function curveScale(stages: number): string {
  if (stages === 1) return "";
  // The hues of training-client.js.
  const hues = [380, 340, 300, 260, 220].map((hue) => `hsl(${hue}, 65%, var(--curve-lightness))`);
  const bar = `<span class="scale-bar" style="background:linear-gradient(to right,${hues.join(",")})"></span>`;
  return `<p class="scale"><span>codebook 1</span>${bar}<span>codebook ${stages}</span></p>`;
}

function histograms(stages: readonly MeasuredStage[]): string {
  const cards = stages.slice(0, mostHistograms).map(histogram);
  const rest = stages.length - cards.length;
  const more = rest > 0 ? `<p class="note">${rest} more are in the table below.</p>` : "";
  return `<section>
<h2>Use of the codewords</h2>
<p>How many vectors each codeword serves, the most used one on the left. The line is where all would be if used equally; bars end at
${mostTimesEven} times that, however much more a codeword serves.</p>
<div class="histograms">${cards.join("")}</div>
${more}
</section>`;
}

function histogram({ counts, perplexity }: MeasuredStage, stage: number): string {
  const sorted = [...counts].sort((a, b) => b - a);
  const even = meanOf(sorted);
  const columns = Math.min(mostColumns, sorted.length);
  const bars = Array.from({ length: columns }, (_, column) => {
    const from = Math.floor((sorted.length * column) / columns);
    const end = Math.floor((sorted.length * (column + 1)) / columns);
    const height = Math.min(100, (100 * meanOf(sorted.slice(from, end))) / (mostTimesEven * even));
    return `<rect x="${column}" y="${(100 - height).toFixed(1)}" width="0.9" height="${height.toFixed(1)}"/>`;
  });
  const label = `Usage of codebook ${stage + 1}: perplexity ${number(perplexity, 1)} of ${counts.length}`;
  const line = 100 - 100 / mostTimesEven;
  return `<figure><figcaption>Codebook ${stage + 1}</figcaption>
<svg class="histogram" viewBox="0 0 ${columns} 100" preserveAspectRatio="none" role="img" aria-label="${label}">${bars.join("")}<line x1="0" x2="${columns}" y1="${line}" y2="${line}"/></svg>
<p class="facts"><span>most ${sorted[0].toLocaleString("en")}</span><span>${inUse(counts)} of ${counts.length} in use</span></p></figure>`;
}

function meanOf(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0) / counts.length;
}

function table(stages: readonly MeasuredStage[]): string {
  const rows = stages.map(
    ({ mse, snrDb, perplexity, counts }, stage) => `<tr><th scope="row">${stage + 1}</th>
<td>${mse.toExponential(3).replace("-", "−")}</td><td>${decibels(finite(snrDb))}</td><td>${number(perplexity, 1)}</td>
<td>${inUse(counts)} of ${counts.length}</td></tr>`,
  );
  return `<details>
<summary>All ${stages.length} codebooks as a table</summary>
<div class="scroll"><table>
<thead><tr><th scope="col">Codebooks</th><th scope="col">Mean squared error</th><th scope="col">SNR</th>
<th scope="col">Perplexity</th><th scope="col">In use</th></tr></thead>
<tbody>${rows.join("")}</tbody>
</table></div>
</details>`;
}

function inUse(counts: Float64Array): number {
  return counts.reduce((sum, count) => sum + Number(count > 0), 0);
}

/** Null for no error or no energy. */
function decibelsOf(ratio: number): number | null {
  return finite(Number((10 * Math.log10(ratio)).toFixed(3)));
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

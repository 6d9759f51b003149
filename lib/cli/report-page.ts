// The report page of `rvq demo`: one HTML file with sounds, pictures, charts and numbers inside; it requests nothing.

import { type Spectrogram, spectrogram } from "../audio/spectrogram.js";
import { runStoppable } from "../audio/stoppable.js";
import type { Steps } from "../time-slice.js";
import type { DemoReport, Reconstruction, Sound } from "./demo-report.js";
import { formatSeconds } from "./recordings-table.js";
import { decibels, factList, number, reportShell, text } from "./report-shell.js";
import { colourStops, spectrogramPng } from "./spectrogram-image.js";

/** Columns of a spectrogram: about as many as the page is wide. */
const pictureColumns = 1000;
/** Range of the colour scale below the loudest point of the original. */
const pictureRangeDb = 80;

/** `sounds` are the original and then one for each reconstruction of the report, in its order. */
export async function reportPage(
  report: DemoReport,
  sounds: readonly Sound[],
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<string> {
  const pictures = await runStoppable(drawSpectrograms(sounds), signal);
  const cards = sounds.map((sound, index) => soundCard(report, sound, pictures.uris[index], pictures));

  const body = `${introduction(report)}
<section>
<h2>Listen</h2>
<p>Players keep their position when you change from one to another. Click into a spectrogram to jump there.</p>
<div class="sounds">
${cards.join("\n")}
</div>
${colourScale(pictures)}
</section>
${numbers(report)}
${charts(report)}
${training(report)}
${allStages(report)}
<footer>rvq ${text(report.version)} · model ${text(report.model.id)}</footer>`;
  const data = { curve: report.curve, usage: report.usage, codewords: report.model.codewords };
  return reportShell({ title: `rvq demo: ${report.clip.name}`, body, data, client: "report-client.js" });
}

function introduction({ model, reconstructions, clip, quick }: DemoReport): string {
  const { codewords, stages, hop, sampleRate, log2Capacity } = model;
  const counts = reconstructions.map((one) => one.stages);
  const listed = `${counts.slice(0, -1).join(", ")} and ${counts[counts.length - 1]}`;
  const frameMs = (1000 * hop) / sampleRate;
  const changes = clip.changes.length === 0 ? "" : ` (${clip.changes.join("; ")})`;
  const note = quick
    ? '<p class="note">This was a quick run with small codebooks: it shows that all parts work, not how good they sound.</p>'
    : "";
  return `<header>
<p class="eyebrow">Residual vector quantization</p>
<h1>Speech from ${listed} codebooks</h1>
<p class="lead">A codebook is a list of typical vectors; a vector is sent as the number of the one that is nearest to it.
Residual quantization repeats this: the second codebook codes what the first one left over, the third what those two left,
and so on. Here every ${number(frameMs, 0)} ms of sound are one vector of ${hop} numbers, and ${stages} codebooks of ${codewords}
vectors can rebuild 2<sup>${number(log2Capacity, 0)}</sup> different ones, at the cost of ${stages}&nbsp;×&nbsp;${codewords} comparisons. Sending only
the codes of the first few codebooks lowers the bitrate; nothing has to be encoded again.</p>
<p>The clip is <strong>${text(clip.name)}</strong>, ${formatSeconds(clip.seconds)} of ${text(clip.format)}${text(changes)}. The codebooks
were not trained on it.</p>
${note}
</header>`;
}

function soundCard(report: DemoReport, { stages, wav }: Sound, picture: string, { topKhz }: Pictures): string {
  const one = report.reconstructions.find((reconstruction) => reconstruction.stages === stages);
  const title = one === undefined ? "Original" : `${stages} codebooks`;
  const facts =
    one === undefined
      ? `<span>16-bit PCM</span><span>${number((16 * report.model.sampleRate) / 1000, 0)} kbit/s</span>`
      : `<span>${decibels(one.snrDb)} SNR</span><span>${kbps(one.nominalBitsPerSecond)}</span><span>${kilobytes(one.fileBytes)}</span>`;
  const source = `data:audio/wav;base64,${Buffer.from(wav).toString("base64")}`;
  return `<article class="sound">
<div class="sound-head"><h3>${title}</h3><p class="facts">${facts}</p></div>
<audio controls preload="metadata" src="${source}" aria-label="${title}"></audio>
<div class="picture">
<span class="axis-name">kHz</span>
<div class="axis-y">${frequencyLabels(topKhz)}</div>
<div class="plot" data-seek><img src="${picture}" alt="Spectrogram: ${title}"><div class="playhead"></div></div>
<div class="axis-x">${timeLabels(report.clip.seconds)}</div>
</div>
</article>`;
}

interface Pictures {
  /** PNG data URIs, one a sound. */
  readonly uris: readonly string[];
  /** All pictures share one colour scale, so that they can be compared. */
  readonly floorDb: number;
  readonly topDb: number;
  readonly topKhz: number;
}

/** A step a picture. */
function* drawSpectrograms(sounds: readonly Sound[]): Steps<Pictures> {
  const spectra: Spectrogram[] = [];
  for (const { samples } of sounds) {
    spectra.push(spectrogram(samples, pictureColumns));
    yield;
  }
  const loudest = spectra[0].levels.reduce((top, level) => Math.max(top, level), Number.NEGATIVE_INFINITY);
  const topDb = 10 * Math.ceil(loudest / 10);
  const floorDb = topDb - pictureRangeDb;
  const sampleRate = Buffer.from(sounds[0].wav).readUInt32LE(24);
  const uris: string[] = [];
  for (const one of spectra) {
    uris.push(`data:image/png;base64,${spectrogramPng(one, floorDb, topDb).toString("base64")}`);
    yield;
  }
  return { uris, floorDb, topDb, topKhz: sampleRate / 2000 };
}

function frequencyLabels(topKhz: number): string {
  return tickSpans(topKhz, 4, "bottom");
}

function timeLabels(seconds: number): string {
  return tickSpans(seconds, 8, "left", " s");
}

/** Labels at round values from 0 to `end`, placed by percentage. */
function tickSpans(end: number, most: number, side: "left" | "bottom", unit = ""): string {
  const step = niceStep(end / most);
  const labels: string[] = [];
  for (let tick = 0; tick * step <= end * 1.0001; tick++) {
    const value = tick * step;
    const shown = number(value, Math.max(0, -Math.floor(Math.log10(step))));
    labels.push(`<span style="${side}:${((100 * value) / end).toFixed(2)}%">${shown}${unit}</span>`);
  }
  return labels.join("");
}

/** The smallest of 1, 2, 5 · 10^n that is not below `atLeast`. */
function niceStep(atLeast: number): number {
  const magnitude = 10 ** Math.floor(Math.log10(atLeast));
  return [1, 2, 5, 10].map((factor) => factor * magnitude).find((step) => step >= atLeast * 0.9999) ?? 10 * magnitude;
}

function colourScale({ floorDb, topDb }: Pictures): string {
  const colours = colourStops.map((colour) => `rgb(${colour.join(",")})`).join(",");
  return `<p class="scale"><span>${floorDb} dB</span><span class="scale-bar" style="background:linear-gradient(to right,${colours})"></span><span>${topDb} dB relative to a full-scale sine</span></p>`;
}

function numbers({ reconstructions, model, clip }: DemoReport): string {
  const rows = reconstructions.map(
    (one: Reconstruction) => `<tr><th scope="row">${one.stages}</th><td>${decibels(one.snrDb)}</td>
<td>${kbps(one.nominalBitsPerSecond)}</td><td>${one.fileBytes.toLocaleString("en")} bytes</td><td>${kbps(one.fileBitsPerSecond)}</td>
<td>${number((16 * model.sampleRate) / one.fileBitsPerSecond, 1)} ×</td></tr>`,
  );
  return `<section>
<h2>Quality and bitrate</h2>
<div class="scroll"><table>
<thead><tr><th scope="col">Codebooks</th><th scope="col">SNR</th><th scope="col">Nominal bitrate</th><th scope="col">File size</th>
<th scope="col">File bitrate</th><th scope="col">Smaller than PCM</th></tr></thead>
<tbody>${rows.join("")}</tbody>
</table></div>
<p class="note">SNR of the samples. Nominal: ${number(Math.log2(model.codewords), 2)} bits a codebook and frame, ${number(model.sampleRate / model.hop, 0)} frames
a second. File: the whole .rvq file of ${formatSeconds(clip.seconds)}, with header and checksum.</p>
</section>`;
}

function charts({ model }: DemoReport): string {
  return `<section>
<h2>Rate and distortion</h2>
<p>SNR after each codebook, on the frames that the codebooks were trained on and on this clip. The gap between the curves is
what the codebooks learned of the training speakers that does not carry over.</p>
<div class="chart tall" id="chart-rate"></div>
</section>
<section>
<h2>Use of the codewords</h2>
<p>Perplexity is the number of equally frequent codewords that would carry as much information: ${model.codewords} is the most
there can be. A short clip cannot use every codeword.</p>
<div class="charts">
<figure><figcaption>Perplexity of each codebook</figcaption><div class="chart" id="chart-perplexity"></div></figure>
<figure><figcaption>Codewords in use, %</figcaption><div class="chart" id="chart-used"></div></figure>
</div>
</section>`;
}

function training({ training: run, model, backend, encoding }: DemoReport): string {
  const { recordings, recipe } = run;
  const facts: [string, string][] = [
    ["Recordings", `${recordings.used} used, ${recordings.skipped} skipped, ${formatSeconds(recordings.usedSeconds)}`],
    [
      "Vectors",
      `${run.frames.toLocaleString("en")} frames of ${model.hop} MDCT coefficients, ${model.sampleRate / 1000} kHz`,
    ],
    [
      "Codebooks",
      `${model.stages} × ${model.codewords} codewords, k-means with ${recipe.training.iterations} iterations, seed ${recipe.training.seed}`,
    ],
    [
      "Learned from",
      `every frame${recipe.shifts > 1 ? ` at ${recipe.shifts} offsets` : ""}${recipe.negated ? ", with both signs" : ""}`,
    ],
    ["Training time", `${formatSeconds(run.elapsedSeconds)} on the ${backend} backend`],
    [
      "Encoding the clip",
      `${formatSeconds(encoding.elapsedSeconds)}, ${number(encoding.timesRealTime, 0)} × real time`,
    ],
    ["Model file", `${kilobytes(model.fileBytes)}, id ${model.id.slice(0, 16)}…`],
  ];
  const files = recordings.recordings.map((one) => {
    const levels = one.levels;
    const finding = one.skipped === null ? one.warnings.join(", ") || "ok" : `skipped: ${one.skipped}`;
    const measured =
      levels === null
        ? "<td>–</td><td>–</td><td>–</td><td>–</td>"
        : `<td>${number(levels.peakDb, 1)}</td><td>${number(100 * levels.silentShare, 0)}</td><td>${number(levels.noiseFloorDb, 0)}</td><td>${number(levels.snrDb, 0)}</td>`;
    return `<tr><th scope="row">${text(one.path)}</th><td>${number(one.seconds, 1)}</td>${measured}<td class="words">${text(finding)}</td></tr>`;
  });
  return `<section>
<h2>Training</h2>
${factList(facts)}
<div class="scroll"><table>
<thead><tr><th scope="col">Recording</th><th scope="col">Seconds</th><th scope="col">Peak, dBFS</th><th scope="col">Silence, %</th>
<th scope="col">Noise floor, dBFS</th><th scope="col">Loud over quiet, dB</th><th scope="col" class="words">Finding</th></tr></thead>
<tbody>${files.join("")}</tbody>
</table></div>
</section>`;
}

function allStages({ curve, usage }: DemoReport): string {
  const rows = curve.map(
    (
      at,
      index,
    ) => `<tr><th scope="row">${at.stages}</th><td>${kbps(at.bitsPerSecond)}</td><td>${decibels(at.trainingSnrDb)}</td>
<td>${decibels(at.clipSnrDb)}</td><td>${number(usage[index].clip.perplexity, 1)}</td><td>${number(100 * usage[index].clip.used, 1)} %</td></tr>`,
  );
  return `<details>
<summary>All ${curve.length} codebooks as a table</summary>
<div class="scroll"><table>
<thead><tr><th scope="col">Codebooks</th><th scope="col">Bitrate</th><th scope="col">SNR, training</th><th scope="col">SNR, clip</th>
<th scope="col">Perplexity, clip</th><th scope="col">In use, clip</th></tr></thead>
<tbody>${rows.join("")}</tbody>
</table></div>
</details>`;
}

function kbps(bitsPerSecond: number): string {
  return `${number(bitsPerSecond / 1000, 1)} kbit/s`;
}

function kilobytes(bytes: number): string {
  return bytes < 1e6 ? `${number(bytes / 1000, 1)} kB` : `${number(bytes / 1e6, 2)} MB`;
}

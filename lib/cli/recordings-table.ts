// The check of a folder of recordings as text: a table of the files and a few lines that sum it up.

import { relative } from "node:path";
import type { Recording, RecordingsReport } from "../audio/recordings.js";
import { textTable } from "./table.js";

/** Longer tables show only the files that something was found about. */
const maxRows = 40;

export function recordingsText(report: RecordingsReport): string {
  const { recordings, used, skipped, usedSeconds, lengths } = report;
  const isLong = recordings.length > maxRows;
  const shown = isLong
    ? recordings.filter((recording) => recording.skipped !== null || recording.warnings.length > 0).slice(0, maxRows)
    : recordings;

  const lines: string[] = [];
  if (shown.length > 0) {
    const heading = ["file", "s", "Hz", "peak dB", "silence %", "clipped %", "floor dB", "SNR dB", "finding"];
    lines.push(textTable([heading, ...shown.map(row)], new Set([1, 2, 3, 4, 5, 6, 7])), "");
  }
  if (shown.length < recordings.length) {
    lines.push(`${recordings.length - shown.length} more are not shown here; --report <file> writes all of them.`);
  }
  const total = `${used} of ${recordings.length} recordings`;
  lines.push(`${total}, ${formatSeconds(usedSeconds)}, are used; ${skipped === 0 ? "none" : skipped} skipped.`);
  if (lengths !== null && used > 1) {
    const { shortest, p10, median, p90, longest } = lengths;
    const values = [shortest, p10, median, p90, longest].map((seconds) => seconds.toFixed(1)).join(" / ");
    lines.push(`Lengths in s, shortest / 10 % / median / 90 % / longest: ${values}.`);
  }
  const rates = Object.entries(report.sampleRates);
  if (rates.length > 1) {
    lines.push(`Sample rates: ${rates.map(([rate, count]) => `${count} × ${rate} Hz`).join(", ")}.`);
  }
  return lines.join("\n");
}

export function formatSeconds(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function row({ path, seconds, sampleRate, levels, skipped, warnings }: Recording): string[] {
  const finding = skipped === null ? warnings.join(", ") || "ok" : `skipped: ${skipped}`;
  const name = shortPath(path);
  if (levels === null) return [name, "–", "–", "–", "–", "–", "–", "–", finding];
  return [
    name,
    seconds.toFixed(1),
    String(sampleRate),
    levels.peakDb.toFixed(1),
    (100 * levels.silentShare).toFixed(0),
    (100 * levels.clippedShare).toFixed(2),
    levels.noiseFloorDb.toFixed(0),
    levels.snrDb.toFixed(0),
    finding,
  ];
}

function shortPath(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return fromHere.length < path.length ? fromHere : path;
}

// The frame of report pages: one HTML file with its styles, scripts and data inside; it requests nothing.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

export interface ReportShell {
  readonly title: string;
  /** The HTML between the styles and the scripts. */
  readonly body: string;
  /** JSON that the scripts find in the element "report". */
  readonly data: unknown;
  /** The script of this page, a file beside this one; `reportCharts` of report-charts.js is there for it. */
  readonly client: string;
}

export async function reportShell({ title, body, data, client }: ReportShell): Promise<string> {
  const [style, charts, script, chartStyle, chartScript] = await Promise.all([
    readFile(join(__dirname, "report-page.css"), "utf8"),
    readFile(join(__dirname, "report-charts.js"), "utf8"),
    readFile(join(__dirname, client), "utf8"),
    readFile(require.resolve("uplot/dist/uPlot.min.css"), "utf8"),
    readFile(require.resolve("uplot/dist/uPlot.iife.min.js"), "utf8"),
  ]);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${text(title)}</title>
<style>${chartStyle}</style>
<style>${style}</style>
</head>
<body>
<main>
${body}
</main>
<script type="application/json" id="report">${json(data)}</script>
<script>${chartScript}</script>
<script>${charts}</script>
<script>${script}</script>
</body>
</html>
`;
}

/** A list of names and values; the values are plain text. */
export function factList(facts: readonly (readonly [string, string])[]): string {
  return `<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${text(value)}</dd>`).join("")}</dl>`;
}

export function decibels(value: number | null): string {
  return value === null ? "–" : `${number(value, 2)} dB`;
}

/** A minus sign is longer than a hyphen. */
export function number(value: number, digits: number): string {
  return value.toFixed(digits).replace("-", "−");
}

export function text(value: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return value.replace(/[&<>"]/g, (character) => entities[character]);
}

/** JSON that cannot end the script element it stands in. */
function json(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}

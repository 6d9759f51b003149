// What every benchmark shares: the machine in words, Markdown tables, and results as JSON where a path is given.

import { writeFileSync } from "node:fs";
import { cpus } from "node:os";

/** `--name=value` from the command line; undefined where it is not given. */
export function flag(name: string): string | undefined {
  const prefix = `--${name}=`;
  return process.argv.find((argument) => argument.startsWith(prefix))?.slice(prefix.length);
}

export function machine(): string {
  return `${cpus()[0]?.model.trim() ?? "unknown processor"}, ${cpus().length} processors, Node ${process.version}`;
}

/** A Markdown table of rows that have the same keys; numbers are printed with at most four digits. */
export function printTable(title: string, rows: readonly Record<string, string | number>[]): void {
  console.log(`\n${title}\n`);
  if (rows.length === 0) return;
  const columns = Object.keys(rows[0]);
  console.log(`| ${columns.join(" | ")} |`);
  console.log(`|${columns.map(() => "---").join("|")}|`);
  for (const row of rows) console.log(`| ${columns.map((column) => format(row[column])).join(" | ")} |`);
}

/** Writes the rows to the file of `--json=file`, where given, with the machine and the date. */
export function saveJson(benchmark: string, rows: readonly Record<string, unknown>[]): void {
  const path = flag("json");
  if (path === undefined) return;
  const result = { benchmark, machine: machine(), date: new Date().toISOString(), rows };
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  console.log(`\nwritten: ${path}`);
}

function format(value: string | number): string {
  return typeof value === "string" || Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

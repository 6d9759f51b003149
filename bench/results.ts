// What every benchmark shares: its options, the machine in words, Markdown tables, and results in files.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";

export type Row = Record<string, string | number>;

/** Everything that was printed by `printTable` and `printNote`, for the Markdown file. */
const printed: string[] = [];

/** `--name=value` from the command line; undefined where it is not given. */
export function flag(name: string): string | undefined {
  const prefix = `--${name}=`;
  return process.argv.find((argument) => argument.startsWith(prefix))?.slice(prefix.length);
}

/** Whether `--name` is on the command line. */
export function isSet(name: string): boolean {
  return process.argv.includes(`--${name}`);
}

export function machine(): string {
  return `${cpus()[0]?.model.trim() ?? "unknown processor"}, ${cpus().length} processors, Node ${process.version}`;
}

/** A Markdown table of rows that have the same keys; numbers are printed with at most four digits. */
export function printTable(title: string, rows: readonly Row[]): void {
  printNote(title);
  if (rows.length === 0) return;
  const columns = Object.keys(rows[0]);
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const body = rows.map((row) => line(columns.map((column) => format(row[column]))));
  printNote([line(columns), `|${columns.map(() => "---").join("|")}|`, ...body].join("\n"));
}

/** A paragraph beside the tables. */
export function printNote(text: string): void {
  console.log(`\n${text}`);
  printed.push(text);
}

/**
 * Writes the rows, with the machine and the date, to the file of `--json=file`; with `--save` to
 * bench/results/<benchmark>.json, and all that was printed to the .md beside it.
 */
export function saveJson(benchmark: string, rows: readonly Record<string, unknown>[]): void {
  const folder = "bench/results";
  const result = { benchmark, machine: machine(), date: new Date().toISOString(), rows };
  const files: [path: string | undefined, content: string][] = [[flag("json"), `${JSON.stringify(result, null, 2)}\n`]];
  if (isSet("save")) {
    const given = process.argv.slice(2).filter((argument) => argument !== "--save");
    const options = given.map((argument) => (argument.includes(" ") ? `"${argument}"` : argument));
    const command = `npm run bench -- ${[benchmark, ...options].join(" ")}`;
    const text = [`# ${benchmark}`, `\`${command}\`, ${result.date.slice(0, 10)}`, ...printed].join("\n\n");
    files.push([`${folder}/${benchmark}.json`, files[0][1]], [`${folder}/${benchmark}.md`, `${text}\n`]);
    mkdirSync(folder, { recursive: true });
  }
  for (const [path, content] of files) {
    if (path === undefined) continue;
    writeFileSync(path, content);
    console.log(`\nwritten: ${path}`);
  }
}

function format(value: string | number): string {
  return typeof value === "string" || Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

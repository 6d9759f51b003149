// Tables and name–value lists for the terminal, aligned by spaces.

/** Rows of equal length, the first one the heading; columns named in `numeric` are aligned to the right. */
export function textTable(rows: readonly (readonly string[])[], numeric: ReadonlySet<number> = new Set()): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (numeric.has(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** One `name  value` line each. */
export function textList(entries: readonly (readonly [string, string])[]): string {
  return textTable(entries);
}

// The code samples of README.md and docs/: each has the types it says, and those that need nothing from outside run and print what
// they say behind an arrow.
//
// Samples of a page go on from each other, until one declares a name that those before it use: there a new program begins.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = path.resolve(__dirname, "..");
const pages = ["README.md", ...readdirSync(path.join(root, "docs")).filter((name) => name.endsWith(".md"))].map(
  (name) => (name === "README.md" ? name : `docs/${name}`),
);

/** What samples take from the reader's own program, or from a sample before. Programs that need any of it do not run. */
const given = `
  declare const rq: import("rvq").ResidualQuantizer;
  declare const writer: import("rvq").RvqWriter;
  declare const dim: number;
  declare const vector: Float32Array;
  declare const vectors: Float32Array;
  declare const queries: Float32Array;
  declare const frames: Float32Array;
  declare const latents: Float32Array;
  declare const vectorPieces: AsyncIterable<Float32Array>;
  declare const fileStream: NodeJS.WritableStream;
  declare const response: { readonly body: NonNullable<Response["body"]> };
  declare function check(modelId: string): void;
  declare function use(codes: import("rvq").Codes): void;
  declare const firstBatches: Float32Array[];
  declare const batches: AsyncIterable<Float32Array>;
  declare const shards: Float32Array[];
  declare const shard: Float32Array;
  declare const first: Uint8Array;
  declare const others: Uint8Array[];
  declare const signal: AbortSignal;
  declare const log: { warn(values: object): void };
`;

interface Program {
  readonly name: string;
  readonly page: string;
  readonly code: string;
}

const programs = pages.flatMap(programsOf);
const folder = mkdtempSync(path.join(tmpdir(), "rvq-docs-"));

beforeAll(() => {
  mkdirSync(path.join(folder, "node_modules"));
  symlinkSync(root, path.join(folder, "node_modules/rvq"), "junction");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the samples in the docs", () => {
  it("are found", () => {
    expect(programs.map(({ page }) => page)).toEqual(
      expect.arrayContaining(["README.md", "docs/learning.md", "docs/cluster.md"]),
    );
    expect(programs.filter(canRun).map(({ name }) => name)).toEqual(
      expect.arrayContaining(["README.md, program 1", "docs/first-steps.md, program 1", "docs/porting.md, program 4"]),
    );
  });

  it("have the right types", () => {
    expect(complaints(programs, given)).toEqual([]);
  });

  it("have the right types of streams where TypeScript's types of browsers are beside Node's", () => {
    const ofStreams = programs.filter(({ code }) => code.includes("pipeThrough"));
    expect(ofStreams).not.toEqual([]);
    expect(complaints(ofStreams, given, ["lib.dom.d.ts", "lib.dom.iterable.d.ts"])).toEqual([]);
  });

  it.each(programs.filter(canRun))("run, and print what they say: $name", ({ name, code }) => {
    const file = path.join(folder, `${name.replaceAll(/\W+/g, "-")}.mjs`);
    const { outputText } = ts.transpileModule(code, {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    });
    writeFileSync(file, outputText);
    const printed = execFileSync(process.execPath, [file], { cwd: folder, encoding: "utf8" }).split("\n");
    // Lines that the page says nothing of may stand between.
    for (const [, said] of code.matchAll(/\/\/ → (.*)$/gm)) {
      expect(printed, `expected to be printed: ${said}`).toContain(said);
      printed.splice(0, printed.indexOf(said) + 1);
    }
  });
});

function programsOf(page: string): Program[] {
  const text = readFileSync(path.join(root, page), "utf8");
  const samples = Array.from(text.matchAll(/^```ts\n(.*?)^```$/gms), ([, code]) => code);
  const codes: string[] = [];
  for (const sample of samples) {
    const before = codes.at(-1);
    const words = new Set(before?.replaceAll(/\/\/.*$/gm, "").match(/\w+/g));
    if (before === undefined || declaredNames(sample).some((name) => words.has(name))) codes.push(sample);
    else codes[codes.length - 1] = `${before}\n${sample}`;
  }
  return codes.map((code, i) => ({ name: `${page}, program ${i + 1}`, page, code }));
}

/** Names that a program declares at its top, imports among them. */
function declaredNames(code: string): string[] {
  const names: string[] = [];
  const add = (name: ts.BindingName) => {
    if (ts.isIdentifier(name)) names.push(name.text);
    else for (const element of name.elements) if (ts.isBindingElement(element)) add(element.name);
  };
  for (const statement of ts.createSourceFile("sample.mts", code, ts.ScriptTarget.ES2022).statements) {
    if (ts.isVariableStatement(statement)) for (const { name } of statement.declarationList.declarations) add(name);
    if (!ts.isImportDeclaration(statement)) continue;
    const { name, namedBindings } = statement.importClause ?? {};
    if (name !== undefined) names.push(name.text);
    if (namedBindings !== undefined && ts.isNamedImports(namedBindings))
      for (const one of namedBindings.elements) add(one.name);
  }
  return names;
}

/** Whether a program has all that it needs: it names nothing that is given, and reads no file that it has not written. */
function canRun(program: Program): boolean {
  const { code } = program;
  if (/\.device\b|rvq\/cluster/.test(code)) return false;
  const files = (calls: RegExp) => Array.from(code.matchAll(calls), ([, file]) => file);
  const written = files(/\b(?:save|writeFile)\("([^"]+)"/g);
  if (files(/\b(?:load|readFile)\("([^"]+)"/g).some((file) => !written.includes(file))) return false;
  return complaints([program], "").length === 0;
}

/** What the compiler says of programs, as they would be written in a project with rvq installed and these declarations. */
function complaints(sources: readonly Program[], declarations: string, libs: readonly string[] = []): string[] {
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts", ...libs],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ["node"],
    paths: { rvq: [path.join(root, "lib/index.ts")], "rvq/cluster": [path.join(root, "lib/cluster/index.ts")] },
  };
  const names = sources.map((_, i) => path.join(root, `sample-${i}.mts`));
  const ambient = path.join(root, "given.d.ts");
  const files = new Map([...sources.map(({ code }, i) => [names[i], code] as const), [ambient, declarations]]);
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (file) => files.has(file) || fileExists(file);
  host.getSourceFile = (file, languageVersion, ...rest) => {
    const code = files.get(file);
    return code === undefined
      ? parsed(file, () => getSourceFile.call(host, file, languageVersion, ...rest))
      : ts.createSourceFile(file, code, languageVersion);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  return names.flatMap((file, i) => {
    const source = program.getSourceFile(file);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return found.map(({ messageText }) => `${sources[i].name}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
  });
}

/** The library's own files are parsed once. */
const parsedFiles = new Map<string, ts.SourceFile | undefined>();

function parsed(file: string, parse: () => ts.SourceFile | undefined): ts.SourceFile | undefined {
  if (!parsedFiles.has(file)) parsedFiles.set(file, parse());
  return parsedFiles.get(file);
}

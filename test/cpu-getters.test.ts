// The native addon called directly, by requests that change under its hands: no crash, but the answer or an error.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Addon } from "../lib/cpu/addon.js";
import { accumulateOperation, cpuOperations } from "./cpu-operations.js";
import { detach, resizable } from "./lost-memory.js";

const loaded = loadAddon();
const addon = loaded.addon as Addon;
const options = { threads: 2, instructionSet: loaded.addon === null ? "" : addon.cpuInfo().instructionSet };
const names = loaded.addon === null ? [] : cpuOperations(addon, options).map(({ name }) => name);

type Elements = Float32Array | Float64Array | Uint8Array | Uint16Array | Uint32Array | Int32Array;
type Fields = Record<string, unknown>;

/** The operation of this name on arrays that no other call has had. */
function operation(name: string) {
  const found = cpuOperations(addon, options).find((one) => one.name === name);
  if (found === undefined) throw new Error(name);
  return { ...found, request: found.request as Fields, run: found.run as (request: Fields) => unknown };
}

/** The same elements on a buffer that can shrink. */
function shrinkable(array: Elements): Elements {
  const buffer = resizable(array.byteLength);
  const copy = new (array.constructor as new (buffer: ArrayBuffer) => Elements)(buffer);
  copy.set(array as never);
  return copy;
}

/** The request with a getter in the place of a field, which calls `meanwhile` and gives what was there. */
function withGetter(request: Fields, name: string, meanwhile: () => void): Fields {
  const value = request[name];
  return Object.defineProperty({ ...request }, name, {
    enumerable: true,
    get() {
      meanwhile();
      return value;
    },
  });
}

const spoilers: [what: string, prepare: (array: Elements) => Elements, spoil: (array: Elements) => void][] = [
  ["detaches", (array) => array, detach],
  ["shrinks", shrinkable, (array) => (array.buffer as ReturnType<typeof resizable>).resize(0)],
];

describe.skipIf(loaded.addon === null)("a request to the native addon", () => {
  it.each(names)("is refused where the getter of one field takes another's memory: %s", (name) => {
    for (const [what, prepare, spoil] of spoilers) {
      const fields = Object.keys(operation(name).request);
      for (const field of fields) {
        for (const later of fields) {
          const { request, run } = operation(name);
          const value = request[field];
          if (later === field || !(ArrayBuffer.isView(value) || Array.isArray(value))) continue;
          const given = Array.isArray(value) ? value.map(prepare) : prepare(value as Elements);
          const lost = (Array.isArray(given) ? given[0] : given) as Elements;
          const sly = withGetter({ ...request, [field]: given }, later, () => lost.length > 0 && spoil(lost));
          expect(() => run(sly), `the getter of ${later} ${what} ${field}`).toThrow(TypeError);
        }
      }
    }
  });

  it("is refused where reading one codebook takes another's memory", () => {
    for (const name of ["new CpuCodebooks", "scanCodes"]) {
      const { request, run } = operation(name);
      const codebooks = [...(request.codebooks as Float32Array[])];
      const [first, second = first.slice()] = codebooks;
      Object.defineProperty(codebooks, 1, {
        get() {
          if (first.length > 0) detach(first);
          return second;
        },
      });
      expect(() => run({ ...request, codebooks })).toThrow("codebooks: expected an array left alone while");
    }
  });

  it("has its answer where a getter disposes of what it was asked of", async () => {
    for (const { name, owner } of cpuOperations(addon, options)) {
      if (owner === null) continue;
      const fields = [...Object.keys(operation(name).request), ...(name.endsWith("Sync") ? [] : ["chunkOf"])];
      for (const field of fields) {
        const { request, run, owner: own } = operation(name);
        const expected = await run(request);
        const answer = await run(withGetter(request, field, () => own?.dispose()));
        expect(answer, `${name}, ${field}`).toEqual(expected);
        expect(() => run(request), `${name}, ${field}`).toThrow("disposed");
      }
    }
  });

  it("with numbers that are not finite prepares nothing", () => {
    for (const [name, fields] of [
      ["new CpuCodebooks, previous", ["weights", "codebooks", "previous"]],
      ["new CpuProjection", ["weight", "bias"]],
    ] as const) {
      for (const field of fields) {
        for (const wrong of [Number.NaN, Infinity, -Infinity]) {
          const { request, run } = operation(name);
          const value = request[field];
          const array = (Array.isArray(value) ? value[0] : value) as Float32Array;
          array[array.length - 1] = wrong;
          expect(() => run(request), `${wrong}`).toThrow(new TypeError(`${field}: expected finite numbers`));
        }
      }
    }
  });

  it("has grids that float64 has a number for", async () => {
    for (const [exponent, good] of [
      [-149, true],
      [1000, true],
      [-150, false],
      [1001, false],
      [-(2 ** 31), false],
      [2 ** 31 - 1, false],
    ] as const) {
      const { request } = accumulateOperation(addon, options);
      request.gridExponents[15] = exponent;
      if (good) await addon.accumulate(request, options);
      else expect(() => addon.accumulate(request, options)).toThrow("gridExponents: expected integers in -149 … 1000");
    }
  });

  it("to sum up codes that change meanwhile ends", async () => {
    const count = 2 ** 21;
    const { request } = accumulateOperation(addon, options);
    for (let round = 0; round < 4; round++) {
      const codes = new Uint16Array(count);
      const more = { count, dim: 1, vectors: new Float32Array(count), codes };
      const running = addon.accumulate({ ...request, ...more }, options);
      codes.fill(60_000);
      await running.catch((error) => expect(error).toBeInstanceOf(RangeError));
    }
  });

  it("to assign rows whose distances lie where their codes were ends", async () => {
    const dim = 32;
    const codebook = Float32Array.from({ length: 4096 * dim }, (_, i) => ((i * 7919) % 1009) / 100);
    const previous = codebook.slice();
    previous[0]++;
    const spec = { dim, metric: "l2", weights: null, codebooks: [codebook], previous, ...options } as const;
    const core = new addon.CpuCodebooks(spec);
    const count = 256;
    const vectors = codebook.slice(dim, (count + 1) * dim).map((x, i) => x + 0.3 * Math.sin(i));
    const buffer = new ArrayBuffer(8 * count);
    const codes = new Uint32Array(buffer, 0, count);
    for (let row = 0; row < count; row++) codes[row] = row + 1;
    const running = core.assign({ count, vectors, codes, distances: new Float64Array(buffer) });
    await running.catch((error) => expect(error).toBeInstanceOf(RangeError));
  });
});

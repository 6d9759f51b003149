// Who takes part in `rvq bench`: every backend on arrays of the host, and the GPU on arrays that stay there, with the roofs over each.

import type { BackendName } from "../backend.js";
import { newCodeArray } from "../code-array.js";
import type { CudaDevice } from "../cuda/addon.js";
import {
  type BackendChoiceOptions,
  type Codes,
  type DeviceCodes,
  type DeviceVectors,
  ResidualQuantizer,
  type VectorRange,
} from "../index.js";
import { openBackend } from "../open-backend.js";
import { gridExponentFor } from "../statistics.js";
import { flop, type SearchData, type Shape } from "./bench-shapes.js";
import { floorsOf, ratesOf } from "./roofline.js";

export type Work = "encode" | "decode" | "statistics";

/** A limit, and the ms that it leaves at least. */
export interface Roof {
  readonly limit: string;
  readonly ms: number;
}

export interface Contender {
  readonly name: string;
  /** Rows of a call. */
  readonly rows: number;
  /** One call; ms, by the device's own clock where the data is on a device. */
  readonly run: () => Promise<number>;
  readonly roofs: readonly Roof[];
  /** Frees what only this one has. */
  readonly close: () => void;
}

/** What the roofs of processors follow from, measured just before: GFLOP/s of float32 multiply-adds, GB/s of copies. */
export interface ProcessorPeaks {
  readonly multiplyAdds: number;
  readonly copies: number;
}

/** What all backends of a run have in common. */
export interface Task {
  readonly shape: Shape;
  readonly data: SearchData;
  /** Of the data's vectors. */
  readonly range: VectorRange;
}

/** A backend with the quantizer of a shape. */
export class Team {
  private constructor(
    readonly backend: BackendName | "auto",
    private readonly rq: ResidualQuantizer,
    private readonly task: Task,
    private readonly options: BackendChoiceOptions,
  ) {}

  static open(backend: BackendName | "auto", task: Task, options: BackendChoiceOptions): Team {
    const chosen = { ...options, backend };
    const rq = ResidualQuantizer.fromCodebooks(task.data.codebooks, { dim: task.shape.dim, ...chosen });
    return new Team(backend, rq, task, chosen);
  }

  close(): void {
    this.rq.dispose();
  }

  /** Codes of the first rows. */
  codes(rows: number): Promise<Codes> {
    return this.rq.encode(this.vectors(rows));
  }

  /** On arrays of the host. */
  async onHost(work: Work, rows: number, peaks: ProcessorPeaks | null): Promise<Contender> {
    const { shape } = this.task;
    const call = await this.hostCall(work, this.vectors(rows), rows);
    return {
      name: this.backend,
      rows,
      run: () => timedCall(call),
      roofs: peaks === null ? [] : processorRoofs(work, shape, rows, peaks),
      close() {},
    };
  }

  /** On arrays of the device. */
  async onDevice(work: Work, rows: number, device: CudaDevice): Promise<Contender> {
    const { rq } = this;
    const { shape, range } = this.task;
    const vectors = await rq.device.upload(this.vectors(rows));
    const codes = await rq.device.encode(vectors, { stages: work === "statistics" ? 1 : shape.stages });
    const disposed = async (made: Promise<DeviceVectors | DeviceCodes>) => {
      const array = await made;
      array.dispose();
      return array.kernelMs;
    };
    const runs: Readonly<Record<Work, () => Promise<number>>> = {
      encode: () => disposed(rq.device.encode(vectors)),
      decode: () => disposed(rq.device.decode(codes)),
      statistics: async () => (await rq.device.accumulate(vectors, codes, { range: { ...range, rows } })).kernelMs,
    };
    const close = () => {
      codes.dispose();
      vectors.dispose();
    };
    return {
      name: `${this.backend}, on the device`,
      rows,
      run: runs[work],
      roofs: deviceRoofs(work, shape, rows, device),
      close,
    };
  }

  private async hostCall(work: Work, vectors: Float32Array, rows: number): Promise<() => Promise<unknown>> {
    const { rq } = this;
    const { shape, range } = this.task;
    const { dim, codebookSize } = shape;
    if (work === "encode") return () => rq.encode(vectors);
    const codes = await this.codes(Math.min(rows, distinctRows));
    if (work === "decode") {
      const { stages } = codes;
      const data = repeated(codes.data, newCodeArray(rows * stages, [codebookSize]));
      const into = new Float32Array(rows * dim);
      return () => rq.decode({ count: rows, stages, data }, { into });
    }
    const first = codes.data.filter((_, i) => i % codes.stages === 0);
    const backend = openBackend(this.backend, this.options.threads, this.options.device);
    const gridExponents = Int32Array.from(range.magnitudes, (magnitude) => gridExponentFor(magnitude, rows));
    const request = {
      vectors,
      count: rows,
      dim,
      codes: repeated(first, newCodeArray(rows, [codebookSize])),
      gridExponents,
    };
    const sums = { counts: new Float64Array(codebookSize), sums: new Float64Array(codebookSize * dim) };
    return () => {
      for (const array of Object.values(sums)) array.fill(0);
      return backend.accumulate({ ...request, numCodewords: codebookSize, ...sums });
    };
  }

  /** [rows][dim]: those of the data, over and over. */
  private vectors(rows: number): Float32Array {
    const { vectors } = this.task.data;
    const length = rows * this.task.shape.dim;
    return length <= vectors.length ? vectors.subarray(0, length) : repeated(vectors, new Float32Array(length));
  }
}

/** ms */
export async function timedCall(call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await call();
  return performance.now() - start;
}

/** Rows of data that are all different. */
export const distinctRows = 2 ** 14;

function repeated<Numbers extends Float32Array | Uint16Array | Uint32Array>(source: Numbers, into: Numbers): Numbers {
  for (let start = 0; start < into.length; start += source.length)
    into.set(source.subarray(0, Math.min(source.length, into.length - start)), start);
  return into;
}

/** Bytes that a piece of work has to read and write once. */
export function bytesMoved(work: Work, { dim, codebookSize, stages }: Shape, rows: number): number {
  const codeBytes = codebookSize > 65_536 ? 4 : 2;
  return rows * (4 * dim + codeBytes * (work === "statistics" ? 1 : stages));
}

function processorRoofs(work: Work, shape: Shape, rows: number, peaks: ProcessorPeaks): Roof[] {
  const memory = { limit: "memory", ms: bytesMoved(work, shape, rows) / peaks.copies / 1e6 };
  return work === "encode"
    ? [{ limit: "float32", ms: flop(shape, rows) / peaks.multiplyAdds / 1e6 }, memory]
    : [memory];
}

function deviceRoofs(work: Work, shape: Shape, rows: number, device: CudaDevice): Roof[] {
  const { dim, codebookSize: size, stages } = shape;
  const memory = { limit: "memory", ms: bytesMoved(work, shape, rows) / device.memoryGbps / 1e6 };
  const rates = ratesOf(device);
  if (work !== "encode" || rates === null) return device.memoryGbps > 0 ? [memory] : [];
  const floors = floorsOf({ rows, dim, size, stages }, rates, device.memoryGbps);
  return [{ limit: "tensor cores", ms: floors.tensor }, { limit: "argmin", ms: floors.epilogue }, memory];
}

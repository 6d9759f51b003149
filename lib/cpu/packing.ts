// Packing by the addon, where there is one: the same bytes as lib/pack-loops.ts, several times as fast.

import { loadAddon } from "../addon.js";
import type { Codes } from "../check.js";
import type { PackLayout } from "../pack-layout.js";
import type { Unpacked } from "../pack-loops.js";
import type { Addon, PackRequest } from "./addon.js";

export interface NativePacking {
  /** Writes bytes[layout.sizeBytes]; whether all codes are below their sizes. */
  pack(codes: Codes, layout: PackLayout, bytes: Uint8Array): boolean;
  /** Writes codes.data; after "range" some of it. */
  unpack(bytes: Uint8Array, layout: PackLayout, codes: Codes): Unpacked;
}

/** Below so many codes the loops in TypeScript are done before the addon has read its arguments, which takes it 4 µs. */
const fewestCodes = 1536;

const verdicts = ["whole", "range", "padding"] as const;

/** For so many codes; null where TypeScript is faster, where `RVQ_BACKEND` is "js", and where no addon loads. */
export function nativePacking(codes: number): NativePacking | null {
  if (codes < fewestCodes || process.env.RVQ_BACKEND === "js") return null;
  return nativePackingOf(loadAddon().addon);
}

/** null: no addon, or one that cannot. */
export function nativePackingOf(addon: object | null): NativePacking | null {
  const { packCodes, unpackCodes } = (addon ?? {}) as Partial<Addon>;
  if (packCodes === undefined || unpackCodes === undefined) return null;
  return {
    pack: (codes, layout, bytes) => packCodes(request(codes, layout, bytes)),
    unpack: (bytes, layout, codes) => verdicts[unpackCodes(request(codes, layout, bytes))],
  };
}

function request({ count, stages, data }: Codes, { order, sections }: PackLayout, bytes: Uint8Array): PackRequest {
  const stageMajor = order === "stage-major";
  const groups = sections.flatMap((section) => section.groups);
  return {
    codes: data,
    count,
    codebookSizes: Int32Array.from(
      stageMajor ? groups.map(({ sizes }) => sizes[0]) : groups.flatMap(({ sizes }) => sizes),
    ),
    stages,
    groupLengths: Int32Array.from(groups, ({ sizes }) => sizes.length),
    groups: groups.length,
    stageMajor,
    bytes,
    sizeBytes: bytes.length,
  };
}

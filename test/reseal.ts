// Edits files in the envelope of lib/sealed-bytes.ts so that only their contents lie: the digest is right again.

import { createHash } from "node:crypto";

export interface Unsealed {
  readonly header: Readonly<Record<string, unknown>>;
  /** What follows the header. */
  readonly arrays: Uint8Array;
  /** The file with other fields in its header, and other arrays where given. */
  readonly reseal: (fields: object, body?: Uint8Array) => Buffer;
}

export function unseal(bytes: Buffer): Unsealed {
  const headerBytes = bytes.readUInt32LE(8);
  const header = JSON.parse(bytes.toString("utf8", 12, 12 + headerBytes));
  const arrays = bytes.subarray(12 + headerBytes, -32);
  const reseal = (fields: object, body: Uint8Array = arrays) => {
    const json = Buffer.from(JSON.stringify({ ...header, ...fields }));
    const fixed = Buffer.from(bytes.subarray(0, 12));
    fixed.writeUInt32LE(json.length, 8);
    const content = Buffer.concat([fixed, json, body]);
    return Buffer.concat([content, createHash("sha256").update(content).digest()]);
  };
  return { header, arrays, reseal };
}

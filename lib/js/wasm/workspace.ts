// Where in the shared memory a search keeps a block of rows and what it finds out about them.

import { SavedState, stateBytes } from "./engine.js";
import { lanes } from "./exact-kernels.js";
import { listBytes, tileRows } from "./kernels.js";
import { mostSegmentGroups } from "./packed-codebook.js";

/** Elements of a block's rows, and rows: a few hundred KiB of state; copies of streamed codebooks serve that many rows. */
const blockElements = 65_536;
const mostBlockRows = 128;

/** Codewords of a scan at a time: 32 KiB of them, and at most so many. */
const scannedElements = 8192;
const mostScanned = 1024;

/** Addresses in bytes of the state of one call; rows is a multiple of a tile. */
export class Workspace {
  readonly rows: number;
  /** [rows][D]: what is left of the vectors. */
  readonly residual: number;
  /** [rows][D]: what is searched; the residual, or with the cosine metric its unit vector. */
  readonly query: number;
  /** [rows / 16][D][16] */
  readonly panel: number;
  /** [rows] float64, float32, float32, float32 and uint32. */
  readonly squaredNorms: number;
  readonly slopes: number;
  readonly constants: number;
  readonly lower: number;
  readonly codes: number;
  /** [mostSegmentGroups][16] */
  readonly upper: number;
  readonly lists: number;
  /** Codewords of a scan at a time; these and their distances, and weights and mask as `lowerDistances` reads them. */
  readonly scanned: number;
  readonly codewords: number;
  readonly distances: number;
  readonly weights: number;
  readonly mask: number;
  readonly state: SavedState;

  constructor(dim: number, cosine: boolean, count: number) {
    const wanted = Math.min(mostBlockRows, blockElements / dim, count + tileRows - 1);
    this.rows = Math.max(tileRows, wanted - (wanted % tileRows));
    let next = 0;
    const room = (bytes: number) => {
      const address = next;
      next += Math.ceil(bytes / 64) * 64;
      return address;
    };
    this.scanned = Math.max(1, Math.min(mostScanned, Math.floor(scannedElements / dim)));
    const matrix = 4 * this.rows * dim;
    this.squaredNorms = room(8 * this.rows);
    this.slopes = room(4 * this.rows);
    this.constants = room(4 * this.rows);
    this.lower = room(4 * this.rows);
    this.codes = room(4 * this.rows);
    this.upper = room(4 * tileRows * mostSegmentGroups);
    this.lists = room(listBytes * this.rows);
    this.distances = room(8 * this.scanned);
    this.weights = room(8 * (dim + lanes));
    this.mask = room(8 * lanes);
    this.codewords = room(4 * (this.scanned * dim + lanes));
    this.panel = room(matrix);
    this.residual = room(matrix);
    this.query = cosine ? room(matrix) : this.residual;
    if (next > stateBytes) throw new Error(`${next} bytes of state for rows of ${dim}`);
    this.state = new SavedState(next);
  }
}

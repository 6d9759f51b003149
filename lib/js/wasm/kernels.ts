// The WebAssembly functions of the screen: what each reads and writes, as code for the emitter.
//
// Addresses are bytes. A tile is sixteen rows, a group eight codewords; missing ones are filled up.
//   panel       [D][16] float32: the tile's rows, centred and scaled
//   segment     groups of [3 + D][8] float32: −½|C|², norms and constants of the error bound, then the codewords by
//               dimension, centred and scaled; the norms increase from group to group
//   lists       a row's candidates: their number (which may exceed what the list holds), a word to spare, then
//               `listCapacity` pairs of position (uint32) and upper end of the score (float32)
// E is that of error-bound.ts; slope and constant of a row are its parts. A score may be summed with fused
// multiply-adds or without: the bound holds for both.

import {
  add,
  and,
  type Code,
  call,
  demoteZero,
  FunctionBuilder,
  f32Lane,
  f32Load,
  f32Max,
  f32Store,
  f32x4Add,
  f32x4GreaterOrEqual,
  f32x4Larger,
  f32x4Multiply,
  f32x4RelaxedMultiplyAdd,
  f32x4Splat,
  f32x4Subtract,
  f64x2Add,
  f64x2Multiply,
  f64x2Subtract,
  i32,
  i32x4Bitmask,
  type Local,
  lessThan,
  load,
  load32Lane,
  load32Splat,
  load32Zero,
  load64Splat,
  multiply,
  or,
  promoteLow,
  repeatWhile,
  shiftLeft,
  shuffle,
  store,
  subtract,
  trailingZeros,
  v128Load,
  v128Store,
  v128Zero,
  when,
} from "./emitter.js";

export const tileRows = 16;
export const groupCodewords = 8;
/** Rows of [8] float32 in front of a group's codewords. */
export const groupHeader = 3;

/** Candidates a row may have in the screen: with more, a scan of all codewords costs little more. */
export const listCapacity = 62;
export const listBytes = 8 * (listCapacity + 1);

/** Bytes of a register of four float32. */
const register = 16;
/** Bytes of one dimension of a panel, and of a group. */
const panelLine = 4 * tileRows;
const groupLine = 4 * groupCodewords;

/** a·b + c in four float32, in either way of rounding. */
export type MultiplyAdd = (a: Code, b: Code, c: Code) => Code;
export const multiplyThenAdd: MultiplyAdd = (a, b, c) => f32x4Add(f32x4Multiply(a, b), c);
export const fusedMultiplyAdd: MultiplyAdd = f32x4RelaxedMultiplyAdd;

const lowToHigh = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const highToLow = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

/**
 * panel[i][r] = fround((rows[r][i] − centre_i)·scale_i) and squaredNorms[r] = the sum of the same squared in float64, for four rows.
 * `space` is [D] pairs of float64: centre, scale. `rowBytes` apart are the rows; D ≥ 1.
 */
export function packRows(): FunctionBuilder {
  const f = new FunctionBuilder("packRows");
  const { rows, rowBytes, dim, space, panel, squaredNorms } = f.parameters(
    "rows",
    "rowBytes",
    "dim",
    "space",
    "panel",
    "squaredNorms",
  );
  const row = f.localArray("i32", 4);
  const end = f.local("i32");
  const [values, low, high, centre, scale, lowSum, highSum] = f.localArray("v128", 7);
  const centred = (half: Code) => f64x2Multiply(f64x2Subtract(promoteLow(half), centre.get), scale.get);
  f.setBody(
    row[0].set(rows.get),
    ...[1, 2, 3].map((r) => row[r].set(add(row[r - 1].get, rowBytes.get))),
    end.set(add(rows.get, shiftLeft(dim.get, i32(2)))),
    repeatWhile(
      lessThan(row[0].get, end.get),
      values.set(load32Zero(row[0].get)),
      ...[1, 2, 3].map((r) => values.set(load32Lane(r, row[r].get, values.get))),
      centre.set(load64Splat(space.get)),
      scale.set(load64Splat(space.get, 8)),
      low.set(centred(values.get)),
      high.set(centred(shuffle(highToLow, values.get, values.get))),
      lowSum.set(f64x2Add(lowSum.get, f64x2Multiply(low.get, low.get))),
      highSum.set(f64x2Add(highSum.get, f64x2Multiply(high.get, high.get))),
      v128Store(panel.get, shuffle(lowToHigh, demoteZero(low.get), demoteZero(high.get))),
      ...row.map((address) => address.advance(4)),
      space.advance(16),
      panel.advance(panelLine),
    ),
    v128Store(squaredNorms.get, lowSum.get),
    v128Store(squaredNorms.get, highSum.get, register),
  );
  return f;
}

const screenParameters = ["segment", "groups", "dim", "panel", "slopes", "constants", "lower", "upper"] as const;

/**
 * For every group g and row r, with best the largest score: upper[g][r] = best + E, lower[r] = max(lower[r], best − E).
 *
 * Rows are in the lanes: no reduction across lanes, and one bound for eight scores. Four registers of rows by two
 * codewords are eight sums; with four rows, a codeword and a product they fit the 15 registers V8 has on x86-64. Of all
 * tiles this is the fastest with Node 20, 22 and 24; most others, and every unrolling, spill in one of them.
 */
export function screen(multiplyAdd: MultiplyAdd): FunctionBuilder {
  const f = new FunctionBuilder("screen");
  const { segment, groups, dim, panel, slopes, constants, lower, upper } = f.parameters(...screenParameters);
  const [x, y, panelEnd, upperEnd] = f.localArray("i32", 4);
  const registers = tileRows / 4;
  const passCodewords = 2;
  const sums = Array.from({ length: passCodewords }, () => f.localArray("v128", registers));
  const best = f.localArray("v128", registers);
  const rows = f.localArray("v128", registers);
  const [codeword, bound] = f.localArray("v128", 2);

  const scores = (firstCodeword: number): Code[] => [
    ...sums.flatMap((sum, c) => [
      codeword.set(load32Splat(segment.get, 4 * (firstCodeword + c))),
      ...sum.map((part) => part.set(codeword.get)),
    ]),
    x.set(panel.get),
    y.set(add(segment.get, i32(groupHeader * groupLine + 4 * firstCodeword))),
    repeatWhile(
      lessThan(x.get, panelEnd.get),
      ...rows.map((row, r) => row.set(v128Load(x.get, r * register))),
      ...sums.flatMap((sum, c) => [
        codeword.set(load32Splat(y.get, 4 * c)),
        ...sum.map((part, r) => part.set(multiplyAdd(rows[r].get, codeword.get, part.get))),
      ]),
      x.advance(panelLine),
      y.advance(groupLine),
    ),
    ...best.map((b, r) => {
      const larger = f32x4Larger(sums[0][r].get, sums[1][r].get);
      const place = r * register;
      if (firstCodeword === 0) return v128Store(upper.get, larger, place);
      if (firstCodeword < 6) return v128Store(upper.get, f32x4Larger(v128Load(upper.get, place), larger), place);
      return b.set(f32x4Larger(v128Load(upper.get, place), larger));
    }),
  ];

  f.setBody(
    panelEnd.set(add(panel.get, multiply(dim.get, i32(panelLine)))),
    upperEnd.set(add(upper.get, multiply(groups.get, i32(panelLine)))),
    repeatWhile(
      lessThan(upper.get, upperEnd.get),
      ...[0, 2, 4, 6].flatMap(scores),
      ...best.flatMap((b, r) => {
        const place = r * register;
        const lowerEnd = f32x4Subtract(b.get, bound.get);
        return [
          bound.set(boundOfGroup(segment, v128Load(slopes.get, place), v128Load(constants.get, place))),
          v128Store(upper.get, f32x4Add(b.get, bound.get), place),
          v128Store(lower.get, f32x4Larger(v128Load(lower.get, place), lowerEnd), place),
        ];
      }),
      upper.advance(panelLine),
      nextGroup(segment, dim),
    ),
  );
  return f;
}

/** E of the group's last codeword, which has the largest norm, for four rows. */
function boundOfGroup(group: Local, slopes: Code, constants: Code): Code {
  const last = 4 * (groupCodewords - 1);
  const constant = f32x4Add(load32Splat(group.get, 2 * groupLine + last), constants);
  return f32x4Add(f32x4Multiply(slopes, load32Splat(group.get, groupLine + last)), constant);
}

function nextGroup(group: Local, dim: Local): Code {
  return group.set(add(group.get, multiply(add(dim.get, i32(groupHeader)), i32(groupLine))));
}

/**
 * After `screen` with the same arguments: `screenRow` for every group and row whose upper end reaches the row's lower
 * end. `position` is that of the segment's first codeword.
 */
export function collect(screenRow: number): FunctionBuilder {
  const f = new FunctionBuilder("collect");
  const { segment, groups, dim, panel, slopes, constants, lower, upper, lists, position } = f.parameters(
    ...screenParameters,
    "lists",
    "position",
  );
  const [upperEnd, reached, row] = f.localArray("i32", 3);
  const reaches = (r: number) =>
    f32x4GreaterOrEqual(v128Load(upper.get, r * register), v128Load(lower.get, r * register));
  const ofRow = (base: Local) => add(base.get, shiftLeft(row.get, i32(2)));
  f.setBody(
    upperEnd.set(add(upper.get, multiply(groups.get, i32(panelLine)))),
    repeatWhile(
      lessThan(upper.get, upperEnd.get),
      reached.set(bitsOf([0, 1, 2, 3].map(reaches))),
      when(
        reached.get,
        repeatWhile(
          reached.get,
          row.set(trailingZeros(reached.get)),
          call(
            screenRow,
            segment.get,
            i32(1),
            dim.get,
            ofRow(panel),
            ofRow(slopes),
            ofRow(constants),
            ofRow(lower),
            add(lists.get, multiply(row.get, i32(listBytes))),
            position.get,
          ),
          reached.set(and(reached.get, subtract(reached.get, i32(1)))),
        ),
      ),
      upper.advance(panelLine),
      position.advance(groupCodewords),
      nextGroup(segment, dim),
    ),
  );
  return f;
}

/** Bit 4·r + l is lane l of the r-th comparison. */
function bitsOf(comparisons: Code[]): Code {
  return comparisons.map((c, r) => shiftLeft(i32x4Bitmask(c), i32(4 * r))).reduce((a, b) => or(a, b));
}

/**
 * One row against groups: lower = max(lower, score − E), and the codewords whose score + E reach it go to the list.
 * panel, slope, constant and lower are the row's own places.
 */
export function screenRow(multiplyAdd: MultiplyAdd): FunctionBuilder {
  const f = new FunctionBuilder("screenRow");
  const { segment, groups, dim, panel, slope, constant, lower, list, position } = f.parameters(
    "segment",
    "groups",
    "dim",
    "panel",
    "slope",
    "constant",
    "lower",
    "list",
    "position",
  );
  const [x, y, wholeEnd, end, reached, number, entry] = f.localArray("i32", 7);
  const chains = 4;
  const sums = Array.from({ length: chains }, () => f.localArray("v128", 2));
  const ends = f.localArray("v128", 2);
  const bounds = f.localArray("v128", 2);
  const value = f.local("v128");
  const limit = f.local("f32");

  const header = (index: number, r: number) => v128Load(segment.get, index * groupLine + r * register);
  const step = (chain: number): Code[] => [
    value.set(load32Splat(x.get, chain * panelLine)),
    ...sums[chain].map((sum, r) =>
      sum.set(multiplyAdd(value.get, v128Load(y.get, chain * groupLine + r * register), sum.get)),
    ),
  ];
  const loop = (until: Local, ...chain: number[]) =>
    when(
      lessThan(x.get, until.get),
      repeatWhile(
        lessThan(x.get, until.get),
        ...chain.flatMap(step),
        x.advance(chain.length * panelLine),
        y.advance(chain.length * groupLine),
      ),
    );
  const largestLane = (v: Code) => [1, 2, 3].reduce((code: Code, l) => f32Max(code, f32Lane(l, v)), f32Lane(0, v));

  f.setBody(
    end.set(add(panel.get, multiply(dim.get, i32(panelLine)))),
    wholeEnd.set(add(panel.get, multiply(and(dim.get, i32(-chains)), i32(panelLine)))),
    limit.set(f32Load(lower.get)),
    repeatWhile(
      groups.get,
      // Scores, a codeword a lane, in four chains so that an addition need not wait for the one before.
      ...sums.flatMap((sum, chain) => sum.map((part, r) => part.set(chain === 0 ? header(0, r) : v128Zero))),
      x.set(panel.get),
      y.set(add(segment.get, i32(groupHeader * groupLine))),
      loop(wholeEnd, 0, 1, 2, 3),
      loop(end, 0),

      // The lower ends.
      ...ends.flatMap((score, r) => {
        const pair = (c: number) => f32x4Add(sums[c][r].get, sums[c + 1][r].get);
        const constants = f32x4Add(header(2, r), load32Splat(constant.get));
        return [
          score.set(f32x4Add(pair(0), pair(2))),
          bounds[r].set(f32x4Add(f32x4Multiply(load32Splat(slope.get), header(1, r)), constants)),
        ];
      }),
      value.set(f32x4Larger(...pairOf(ends.map((score, r) => f32x4Subtract(score.get, bounds[r].get))))),
      when(
        i32x4Bitmask(f32x4GreaterOrEqual(value.get, f32x4Splat(limit.get))),
        limit.set(f32Max(limit.get, largestLane(value.get))),
      ),

      // The codewords that may be nearest go to the list.
      reached.set(
        bitsOf(ends.map((score, r) => f32x4GreaterOrEqual(f32x4Add(score.get, bounds[r].get), f32x4Splat(limit.get)))),
      ),
      when(
        reached.get,
        number.set(load(list.get)),
        ...ends.flatMap((score, r) =>
          [0, 1, 2, 3].map((l) =>
            when(
              and(reached.get, i32(1 << (4 * r + l))),
              when(
                lessThan(number.get, i32(listCapacity)),
                entry.set(add(list.get, shiftLeft(number.get, i32(3)))),
                store(entry.get, add(position.get, i32(4 * r + l)), 8),
                f32Store(entry.get, f32Lane(l, f32x4Add(score.get, bounds[r].get)), 12),
              ),
              number.advance(1),
            ),
          ),
        ),
        store(list.get, number.get),
      ),
      position.advance(groupCodewords),
      nextGroup(segment, dim),
      groups.advance(-1),
    ),
    f32Store(lower.get, limit.get),
  );
  return f;
}

function pairOf(codes: Code[]): [Code, Code] {
  return [codes[0], codes[1]];
}

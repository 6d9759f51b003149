// The WebAssembly functions of the screen: what each reads and writes, as code for the emitter.
//
// Addresses are bytes. A tile is eight rows, a group eight codewords; missing ones are filled up.
//   panel       [D][8] float32: the tile's rows, centred and scaled
//   segment     groups of [3 + D][8] float32: −½|C|², norms and constants of the error bound, then the codewords by
//               dimension, centred and scaled; the norms increase from group to group
//   lists       a row's candidates: their number (which may exceed what the list holds), a word to spare, then
//               `listCapacity` pairs of position (uint32) and upper end of the score (float32)
// E is that of error-bound.ts; slope and constant of a row are its parts.

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
  when,
} from "./emitter.js";

export const tileRows = 8;
export const groupCodewords = 8;
/** Rows of [8] float32 in front of a group's codewords. */
export const groupHeader = 3;

/** Candidates a row may have in the screen: with more, a scan of all codewords costs little more. */
export const listCapacity = 62;
export const listBytes = 8 * (listCapacity + 1);

/** Bytes of [8] float32. */
const line = 32;
/** Bytes of a register of four float32. */
const register = 16;

const lowToHigh = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const highToLow = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

/**
 * panel[i][r] = fround((rows[r][i] − centre_i)·scale_i) and squaredNorms[r] += the same squared in float64, for four rows.
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
      panel.advance(line),
    ),
    v128Store(squaredNorms.get, lowSum.get),
    v128Store(squaredNorms.get, highSum.get, register),
  );
  return f;
}

/**
 * For every group g and row r, with best the largest score: upper[g][r] = best + E, lower[r] = max(lower[r], best − E).
 *
 * Rows are in the lanes: no reduction across lanes, and one bound for eight scores. Two registers of rows by four
 * codewords are eight sums; with two rows, a codeword and a product they fit the 15 registers V8 has on x86-64.
 */
export function screen(): FunctionBuilder {
  const f = new FunctionBuilder("screen");
  const { segment, groups, dim, panel, slopes, constants, lower, upper } = f.parameters(
    "segment",
    "groups",
    "dim",
    "panel",
    "slopes",
    "constants",
    "lower",
    "upper",
  );
  const [x, y, panelEnd, upperEnd] = f.localArray("i32", 4);
  const codewords = 4;
  const sums = Array.from({ length: codewords }, () => f.localArray("v128", 2));
  const best = f.localArray("v128", 2);
  const [row0, row1, codeword, bound] = f.localArray("v128", 4);

  const scores = (half: number): Code[] => [
    ...sums.flatMap((sum, c) => [
      sum[0].set(load32Splat(segment.get, 4 * (half * codewords + c))),
      sum[1].set(sum[0].get),
    ]),
    x.set(panel.get),
    y.set(add(segment.get, i32(groupHeader * line + half * register))),
    repeatWhile(
      lessThan(x.get, panelEnd.get),
      row0.set(v128Load(x.get)),
      row1.set(v128Load(x.get, register)),
      ...sums.flatMap((sum, c) => [
        codeword.set(load32Splat(y.get, 4 * c)),
        sum[0].set(f32x4Add(sum[0].get, f32x4Multiply(row0.get, codeword.get))),
        sum[1].set(f32x4Add(sum[1].get, f32x4Multiply(row1.get, codeword.get))),
      ]),
      x.advance(line),
      y.advance(line),
    ),
    ...best.map((b, r) => {
      const pair = (c: number) => f32x4Larger(sums[c][r].get, sums[c + 1][r].get);
      const four = f32x4Larger(pair(0), pair(2));
      return b.set(half === 0 ? four : f32x4Larger(b.get, four));
    }),
  ];

  f.setBody(
    panelEnd.set(add(panel.get, multiply(dim.get, i32(line)))),
    upperEnd.set(add(upper.get, multiply(groups.get, i32(line)))),
    repeatWhile(
      lessThan(upper.get, upperEnd.get),
      ...scores(0),
      ...scores(1),
      // The last codeword of a group has the largest norm.
      ...best.flatMap((b, r) => {
        const norm = load32Splat(segment.get, line + 28);
        const constant = f32x4Add(load32Splat(segment.get, 2 * line + 28), v128Load(constants.get, r * register));
        const low = f32x4Subtract(b.get, bound.get);
        return [
          bound.set(f32x4Add(f32x4Multiply(v128Load(slopes.get, r * register), norm), constant)),
          v128Store(upper.get, f32x4Add(b.get, bound.get), r * register),
          v128Store(lower.get, f32x4Larger(v128Load(lower.get, r * register), low), r * register),
        ];
      }),
      upper.advance(line),
      segment.set(add(segment.get, multiply(add(dim.get, i32(groupHeader)), i32(line)))),
    ),
  );
  return f;
}

/**
 * After `screen` with the same arguments: for every group whose upper end reaches the row's lower end, the codewords
 * whose own upper ends do go to the row's list, and the lower end rises to theirs. `position` is that of the segment's
 * first codeword.
 */
export function collect(listGroup: number): FunctionBuilder {
  const f = new FunctionBuilder("collect");
  const { segment, groups, dim, panel, slopes, constants, lower, upper, lists, position } = f.parameters(
    "segment",
    "groups",
    "dim",
    "panel",
    "slopes",
    "constants",
    "lower",
    "upper",
    "lists",
    "position",
  );
  const [upperEnd, reached, row] = f.localArray("i32", 3);
  const reaches = (r: number) =>
    i32x4Bitmask(f32x4GreaterOrEqual(v128Load(upper.get, r * register), v128Load(lower.get, r * register)));
  const ofRow = (base: Local) => add(base.get, shiftLeft(row.get, i32(2)));
  f.setBody(
    upperEnd.set(add(upper.get, multiply(groups.get, i32(line)))),
    repeatWhile(
      lessThan(upper.get, upperEnd.get),
      reached.set(or(reaches(0), shiftLeft(reaches(1), i32(4)))),
      when(
        reached.get,
        repeatWhile(
          reached.get,
          row.set(trailingZeros(reached.get)),
          call(
            listGroup,
            segment.get,
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
      upper.advance(line),
      position.advance(groupCodewords),
      segment.set(add(segment.get, multiply(add(dim.get, i32(groupHeader)), i32(line)))),
    ),
  );
  return f;
}

/** One group and one row of `collect`; panel, slope, constant and lower are the row's own places. */
export function listGroup(): FunctionBuilder {
  const f = new FunctionBuilder("listGroup");
  const { group, dim, panel, slope, constant, lower, list, position } = f.parameters(
    "group",
    "dim",
    "panel",
    "slope",
    "constant",
    "lower",
    "list",
    "position",
  );
  const [y, wholeEnd, end, reached, number, entry] = f.localArray("i32", 6);
  const chains = 4;
  const sums = Array.from({ length: chains }, () => f.localArray("v128", 2));
  const [value, ...ends] = f.localArray("v128", 3);
  const [bound] = f.localArray("v128", 1);
  const limit = f.local("f32");

  // Codewords are in the lanes. Four chains, so that an addition need not wait for the one before.
  const step = (chain: number): Code[] => [
    value.set(load32Splat(panel.get, chain * line)),
    ...sums[chain].map((sum, r) =>
      sum.set(f32x4Add(sum.get, f32x4Multiply(value.get, v128Load(y.get, chain * line + r * register)))),
    ),
  ];
  const headerLine = (index: number, r: number) => v128Load(group.get, index * line + r * register);
  const largest = (v: Local) =>
    [1, 2, 3].reduce((code: Code, lane) => f32Max(code, f32Lane(lane, v.get)), f32Lane(0, v.get));
  const lane = (r: number) => f32x4GreaterOrEqual(ends[r].get, f32x4Splat(limit.get));

  f.setBody(
    // Scores.
    y.set(add(group.get, i32(groupHeader * line))),
    end.set(add(panel.get, multiply(dim.get, i32(line)))),
    wholeEnd.set(add(panel.get, multiply(and(dim.get, i32(-chains)), i32(line)))),
    when(
      lessThan(panel.get, wholeEnd.get),
      repeatWhile(
        lessThan(panel.get, wholeEnd.get),
        ...sums.flatMap((_, chain) => step(chain)),
        panel.advance(chains * line),
        y.advance(chains * line),
      ),
    ),
    when(
      lessThan(panel.get, end.get),
      repeatWhile(lessThan(panel.get, end.get), ...step(0), panel.advance(line), y.advance(line)),
    ),

    // Their lower ends raise the row's, and their upper ends are kept.
    limit.set(f32Load(lower.get)),
    ...ends.flatMap((upper, r) => {
      const pair = (c: number) => f32x4Add(sums[c][r].get, sums[c + 1][r].get);
      return [
        upper.set(f32x4Add(headerLine(0, r), f32x4Add(pair(0), pair(2)))),
        bound.set(
          f32x4Add(
            f32x4Multiply(load32Splat(slope.get), headerLine(1, r)),
            f32x4Add(headerLine(2, r), load32Splat(constant.get)),
          ),
        ),
        value.set(f32x4Subtract(upper.get, bound.get)),
        limit.set(f32Max(limit.get, largest(value))),
        upper.set(f32x4Add(upper.get, bound.get)),
      ];
    }),
    f32Store(lower.get, limit.get),

    // The codewords that may be nearest go to the list.
    reached.set(or(i32x4Bitmask(lane(0)), shiftLeft(i32x4Bitmask(lane(1)), i32(4)))),
    number.set(load(list.get)),
    ...ends.flatMap((upper, r) =>
      [0, 1, 2, 3].map((l) =>
        when(
          and(reached.get, i32(1 << (4 * r + l))),
          when(
            lessThan(number.get, i32(listCapacity)),
            entry.set(add(list.get, shiftLeft(number.get, i32(3)))),
            store(entry.get, add(position.get, i32(4 * r + l)), 8),
            f32Store(entry.get, f32Lane(l, upper.get), 12),
          ),
          number.advance(1),
        ),
      ),
    ),
    store(list.get, number.get),
  );
  return f;
}

// The WebAssembly functions that compute the definition itself: float32 residuals and the canonical float64 distance.

import {
  add,
  and,
  block,
  type Code,
  FunctionBuilder,
  f32Add,
  f32Load,
  f32Store,
  f32Subtract,
  f32x4Add,
  f32x4Subtract,
  f64Add,
  f64GreaterOrEqual,
  f64GreaterThan,
  f64Lane,
  f64Load,
  f64Store,
  f64x2Add,
  f64x2Multiply,
  f64x2Subtract,
  i32,
  isZero,
  type Local,
  leave,
  lessThan,
  load,
  load64Zero,
  multiply,
  promoteLow,
  repeatWhile,
  select,
  shiftLeft,
  v128And,
  v128Load,
  v128Store,
  v128Zero,
  when,
} from "./emitter.js";

/** Lanes of the canonical distance. */
export const lanes = 8;
/** Elements between two looks at whether a distance can still be the smaller one. */
const pauseElements = 64;

/**
 * distances[r] = min(distances[r], d64(rows[r], centres[r])) for [numRows][D] float32 rows; centres are `centreBytes`
 * apart, 0 for the same one throughout. A NaN is kept.
 *
 * The eight lanes are four registers of two float64; a rest of fewer than eight elements is read as eight, of which
 * `mask` ([8] float64 of all ones or all zeros) keeps those that belong to the row: so 32 bytes after the last row and
 * centre must be readable. Stops as `squaredDistance` of canonical.ts does.
 * `weights` is [D up to a multiple of 8] float64, zeros at the end.
 */
export function lowerDistances(weighted: boolean): FunctionBuilder {
  const f = new FunctionBuilder(weighted ? "lowerWeightedDistances" : "lowerDistances");
  const { rows, numRows, dim, centres, centreBytes, weights, mask, distances } = f.parameters(
    "rows",
    "numRows",
    "dim",
    "centres",
    "centreBytes",
    "weights",
    "mask",
    "distances",
  );
  const [x, c, w, wholeEnd, pause, distancesEnd] = f.localArray("i32", 6);
  const registers = lanes / 2;
  const sums = f.localArray("v128", registers);
  const [t, folded] = f.localArray("v128", 2);
  const distance = f.local("f64");
  const limit = f.local("f64");

  const addTerms = (difference: (value: Code, register: number) => Code) =>
    sums.flatMap((sum, r) => {
      const square = f64x2Multiply(t.get, t.get);
      const exact = f64x2Subtract(promoteLow(load64Zero(x.get, 8 * r)), promoteLow(load64Zero(c.get, 8 * r)));
      return [
        t.set(difference(exact, r)),
        sum.set(f64x2Add(sum.get, weighted ? f64x2Multiply(v128Load(w.get, 16 * r), square) : square)),
      ];
    });
  // ((s0+s4)+(s2+s6)) + ((s1+s5)+(s3+s7))
  const tree = [
    folded.set(f64x2Add(f64x2Add(sums[0].get, sums[2].get), f64x2Add(sums[1].get, sums[3].get))),
    distance.set(f64Add(f64Lane(0, folded.get), f64Lane(1, folded.get))),
  ].flat();

  f.setBody(
    distancesEnd.set(add(distances.get, shiftLeft(numRows.get, i32(3)))),
    repeatWhile(
      lessThan(distances.get, distancesEnd.get),
      limit.set(f64Load(distances.get)),
      ...sums.map((sum) => sum.set(v128Zero)),
      distance.set(f64Lane(0, v128Zero)),
      x.set(rows.get),
      c.set(centres.get),
      w.set(weights.get),
      wholeEnd.set(add(rows.get, shiftLeft(and(dim.get, i32(-lanes)), i32(2)))),
      block(
        leave(isZero(lessThan(x.get, wholeEnd.get)), 0),
        repeatWhile(
          lessThan(x.get, wholeEnd.get),
          pause.set(add(x.get, i32(4 * pauseElements))),
          pause.set(select(pause.get, wholeEnd.get, lessThan(pause.get, wholeEnd.get))),
          repeatWhile(
            lessThan(x.get, pause.get),
            ...addTerms((difference) => difference),
            x.advance(4 * lanes),
            c.advance(4 * lanes),
            weighted ? w.advance(8 * lanes) : [],
          ),
          tree,
          leave(f64GreaterThan(distance.get, limit.get), 1),
        ),
      ),
      when(
        and(dim.get, i32(lanes - 1)),
        when(
          isZero(f64GreaterThan(distance.get, limit.get)),
          ...addTerms((difference, r) => v128And(difference, v128Load(mask.get, 16 * r))),
          tree,
        ),
      ),
      when(isZero(f64GreaterOrEqual(distance.get, limit.get)), f64Store(distances.get, distance.get)),
      rows.set(add(rows.get, shiftLeft(dim.get, i32(2)))),
      centres.set(add(centres.get, centreBytes.get)),
      distances.advance(8),
    ),
  );
  return f;
}

/** rows[r] += or −= codewords[codes[r]] for [numRows][D] float32 rows, [K][D] codewords and uint32 codes. */
export function addCodewords(): FunctionBuilder {
  return overCodewords("addCodewords", f32x4Add, f32Add);
}
export function subtractCodewords(): FunctionBuilder {
  return overCodewords("subtractCodewords", f32x4Subtract, f32Subtract);
}

type Operation = (a: Code, b: Code) => Code;

function overCodewords(name: string, vector: Operation, scalar: Operation): FunctionBuilder {
  const f = new FunctionBuilder(name);
  const { rows, numRows, dim, codewords, codes } = f.parameters("rows", "numRows", "dim", "codewords", "codes");
  const [codeword, wholeEnd, end, codesEnd] = f.localArray("i32", 4);
  const loop = (until: Local, bytes: number, step: Code) =>
    when(
      lessThan(rows.get, until.get),
      repeatWhile(lessThan(rows.get, until.get), step, rows.advance(bytes), codeword.advance(bytes)),
    );
  const bytes = shiftLeft(dim.get, i32(2));
  f.setBody(
    codesEnd.set(add(codes.get, shiftLeft(numRows.get, i32(2)))),
    repeatWhile(
      lessThan(codes.get, codesEnd.get),
      codeword.set(add(codewords.get, multiply(load(codes.get), bytes))),
      wholeEnd.set(add(rows.get, and(bytes, i32(-16)))),
      end.set(add(rows.get, bytes)),
      loop(wholeEnd, 16, v128Store(rows.get, vector(v128Load(rows.get), v128Load(codeword.get)))),
      loop(end, 4, f32Store(rows.get, scalar(f32Load(rows.get), f32Load(codeword.get)))),
      codes.advance(4),
    ),
  );
  return f;
}

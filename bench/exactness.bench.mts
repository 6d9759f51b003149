// The price of exactness: the search of the core beside its own screen without bounds, certificate and re-rank.
//
//   npm run bench -- exactness [--level=avx2] [--shape=D128] [--threads=1] [--seconds=2] [--json=file] [--save]

import { cpuLevels, formName, formsOf, openCore, openShare } from "./cpu-forms.js";
import { dataNames, flop, makeSearchData, searchShapes } from "./data.js";
import { timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

/** Multiply-adds of one call: some 20 ms, so that many calls of both take turns and drift cancels. */
const multiplyAddsPerCall = 1e9;
/** A float32 screen should cost at most this much on Gaussian data with D ≥ 64, in percent. */
const target = 5;

const seconds = Number(flag("seconds") ?? 2);
const threads = Number(flag("threads") ?? 1);
const rows: Row[] = [];
for (const shape of searchShapes.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  const { dim, codebookSize } = shape;
  const wanted = Math.max(256, Math.floor(multiplyAddsPerCall / (dim * codebookSize)));
  const count = Math.min(shape.count, wanted);
  for (const dataName of dataNames) {
    const { vectors, codebooks } = await makeSearchData(dataName, { ...shape, count });
    for (const form of cpuLevels(flag("level")).flatMap(formsOf)) {
      // The automatic choice is one of the others where a level has several screens.
      if (form.screen === undefined && formsOf(form.level).length > 1) continue;
      // Bytes only choose candidates for the next screen: alone they are no search. The uniform screen has no form without.
      if (form.screen === "int8" || form.screen === "uniform") continue;
      const core = openCore(form, codebooks, dim, threads);
      const codes = new Uint32Array(count);
      const bareCodes = new Int32Array(count);
      const exact = () => core.encodeSync({ vectors, count, stages: 1, codes });
      const bare = () => core.screenOnly({ vectors, count, stage: 0, codes: bareCodes });

      // Without its certificate a screen may be wrong where codewords are nearly as far, but not by much more.
      exact();
      bare();
      const wrong = codes.reduce((sum, code, n) => sum + (code === bareCodes[n] ? 0 : 1), 0) / count;
      const open = openShare(form, codebooks, dim, vectors);
      if (wrong > open + 0.01)
        throw new Error(`${shape.name}, ${formName(form)}: ${wrong} of the bare codes are wrong`);

      const contenders = [
        { name: "exact", run: exact },
        { name: "bare", run: bare },
      ];
      const [exactTime, bareTime] = await timeInTurns(contenders, { seconds, rounds: 25 });
      const price = 100 * (exactTime.ms / bareTime.ms - 1);
      const judged = dataName === "gaussian" && dim >= 64 && (form.screen ?? "float32") === "float32";
      rows.push({
        shape: shape.name,
        data: dataName,
        screen: formName(form).replace("automatic", "float32"),
        rows: count,
        "bare GFLOP/s": flop(shape, count) / bareTime.ms / 1e6,
        "exact GFLOP/s": flop(shape, count) / exactTime.ms / 1e6,
        "price %": price,
        [`≤ ${target} %`]: judged ? (price <= target ? "yes" : "no") : "",
        "re-ranked %": 100 * open,
        "wrong without %": 100 * wrong,
      });
      core.dispose();
    }
  }
}
const inWords = threads === 1 ? "1 thread" : `${threads} threads`;
printTable(`The price of exactness in the core, ${inWords}, ${machine()}`, rows);
saveJson("exactness", rows);

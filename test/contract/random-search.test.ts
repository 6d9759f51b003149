// Search of every backend against the definition on shapes, data and forms that are drawn: `npm run test:fuzz -- backends`
// goes on for minutes, with other seeds.

import { describe, it } from "vitest";
import { Random } from "../../lib/random.js";
import { candidates } from "./backends.js";
import { expectDefinition, type Form, makeSpec } from "./definition.js";
import { familyNames, hardFamilies, type Shape } from "./families.js";
import { encode } from "./reference.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const cases = 40 * Number(process.env.RVQ_FUZZ_SCALE ?? 1);
const families = [...familyNames, ...Object.keys(hardFamilies)];
/** Products of elements in the search of a case: the definition does some 10^8 a second. */
const mostProducts = 2 ** 22;

for (const candidate of candidates) {
  describe.skipIf(!candidate.available)(`search on ${candidate.title}`, () => {
    it(`equals the definition on ${cases} drawn cases`, async () => {
      const backend = candidate.open();
      for (let number = 0; number < cases; number++) {
        const { family, shape, form, caseSeed } = draw(seed * 1_000_003 + number);
        const { spec, vectors } = makeSpec(family, shape, form, caseSeed);
        const context = { backend: candidate.name, seed, number, family, ...shape, ...form };
        const expected = encode(vectors, spec.codebooks, spec.dim, spec.metric, spec.weights);
        const prepared = backend.prepare(spec);
        await expectDefinition(prepared, spec, vectors, expected, context);
        prepared.dispose();
      }
    });
  });
}

function draw(caseSeed: number): { family: string; shape: Shape; form: Form; caseSeed: number } {
  const random = new Random(caseSeed);
  const logUniform = (most: number) => Math.floor((most + 1) ** random.fraction());
  // Half of the dimensions at the edges of the kernels' tiles.
  const edge = () => Math.max(1, 16 * logUniform(66) + random.below(3) - 1);
  const dim = random.below(2) === 0 ? logUniform(1100) : edge();
  const stages = 1 + random.below(6);
  const numCodewords = Math.min(logUniform(4000), Math.ceil(mostProducts / dim / stages));
  const count = Math.min(logUniform(500), Math.ceil(mostProducts / dim / stages / numCodewords));
  const cosine = random.below(4) === 0;
  return {
    family: families[random.below(families.length)],
    shape: { count, dim, numCodewords },
    form: { metric: cosine ? "cosine" : "l2", weighted: !cosine && random.below(4) === 0, stages },
    caseSeed,
  };
}

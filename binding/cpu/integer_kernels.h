// The 16-bit screen's inner loops, written once in GCC/Clang vector types.
//
// Included by kernels_<level>.cpp inside that level's own namespace after screen_kernels.h, with the same rules, and
// after it has defined besides:
//   kIntegerCodewords           codewords of a tile, a divisor of kGroupCodewords
//   kFewestUniformDims, kFewestIntegerDims   see IntegerKernels
//   to_integers(x)              the nearest integer of every lane; anything where it does not fit
//   add_dots(sums, a, b, place) sums += a.low · b.low + a.high · b.high, the two 16-bit halves of every lane, modulo
//                               2^32; place tells which register of the rows a is

static inline Ints broadcast_pair(uint32_t pair) {
  int p = (int)pair;
  return Ints{} + p;
}

static void quantise_rows(const QuantiseRows& job) {
  for (size_t lane = 0; lane < job.panel_stride; lane += kLanes) {
    Floats multiplier = load<Floats>(job.multipliers + lane);
    Floats squared_error = {};
    const float* x = job.panel + lane;
    uint32_t* pairs = job.pairs + lane;
    for (size_t i = 0; i < job.dim; i += 2) {
      Ints halves[2] = {};
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; half++) {
        if (i + half == job.dim) break;
        Floats element = load<Floats>(x + half * job.panel_stride);
        halves[half] = to_integers(element * multiplier);
        Floats error = fused(element, multiplier, -__builtin_convertvector(halves[half], Floats));
        squared_error = fused(error, error, squared_error);
      }
      store(pairs, (halves[0] & 0xffff) | (halves[1] << 16));
      x += 2 * job.panel_stride;
      pairs += job.panel_stride;
    }
    store(job.squared_errors + lane, squared_error);
  }
}

// sums[c][r] += the products of codeword c and the rows in register r. x: [words][kRegisters][kLanes], y:
// [words][kGroupCodewords].
template <int kCodewords, int kRegisters>
static inline void add_words(const uint32_t* x, const uint32_t* y, size_t words, Ints (&sums)[kCodewords][kRegisters]) {
  for (size_t i = words; i > 0; i--) {
#pragma GCC unroll 8
    for (int c = 0; c < kCodewords; c++) {
      Ints codeword = broadcast_pair(y[c]);
#pragma GCC unroll 4
      for (int r = 0; r < kRegisters; r++) add_dots(sums[c][r], x + r * kLanes, codeword, r);
    }
    x += kRegisters * kLanes;
    y += kGroupCodewords;
  }
}

// scores[c][row] = the score of codeword first + c of one group; best[r] = the best so far for the rows in register r.
// The sums stay in registers from the first dimension to the last, like those of score_tile in screen_kernels.h. All
// scores are stored, though few are read: a branch around the stores guesses wrong too often, and to compute single
// scores again later takes longest.
template <int kRegisters>
static inline void score_integers(const IntegerTile& job, size_t group, size_t first, float* scores,
                                  Floats (&best)[kRegisters]) {
  const IntegerCodewords& codewords = job.codewords;
  const uint32_t* y = codewords.panels + group * codewords.words * kGroupCodewords + first;
  const uint32_t* x = job.panel;
  Ints sums[(int)kIntegerCodewords][kRegisters] = {};
  add_words(x, y, codewords.words, sums);

  Floats group_factor = broadcast(codewords.factors[group]);
  Floats factors[kRegisters];
#pragma GCC unroll 4
  for (int r = 0; r < kRegisters; r++) factors[r] = load<Floats>(job.row_factors + r * kLanes) * group_factor;
#pragma GCC unroll 8
  for (size_t c = 0; c < kIntegerCodewords; c++) {
    Floats start = broadcast(codewords.starts[group * kGroupCodewords + first + c]);
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; r++) {
      Floats score = fused(__builtin_convertvector(sums[c][r], Floats), factors[r], start);
      store(scores, score);
      scores += kLanes;
      best[r] = first + c == 0 ? score : larger(best[r], score);
    }
  }
}

// upper and lower of one group, whose best scores are given: see ScreenTile.
template <int kRegisters>
static inline void note_integer_group(const IntegerTile& job, size_t group, const Floats (&best)[kRegisters],
                                      float* upper) {
  Floats norm = broadcast(job.codewords.group_norms[group]);
  Floats error = broadcast(job.codewords.group_errors[group]);
  Floats constant = broadcast(job.codewords.group_constants[group]);
#pragma GCC unroll 4
  for (int r = 0; r < kRegisters; r++) {
    Floats bound = fused(load<Floats>(job.row_slopes + r * kLanes), norm,
                         fused(load<Floats>(job.row_reaches + r * kLanes), error,
                               constant + load<Floats>(job.row_constants + r * kLanes)));
    Floats lower = load<Floats>(job.lower + r * kLanes);
    store(upper + r * kLanes, best[r] + bound);
    store(job.lower + r * kLanes, larger(lower, best[r] - bound));
  }
}

template <int kRegisters>
static void screen_integer_registers(const IntegerTile& job) {
  float* upper = job.upper;
  float* scores = job.scores;
  for (size_t group = job.first_group; group < job.last_group; group++) {
    Floats best[kRegisters];
    for (size_t first = 0; first < kGroupCodewords; first += kIntegerCodewords) {
      score_integers<kRegisters>(job, group, first, scores, best);
      scores += kIntegerCodewords * kRegisters * kLanes;
    }
    note_integer_group<kRegisters>(job, group, best, upper);
    upper += kRegisters * kLanes;
  }
}

static void screen_integer_tile(const IntegerTile& job) {
  switch (job.panel_stride / kLanes) {
    case 1:
      return screen_integer_registers<1>(job);
    case 2:
      if constexpr (kTileRegisters >= 2) return screen_integer_registers<2>(job);
      break;
    case 3:
      if constexpr (kTileRegisters >= 3) return screen_integer_registers<3>(job);
      break;
    case 4:
      if constexpr (kTileRegisters >= 4) return screen_integer_registers<4>(job);
      break;
  }
}

#ifdef RVQ_TESTING
static void best_integer_groups(const IntegerTile& job, float* groups) {
  constexpr int kRegisters = kTileRegisters;
  for (size_t group = job.first_group; group < job.last_group; group++) {
    Floats best[kRegisters];
    for (size_t first = 0; first < kGroupCodewords; first += kIntegerCodewords) {
      score_integers<kRegisters>(job, group, first, job.scores, best);
    }
    note_best<kRegisters>(group, best, job.lower, groups);
  }
}
#endif

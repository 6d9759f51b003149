// The screen in 16-bit integers with one multiplier for all rows of a tile and one for all codewords: scores are
// compared as integers, and nothing is converted but a group's best.
//
// Included by kernels_<level>.cpp inside that level's own namespace after integer_kernels.h, with the same rules.

static void integer_starts(const IntegerStarts& job) {
  // The smallest integer is what a conversion gives that does not fit.
  static_assert(kLanes % kGroupCodewords == 0);
  size_t whole = job.count - job.count % kLanes;
  Floats unit = broadcast(job.unit);
  for (size_t i = 0; i < whole; i += kLanes) store(job.integers + i, to_integers(load<Floats>(job.starts + i) * unit));
  if (whole == job.count) return;
  Floats last = {};
  for (size_t i = whole; i < job.count; i++) last[i - whole] = job.starts[i];
  Ints integers = to_integers(last * unit);
  for (size_t i = whole; i < job.count; i++) job.integers[i] = integers[i - whole];
}

struct UniformScores {
  typedef Ints Score;
  template <int kRegisters>
  static constexpr int kCodewords = (int)kIntegerCodewords;

  const UniformTile& job;

  static Score lowest() { return Ints{} + INT32_MIN; }
  Floats real(Score score) const { return __builtin_convertvector(score, Floats) * broadcast(job.factor); }
  template <int kRegisters>
  void add(size_t group, size_t first, Ints (&sums)[kCodewords<kRegisters>][kRegisters]) const {
    const IntegerCodewords& codewords = job.codewords;
    const uint32_t* y = codewords.panels + group * codewords.words * kGroupCodewords + first;
    const int32_t* starts = job.starts + (group - job.first_group) * kGroupCodewords + first;
    const uint32_t* x = job.panel;
#pragma GCC unroll 8
    for (int c = 0; c < kCodewords<kRegisters>; c++) {
      Ints start = Ints{} + starts[c];
#pragma GCC unroll 4
      for (int r = 0; r < kRegisters; r++) sums[c][r] = start;
    }
    add_words(x, y, codewords.words, sums);
  }
};

static void screen_uniform(const UniformTile& job) {
  for_registers(job.panel_stride / kLanes, [&]<int kRegisters>() {
    screen_registers<kRegisters>(UniformScores{job}, job.first_group, job.last_group, job.ends);
  });
}

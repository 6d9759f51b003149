// The screen's inner loops, written once in GCC/Clang vector types.
//
// Included by every kernels_<level>.cpp inside that level's own namespace, after it has defined:
//   Floats, kLanes              a register of float32
//   HalfFloats, Doubles         half a register of float32, a register of float64 (as many elements)
//   kTileRegisters              rows of a tile, in registers
//   kTileCodewords              codewords of a tile, a divisor of kGroupCodewords
//   add_products                only with RVQ_OWN_PRODUCTS, in place of the one below
//   broadcast, fused            one value to all lanes; a·b + c, rounded once or twice
//   larger, smaller             of two, lane by lane
//   reaches(a, b)               bit l is set where a[l] >= b[l]
//   interleave_low, _high       a0 b0 a1 b1 … from the lower or the upper halves
//   Group                       a group of codewords, one a lane; on a level with narrower registers no register at all
//   Part, broadcast_part, fused_part   as much of a group as a register holds, and the same for it
//   broadcast_double, fused_doubles    the same for float64
//   kProjectedRows              rows of a linear map whose sums stay in registers
// Nothing here may call an inline function of the standard library: the linker keeps one copy of such a function, and
// it could be the one compiled for the newest processor.

// As many as there are Floats.
typedef int32_t Ints __attribute__((vector_size(sizeof(Floats))));

static inline Ints larger(Ints a, Ints b) { return a > b ? a : b; }
static inline Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

constexpr size_t kDoubles = kLanes / 2;
constexpr size_t kMaxTileRows = kTileRegisters * kLanes;

template <typename Vector, typename Element>
static inline Vector load(const Element* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

template <typename Vector, typename Element>
static inline void store(Element* to, const Vector& v) {
  __builtin_memcpy(to, &v, sizeof v);
}

// kLanes × kLanes elements: columns of `panel` from the rows that are there, zeros for the others. A round of
// interleaving turns the element's address (row, column) left by one bit; log2(kLanes) rounds exchange the two.
static inline void transpose_block(const float* rows, size_t row_stride, size_t count, float* panel,
                                   size_t panel_stride) {
  Floats a[kLanes];
  Floats b[kLanes];
#pragma GCC unroll 16
  for (size_t r = 0; r < kLanes; r++) a[r] = r < count ? load<Floats>(rows + r * row_stride) : Floats{};
#pragma GCC unroll 4
  for (size_t round = kLanes; round > 1; round /= 2) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kLanes / 2; r++) {
      b[2 * r] = interleave_low(a[r], a[r + kLanes / 2]);
      b[2 * r + 1] = interleave_high(a[r], a[r + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < kLanes; r++) a[r] = b[r];
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kLanes; r++) store(panel + r * panel_stride, a[r]);
}

static void pack_rows(const PackRows& job) {
  // Lanes become rows.
  size_t whole = job.dim - job.dim % kLanes;
  for (size_t first = 0; first < job.panel_stride; first += kLanes) {
    const float* rows = job.rows + first * job.row_stride;
    size_t count = first < job.count ? job.count - first : 0;
    if (count > kLanes) count = kLanes;
    for (size_t i = 0; i < whole; i += kLanes) {
      transpose_block(rows + i, job.row_stride, count, job.panel + i * job.panel_stride + first, job.panel_stride);
    }
    for (size_t i = whole; i < job.dim; i++) {
      float* column = job.panel + i * job.panel_stride + first;
      for (size_t r = 0; r < kLanes; r++) column[r] = r < count ? rows[r * job.row_stride + i] : 0.0f;
    }
  }

  // Centred and scaled in float64, so that one rounding to float32 is the only error worth counting.
  for (size_t lane = 0; lane < job.panel_stride; lane += kDoubles) {
    Doubles squared_norm = {};
    for (size_t i = 0; i < job.dim; i++) {
      float* place = job.panel + i * job.panel_stride + lane;
      Doubles x = (__builtin_convertvector(load<HalfFloats>(place), Doubles) - (double)job.centre[i]) * job.scale[i];
      squared_norm += x * x;
      store(place, __builtin_convertvector(x, HalfFloats));
    }
    store(job.squared_norms + lane, squared_norm);
  }
}

// Few rows leave registers for more codewords, without which every addition would wait for the one before.
template <int kRegisters>
constexpr int kCodewordsBeside = 2 * kRegisters <= kTileRegisters&& kTileCodewords < (int)kGroupCodewords
                                     ? 2 * kTileCodewords
                                     : kTileCodewords;

#ifndef RVQ_OWN_PRODUCTS
// One dimension of a tile: sums[c][r] += the rows in register r · codeword first + c. x: [kRegisters][kLanes],
// y: [kGroupCodewords].
template <int kRegisters, int kCodewords>
static inline void add_products(const float* x, const float* y, size_t first, Floats (&sums)[kCodewords][kRegisters]) {
  Floats rows[kRegisters];
#pragma GCC unroll 4
  for (int r = 0; r < kRegisters; r++) rows[r] = load<Floats>(x + r * kLanes);
#pragma GCC unroll 8
  for (int c = 0; c < kCodewords; c++) {
    Floats codeword = broadcast(y[first + c]);
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; r++) sums[c][r] = fused(rows[r], codeword, sums[c][r]);
  }
}
#endif

// sums[c][r] = the scores of codeword first + c of one group for the rows in register r: in registers from the first
// dimension to the last.
template <int kRegisters, int kCodewords>
static inline void score_tile(const PackedCodewords& codewords, size_t group, size_t first, const float* x,
                              Floats (&sums)[kCodewords][kRegisters]) {
  const float* y = codewords.panels + group * codewords.dim * kGroupCodewords;
#pragma GCC unroll 8
  for (int c = 0; c < kCodewords; c++) {
    Floats start = broadcast(codewords.starts[group * kGroupCodewords + first + c]);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; r++) sums[c][r] = start;
  }

  for (size_t i = codewords.dim; i > 0; i--) {
    add_products(x, y, first, sums);
    x += kRegisters * kLanes;
    y += kGroupCodewords;
  }
}

// The two best of several scores, lane by lane.
template <typename Score>
struct BestTwo {
  Score best;
  Score second;
};

template <typename Score>
static inline BestTwo<Score> best_two(const BestTwo<Score>& a, const BestTwo<Score>& b) {
  return {larger(a.best, b.best), larger(smaller(a.best, b.best), larger(a.second, b.second))};
}

// The scores of a float32 tile, for screen_registers.
struct FloatScores {
  typedef Floats Score;
  template <int kRegisters>
  static constexpr int kCodewords = kCodewordsBeside<kRegisters>;

  const ScreenTile& job;

  static Score lowest() { return broadcast(-3e38f); }
  static Floats real(Score score) { return score; }
  template <int kRegisters>
  void add(size_t group, size_t first, Floats (&sums)[kCodewords<kRegisters>][kRegisters]) const {
    score_tile(job.codewords, group, first, job.panel, sums);
  }
};

// best[r] = the best score of a group; places[p][r] = the best in this place of any group so far.
template <int kRegisters, typename Scores, typename Score = typename Scores::Score>
static inline void best_of_group(const Scores& scores, size_t group, Score (&best)[kRegisters],
                                 Score (&places)[kGroupCodewords][kRegisters]) {
  constexpr int kCodewords = Scores::template kCodewords<kRegisters>;
#pragma GCC unroll 4
  for (int first = 0; first < (int)kGroupCodewords; first += kCodewords) {
    Score sums[kCodewords][kRegisters];
    scores.template add<kRegisters>(group, (size_t)first, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; r++) {
      Score top = sums[0][r];
#pragma GCC unroll 8
      for (int c = 1; c < kCodewords; c++) top = larger(top, sums[c][r]);
      best[r] = first == 0 ? top : larger(best[r], top);
#pragma GCC unroll 8
      for (int c = 0; c < kCodewords; c++) places[first + c][r] = larger(sums[c][r], places[first + c][r]);
    }
  }
}

// The winner and the second best score without a number in every score: the winner is where the best group and the best
// place in a group cross. Any other codeword is in another group, and no better than that group's best, or in another
// place, and no better than that place's best. The second best of the groups and of the places are both scores of
// codewords other than the winner, so the larger of the two is the second best score. Of several best scores, which may
// cross where none of them is, one is the second best: then nothing is certain.
template <int kRegisters, typename Scores>
static void screen_registers(const Scores& scores, size_t first_group, size_t last_group, const TileEnds& ends) {
  typedef typename Scores::Score Score;
  BestTwo<Score> top[kRegisters];
  Ints groups[kRegisters];
  Score places[kGroupCodewords][kRegisters];
#pragma GCC unroll 8
  for (int r = 0; r < kRegisters; r++) {
    top[r] = {Scores::lowest(), Scores::lowest()};
    groups[r] = Ints{};
    for (size_t place = 0; place < kGroupCodewords; place++) places[place][r] = Scores::lowest();
  }

  float* upper = ends.upper;
  for (size_t group = first_group; group < last_group; group++) {
    Score best[kRegisters];
    best_of_group<kRegisters>(scores, group, best, places);
    int number = (int)group;
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; r++) {
      store(upper, scores.real(best[r]) + load<Floats>(ends.bounds + r * kLanes));
      upper += kLanes;
      groups[r] = best[r] > top[r].best ? Ints{} + number : groups[r];
      top[r].second = larger(top[r].second, smaller(top[r].best, best[r]));
      top[r].best = larger(top[r].best, best[r]);
    }
  }

#pragma GCC unroll 8
  for (int r = 0; r < kRegisters; r++) {
    Ints place = {};
    BestTwo<Score> crossing = {places[0][r], Scores::lowest()};
#pragma GCC unroll 8
    for (int p = 1; p < (int)kGroupCodewords; p++) {
      place = places[p][r] > crossing.best ? Ints{} + p : place;
      crossing = best_two(crossing, {places[p][r], Scores::lowest()});
    }

    size_t at = r * kLanes;
    Floats bound = load<Floats>(ends.bounds + at);
    Floats before = load<Floats>(ends.largest + at);
    Floats best = scores.real(top[r].best);
    Floats second = scores.real(larger(top[r].second, crossing.second));
    Ints position = groups[r] * (int)kGroupCodewords + place;
    store(ends.winners + at, best + bound > before ? position : load<Ints>(ends.winners + at));
    BestTwo<Floats> uppers = best_two<Floats>({before, load<Floats>(ends.second + at)}, {best + bound, second + bound});
    store(ends.largest + at, uppers.best);
    store(ends.second + at, uppers.second);
    store(ends.lower + at, larger(load<Floats>(ends.lower + at), best - bound));
  }
}

// run<R>() for a panel of R registers of rows.
template <int kRegisters = kTileRegisters, typename Run>
static inline void for_registers(size_t registers, Run run) {
  if (registers == kRegisters) return run.template operator()<kRegisters>();
  if constexpr (kRegisters > 1) for_registers<kRegisters - 1>(registers, run);
}

static void screen_tile(const ScreenTile& job) {
  for_registers(job.panel_stride / kLanes, [&]<int kRegisters>() {
    screen_registers<kRegisters>(FloatScores{job}, job.first_group, job.last_group, job.ends);
  });
}

template <int kRegisters>
static void project_registers(const Projection& job) {
  constexpr int kCodewords = kCodewordsBeside<kRegisters>;
  float* coefficients = job.coefficients;
  for (size_t group = 0; group < job.groups; group++) {
#pragma GCC unroll 4
    for (size_t first = 0; first < kGroupCodewords; first += kCodewords) {
      Floats sums[kCodewords][kRegisters];
      score_tile(job.axes, group, first, job.panel, sums);
#pragma GCC unroll 8
      for (int c = 0; c < kCodewords; c++) {
#pragma GCC unroll 8
        for (int r = 0; r < kRegisters; r++) store(coefficients + r * kLanes, sums[c][r]);
        coefficients += kRegisters * kLanes;
      }
    }
  }
}

static void project(const Projection& job) {
  for_registers(job.panel_stride / kLanes, [&]<int kRegisters>() { project_registers<kRegisters>(job); });
}

constexpr size_t kPartLanes = sizeof(Part) / sizeof(float);
constexpr size_t kParts = kGroupCodewords / kPartLanes;
// Sums of one row at a time, in groups: eight registers of them.
constexpr size_t kRowSums = 8 / kParts;

// sums[g] += x · one element of every codeword of group g.
template <size_t kGroups>
static inline void add_element(float x, const float* y, size_t panel, Part (&sums)[kGroups][kParts]) {
  Part element = broadcast_part(x);
#pragma GCC unroll 8
  for (size_t g = 0; g < kGroups; g++) {
#pragma GCC unroll 2
    for (size_t part = 0; part < kParts; part++) {
      sums[g][part] = fused_part(element, load<Part>(y + g * panel + part * kPartLanes), sums[g][part]);
    }
  }
}

// Scores of kGroups neighbouring groups for one row, a codeword a lane. Every sum is split into kChains chains, so that
// an addition need not wait for the one before.
template <size_t kGroups, size_t kChains>
static inline void score_groups(const PackedCodewords& codewords, size_t first_group, const float* x,
                                size_t panel_stride, Group (&scores)[kGroups]) {
  size_t panel = codewords.dim * kGroupCodewords;
  const float* y = codewords.panels + first_group * panel;
  Part sums[kChains][kGroups][kParts] = {};
  size_t i = 0;
  for (; i + kChains <= codewords.dim; i += kChains) {
#pragma GCC unroll 8
    for (size_t chain = 0; chain < kChains; chain++) {
      add_element(x[chain * panel_stride], y + chain * kGroupCodewords, panel, sums[chain]);
    }
    x += kChains * panel_stride;
    y += kChains * kGroupCodewords;
  }
  for (; i < codewords.dim; i++) {
    add_element(*x, y, panel, sums[0]);
    x += panel_stride;
    y += kGroupCodewords;
  }
#pragma GCC unroll 8
  for (size_t g = 0; g < kGroups; g++) {
#pragma GCC unroll 2
    for (size_t part = 0; part < kParts; part++) {
      Part score = load<Part>(codewords.starts + (first_group + g) * kGroupCodewords + part * kPartLanes);
#pragma GCC unroll 8
      for (size_t chain = 0; chain < kChains; chain++) score += sums[chain][g][part];
      store((float*)&scores[g] + part * kPartLanes, score);
    }
  }
}

static void score_group(const PackedCodewords& codewords, size_t group, const float* panel, size_t panel_stride,
                        size_t row, float* scores) {
  Group score[1];
  score_groups<1, kRowSums>(codewords, group, panel + row, panel_stride, score);
  store(scores, score[0]);
}

// The bound of one group for one row: see ScreenRow.
static inline void note_group(const ScreenRow& job, size_t group, size_t row, const Group& scores) {
  float best = scores[0];
  for (size_t c = 1; c < kGroupCodewords; c++) best = scores[c] > best ? scores[c] : best;
  float bound = job.row_slopes[row] * job.codewords.group_norms[group] +
                (job.codewords.group_constants[group] + job.row_constants[row]);
  job.upper[group - job.first_group] = best + bound;
  if (best - bound > *job.lower) *job.lower = best - bound;
}

static void screen_row(const ScreenRow& job, size_t row) {
  // Few groups at a time: their panels are often a power of two apart, and compete for the same places in the cache.
  constexpr size_t kTogether = 2;
  const float* x = job.panel + row;
  size_t group = job.first_group;
  for (; group + kTogether <= job.last_group; group += kTogether) {
    Group scores[kTogether];
    score_groups<kTogether, kRowSums / kTogether>(job.codewords, group, x, job.panel_stride, scores);
    for (size_t g = 0; g < kTogether; g++) note_group(job, group + g, row, scores[g]);
  }
  for (; group < job.last_group; group++) {
    Group scores[1];
    score_groups<1, kRowSums>(job.codewords, group, x, job.panel_stride, scores);
    note_group(job, group, row, scores[0]);
  }
}

static size_t collect(const float* upper, const float* lower, size_t groups, size_t panel_stride, Hit* hits) {
  Hit* next = hits;
  for (size_t group = 0; group < groups; group++) {
    for (size_t lane = 0; lane < panel_stride; lane += kLanes) {
      unsigned found = reaches(load<Floats>(upper), load<Floats>(lower + lane));
      upper += kLanes;
      for (; found != 0; found &= found - 1) {
        *next++ = {(uint32_t)group, (uint32_t)(lane + (unsigned)__builtin_ctz(found))};
      }
    }
  }
  return (size_t)(next - hits);
}

// The integer screens' inner loops for a few rows: codewords in the lanes, a group a register.
//
// Included by kernels_<level>.cpp after byte_kernels.h, with the same rules, and after it has defined besides:
//   GroupInts                  32-bit integers, one a codeword of a group
//   add_pairs(sums, y, x)      adds the products of a pair of 16-bit integers of every codeword and the row's pair x
//   add_quadruples(sums, y, x) the same for four bytes, those of the codewords unsigned; unused where kByteBlockWords
//                              is not 0

// Sums modulo 2^32: rows that nobody looks at may hold anything.
typedef uint32_t GroupWords __attribute__((vector_size(sizeof(GroupInts))));

// What tells the two screens apart.
struct PairRows {
  static constexpr bool kFactorACodeword = false;
  static uint32_t start(const IntegerRows&, size_t) { return 0; }
  static inline void add(GroupInts& sums, const uint32_t* codewords, uint32_t row) { add_pairs(sums, codewords, row); }
};
struct QuadrupleRows {
  static constexpr bool kFactorACodeword = true;
  static uint32_t start(const IntegerRows& job, size_t row) { return job.row_starts[row]; }
  static inline void add(GroupInts& sums, const uint32_t* codewords, uint32_t row) {
    add_quadruples(sums, codewords, row);
  }
};

// sums[g][r] = the products of kRows rows from `first_row` on and the codewords of kGroups neighbouring groups. Every
// sum is split into kChains chains, so that an addition need not wait for the one before.
template <typename Width, size_t kGroups, size_t kRows>
static inline void dot_rows(const IntegerRows& job, size_t group, size_t first_row, GroupInts (&sums)[kGroups][kRows]) {
  constexpr size_t kChains = 8 / (kGroups * kRows);
  size_t words = job.codewords.words;
  size_t panel = words * kGroupCodewords;
  const uint32_t* y = job.codewords.panels + group * panel;
  const uint32_t* x = job.panel + first_row;
  GroupInts chains[kChains][kGroups][kRows] = {};
  size_t i = 0;
  for (; i + kChains <= words; i += kChains) {
#pragma GCC unroll 8
    for (size_t chain = 0; chain < kChains; chain++) {
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; r++) {
#pragma GCC unroll 2
        for (size_t g = 0; g < kGroups; g++) Width::add(chains[chain][g][r], y + g * panel, x[r]);
      }
      x += job.panel_stride;
      y += kGroupCodewords;
    }
  }
  for (; i < words; i++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; r++) {
#pragma GCC unroll 2
      for (size_t g = 0; g < kGroups; g++) Width::add(chains[0][g][r], y + g * panel, x[r]);
    }
    x += job.panel_stride;
    y += kGroupCodewords;
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; r++) {
    uint32_t start = Width::start(job, first_row + r);
#pragma GCC unroll 2
    for (size_t g = 0; g < kGroups; g++) {
      GroupWords sum = GroupWords{} + start;
#pragma GCC unroll 8
      for (size_t chain = 0; chain < kChains; chain++) sum += (GroupWords)chains[chain][g][r];
      sums[g][r] = (GroupInts)sum;
    }
  }
}

template <typename Width, size_t kGroups, size_t kRows>
static inline void score_rows(const IntegerRows& job, size_t group, size_t first_row, Group (&lower)[kRows]) {
  GroupInts sums[kGroups][kRows];
  dot_rows<Width, kGroups, kRows>(job, group, first_row, sums);
  const IntegerCodewords& codewords = job.codewords;
#pragma GCC unroll 2
  for (size_t g = 0; g < kGroups; g++) {
    size_t at = group + g;
    Group start = load<Group>(codewords.starts + at * kGroupCodewords);
    Group factors = Width::kFactorACodeword ? load<Group>(codewords.factors + at * kGroupCodewords)
                                            : Group{} + codewords.factors[at];
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; r++) {
      size_t row = first_row + r;
      float bound =
          job.row_slopes[row] * codewords.group_norms[at] + (job.row_reaches[row] * codewords.group_errors[at] +
                                                             (codewords.group_constants[at] + job.row_constants[row]));
      Group score = __builtin_convertvector(sums[g][r], Group) * (factors * job.row_factors[row]) + start;
      store(job.upper + row * job.upper_stride + (at - job.first_group) * kGroupCodewords, score + bound);
      Group end = score - bound;
      lower[r] = end > lower[r] ? end : lower[r];
    }
  }
}

template <typename Width, size_t kRows>
static void screen_few_rows(const IntegerRows& job, size_t first_row) {
  Group lower[kRows];
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; r++) lower[r] = Group{} + job.lower[first_row + r];
  size_t group = job.first_group;
  for (; group + 2 <= job.last_group; group += 2) score_rows<Width, 2, kRows>(job, group, first_row, lower);
  for (; group < job.last_group; group++) score_rows<Width, 1, kRows>(job, group, first_row, lower);
  for (size_t r = 0; r < kRows; r++) {
    for (size_t c = 0; c < kGroupCodewords; c++) {
      if (lower[r][c] > job.lower[first_row + r]) job.lower[first_row + r] = lower[r][c];
    }
  }
}

template <typename Width>
static void screen_integer_rows(const IntegerRows& job) {
  size_t row = 0;
  for (; row + 4 <= job.count; row += 4) screen_few_rows<Width, 4>(job, row);
  for (; row + 2 <= job.count; row += 2) screen_few_rows<Width, 2>(job, row);
  if (row < job.count) screen_few_rows<Width, 1>(job, row);
}

static constexpr IntegerKernels kIntegerKernels = {
    kFewestUniformDims,  kFewestIntegerDims, quantise_rows, screen_integer_tile, screen_integer_rows<PairRows>,
    integer_starts,      screen_uniform,
#ifdef RVQ_TESTING
    best_integer_groups,
#endif
};

static constexpr ByteKernels kByteKernels = {
    kFewestByteDims,  kByteCosts,
    kLargestByte,     kByteBlockWords,
    measure_bytes,    quantise_bytes,
    screen_byte_tile, kByteBlockWords == 0 ? screen_integer_rows<QuadrupleRows> : nullptr};

// The canonical arithmetic's inner loops: eight float64 partial sums, every operation rounded on its own.
//
// Included by every kernels_<level>.cpp after screen_kernels.h, with the same rules. The build compiles these files
// without contraction (-ffp-contract=off): a fused multiply-add would change the result.

constexpr size_t kSumRegisters = kSumLanes / kDoubles;

// Elements between two looks at the limit: a look costs about as much as eight elements.
constexpr size_t kElementsPerLook = 64;

static inline double tree(const Doubles (&sums)[kSumRegisters]) {
  double s[kSumLanes];
  __builtin_memcpy(s, sums, sizeof s);
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

template <bool kWeighted>
static inline void add_squares(const float* x, const float* c, const float* weights, size_t begin, size_t end,
                               Doubles (&sums)[kSumRegisters]) {
  for (size_t i = begin; i < end; i += kSumLanes) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kSumRegisters; r++) {
      size_t at = i + r * kDoubles;
      Doubles t = __builtin_convertvector(load<HalfFloats>(x + at), Doubles) -
                  __builtin_convertvector(load<HalfFloats>(c + at), Doubles);
      t = t * t;
      if constexpr (kWeighted) t = __builtin_convertvector(load<HalfFloats>(weights + at), Doubles) * t;
      sums[r] += t;
    }
  }
}

// Stopping early is exact. Every partial sum only grows, rounded addition is monotone, and so the tree over the sums so
// far is at most the tree at the end. A NaN compares false and goes on to the end, where it does not win either.
template <bool kWeighted>
static inline double distance_up_to(const float* x, const float* c, const float* weights, size_t padded_dim,
                                    double limit) {
  Doubles sums[kSumRegisters] = {};
  size_t i = 0;
  for (; i + kElementsPerLook < padded_dim; i += kElementsPerLook) {
    add_squares<kWeighted>(x, c, weights, i, i + kElementsPerLook, sums);
    double so_far = tree(sums);
    if (so_far > limit) return so_far;
  }
  add_squares<kWeighted>(x, c, weights, i, padded_dim, sums);
  return tree(sums);
}

static double distance(const float* x, const float* c, const float* weights, size_t padded_dim, double limit) {
  return weights == nullptr ? distance_up_to<false>(x, c, weights, padded_dim, limit)
                            : distance_up_to<true>(x, c, weights, padded_dim, limit);
}

static float rough_distance(const float* x, const float* c, size_t dim) {
  constexpr size_t kChains = 4;
  Floats sums[kChains] = {};
  size_t i = 0;
  for (; i + kChains * kLanes <= dim; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (size_t chain = 0; chain < kChains; chain++) {
      Floats t = load<Floats>(x + i + chain * kLanes) - load<Floats>(c + i + chain * kLanes);
      sums[chain] = fused(t, t, sums[chain]);
    }
  }
  for (; i + kLanes <= dim; i += kLanes) {
    Floats t = load<Floats>(x + i) - load<Floats>(c + i);
    sums[0] = fused(t, t, sums[0]);
  }
  Floats all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float sum = 0;
  for (size_t lane = 0; lane < kLanes; lane++) sum += all[lane];
  for (; i < dim; i++) sum += (x[i] - c[i]) * (x[i] - c[i]);
  return sum;
}

static uint32_t scan(const ScanCodewords& job) {
  double best = job.best_distance;
  uint32_t code = job.best_code;
  for (size_t n = 0; n < job.count; n++) {
    uint32_t k = job.order[n];
    double d = distance(job.row, job.codewords + k * job.padded_dim, job.weights, job.padded_dim, best);
    if (d < best || (d == best && k < code)) {
      best = d;
      code = k;
    }
  }
  return code;
}

static bool unit_row(const float* row, size_t padded_dim, float* unit) {
  Doubles sums[kSumRegisters] = {};
  for (size_t i = 0; i < padded_dim; i += kSumLanes) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kSumRegisters; r++) {
      Doubles x = __builtin_convertvector(load<HalfFloats>(row + i + r * kDoubles), Doubles);
      sums[r] += x * x;
    }
  }
  // The smallest square of a float32 is far above the smallest float64: the sum is zero only for a row of zeros.
  double squared_norm = tree(sums);
  if (squared_norm == 0) return false;
  double norm = __builtin_sqrt(squared_norm);
  for (size_t i = 0; i < padded_dim; i += kDoubles) {
    Doubles x = __builtin_convertvector(load<HalfFloats>(row + i), Doubles) / norm;
    store(unit + i, __builtin_convertvector(x, HalfFloats));
  }
  return true;
}

static size_t first_not_finite(const float* elements, size_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  constexpr size_t kBlock = 256;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    size_t end = count - begin < kBlock ? count : begin + kBlock;
    uint32_t found = 0;
    for (size_t i = begin; i < end; i++) {
      uint32_t bits;
      __builtin_memcpy(&bits, elements + i, sizeof bits);
      found |= (uint32_t)((bits & kExponent) == kExponent);
    }
    if (found == 0) continue;
    for (size_t i = begin; i < end; i++) {
      if (!__builtin_isfinite(elements[i])) return i;
    }
  }
  return count;
}

static void subtract(float* __restrict row, const float* __restrict codeword, size_t padded_dim) {
  for (size_t i = 0; i < padded_dim; i++) row[i] = row[i] - codeword[i];
}

// row[dim] = the sum of a codeword of every stage.
static inline void decode_row(const float* const* codewords, size_t stages, size_t dim, float* row) {
  // Four groups of elements are summed over all stages before they are written: `row` is touched once.
  constexpr size_t kTogether = 4;
  size_t i = 0;
  for (; i + kTogether * kGroupCodewords <= dim; i += kTogether * kGroupCodewords) {
    Group sums[kTogether] = {};
    for (size_t s = 0; s < stages; s++) {
#pragma GCC unroll 4
      for (size_t j = 0; j < kTogether; j++) sums[j] += load<Group>(codewords[s] + i + j * kGroupCodewords);
    }
#pragma GCC unroll 4
    for (size_t j = 0; j < kTogether; j++) store(row + i + j * kGroupCodewords, sums[j]);
  }
  for (; i + kGroupCodewords <= dim; i += kGroupCodewords) {
    Group sum = {};
    for (size_t s = 0; s < stages; s++) sum += load<Group>(codewords[s] + i);
    store(row + i, sum);
  }
  if (i == dim) return;
  Group sum = {};
  for (size_t s = 0; s < stages; s++) sum += load<Group>(codewords[s] + i);
  __builtin_memcpy(row + i, &sum, (dim - i) * sizeof(float));
}

static void decode_rows(const DecodeRows& job) {
  for (size_t row = 0; row < job.count; row++) {
    decode_row(job.codewords + row * job.stages, job.stages, job.dim, job.rows + row * job.dim);
  }
}

static void add_rounded(double* __restrict sums, const float* __restrict row, size_t dim,
                        const double* __restrict inverse_grids) {
  // Added to 1.5 · 2^52, a number of at most 2^51 loses its fraction, to the nearest integer, half to even.
  constexpr double kRounder = 6755399441055744.0;
  for (size_t i = 0; i < dim; i++) sums[i] += ((double)row[i] * inverse_grids[i] + kRounder) - kRounder;
}

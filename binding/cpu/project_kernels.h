// The inner loops of linear maps: float64 sums, each sequential, of several outputs of several rows at once.
//
// Included by every kernels_<level>.cpp after screen_kernels.h, with the same rules.

constexpr size_t kOutputRegisters = kPanelOutputs / kDoubles;

template <size_t kRows>
static inline void sum_rows(const ProjectRows& job) {
  Doubles sums[kRows][kOutputRegisters];
#pragma GCC unroll 16
  for (size_t row = 0; row < kRows; row++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kOutputRegisters; r++) sums[row][r] = load<Doubles>(job.bias + r * kDoubles);
  }

  const double* rows = job.rows;
  size_t row_stride = job.row_stride;
  const float* weights = job.panel;
  for (size_t i = job.in_dim; i > 0; i--) {
    Doubles w[kOutputRegisters];
#pragma GCC unroll 4
    for (size_t r = 0; r < kOutputRegisters; r++) {
      w[r] = __builtin_convertvector(load<HalfFloats>(weights + r * kDoubles), Doubles);
    }
#pragma GCC unroll 16
    for (size_t row = 0; row < kRows; row++) {
      Doubles x = broadcast_double(rows[row * row_stride]);
#pragma GCC unroll 4
      for (size_t r = 0; r < kOutputRegisters; r++) sums[row][r] = fused_doubles(w[r], x, sums[row][r]);
    }
    rows++;
    weights += kPanelOutputs;
  }

#pragma GCC unroll 16
  for (size_t row = 0; row < kRows; row++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kOutputRegisters; r++) {
      store(job.sums + row * kPanelOutputs + r * kDoubles, sums[row][r]);
    }
  }
}

static void project_rows(const ProjectRows& job) {
  if (job.count == kProjectedRows) return sum_rows<kProjectedRows>(job);
  ProjectRows one = job;
  for (size_t row = 0; row < job.count; row++) {
    one.rows = job.rows + row * job.row_stride;
    one.sums = job.sums + row * kPanelOutputs;
    sum_rows<1>(one);
  }
}

static void widen_rows(const float* narrow, size_t count, double* wide) {
  for (size_t i = 0; i < count; i++) wide[i] = (double)narrow[i];
}

// Inner loops that only benchmarks run: what the processor can do at most, and the screen without its certificate.
//
// Included by every kernels_<level>.cpp after screen_kernels.h, with the same rules, in builds with RVQ_TESTING.

// Multiply-adds that wait for nothing but themselves: enough sums for two pipes of a latency of six, or four of four.
constexpr size_t kPeakSums = 14 > kTileRegisters* kTileCodewords ? 14 : kTileRegisters* kTileCodewords;

static float multiply_adds(size_t rounds) {
  // Different sums, or the compiler would compute only one; each goes to 1, so that no operand is ever subnormal.
  Floats sums[kPeakSums];
#pragma GCC unroll 32
  for (size_t s = 0; s < kPeakSums; s++) sums[s] = broadcast((float)s);
  Floats factor = broadcast(0.5f);
  for (size_t i = 0; i < rounds; i++) {
#pragma GCC unroll 32
    for (size_t s = 0; s < kPeakSums; s++) sums[s] = fused(sums[s], factor, factor);
  }
  float total = 0;
  for (size_t s = 0; s < kPeakSums; s++) total += sums[s][0];
  return total;
}

// The best group of every row so far; as a float32, which holds every group number below 2^24.
template <int kRegisters>
static inline void note_best(size_t group, const Floats (&scores)[kRegisters], float* best, float* groups) {
  Floats number = broadcast((float)group);
#pragma GCC unroll 8
  for (int r = 0; r < kRegisters; r++) {
    Floats before = load<Floats>(best + r * kLanes);
    store(groups + r * kLanes, scores[r] > before ? number : load<Floats>(groups + r * kLanes));
    store(best + r * kLanes, larger(scores[r], before));
  }
}

static void best_groups(const ScreenTile& job, float* groups) {
  constexpr int kRegisters = kTileRegisters;
  for (size_t group = job.first_group; group < job.last_group; group++) {
    Floats best[kRegisters];
#pragma GCC unroll 4
    for (size_t first = 0; first < kGroupCodewords; first += kTileCodewords) {
      Floats sums[kTileCodewords][kRegisters];
      score_tile(job.codewords, group, first, job.panel, sums);
#pragma GCC unroll 8
      for (int r = 0; r < kRegisters; r++) {
        Floats top = sums[0][r];
#pragma GCC unroll 8
        for (int c = 1; c < kTileCodewords; c++) top = larger(top, sums[c][r]);
        best[r] = first == 0 ? top : larger(best[r], top);
      }
    }
    note_best<kRegisters>(group, best, job.ends.lower, groups);
  }
}

static constexpr MeasuringKernels kMeasuringKernels = {kPeakSums * kLanes, multiply_adds, best_groups};

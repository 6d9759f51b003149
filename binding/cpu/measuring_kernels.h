// The inner loop that only benchmarks of the project run: the screen without its certificate.
//
// Included by every kernels_<level>.cpp after screen_kernels.h, with the same rules, in builds with RVQ_TESTING.

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

static constexpr MeasuringKernels kMeasuringKernels = {best_groups};

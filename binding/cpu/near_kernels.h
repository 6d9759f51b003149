// Sorts out, by distances in float32, those of a few candidates that cannot be the nearest; and the level's table.
//
// Included by every kernels_<level>.cpp as the last one, with the rules of screen_kernels.h. The bound's proof is in
// near_bound.h: eight lanes of kChains sums each, so that an addition need not wait for the one before.

static inline float squared_distance(const float* x, const float* c, size_t padded_dim) {
  constexpr size_t kChains = 4;
  Part sums[kChains][kParts] = {};
  // Elements at … at + kSumLanes − 1 into a chain.
  auto add = [&](size_t at, Part(&chain)[kParts]) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (size_t part = 0; part < kParts; part++) {
      size_t i = at + part * kPartLanes;
      Part t = load<Part>(x + i) - load<Part>(c + i);
      chain[part] = fused_part(t, t, chain[part]);
    }
  };
  size_t i = 0;
  for (; i + kChains * kSumLanes <= padded_dim; i += kChains * kSumLanes) {
#pragma GCC unroll 4
    for (size_t chain = 0; chain < kChains; chain++) add(i + chain * kSumLanes, sums[chain]);
  }
  for (; i < padded_dim; i += kSumLanes) add(i, sums[0]);
  float s[kSumLanes];
  for (size_t part = 0; part < kParts; part++) {
    store(s + part * kPartLanes, (sums[0][part] + sums[1][part]) + (sums[2][part] + sums[3][part]));
  }
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static size_t keep_near(const NearCodewords& job) {
  float smallest = __builtin_inff();
  for (size_t n = 0; n < job.count; n++) {
    float distance = squared_distance(job.row, job.codewords + job.candidates[n] * job.padded_dim, job.padded_dim);
    job.distances[n] = distance;
    smallest = distance < smallest ? distance : smallest;
  }
  float limit = smallest * job.widening + job.underflow;
  size_t kept = 0;
  for (size_t n = 0; n < job.count; n++) {
    if (!(job.distances[n] > limit)) job.candidates[kept++] = job.candidates[n];
  }
  return kept;
}

static constexpr Kernels table(const char* name, const IntegerKernels* integers, const ByteKernels* bytes) {
  return {
      name,
      kLanes,
      kMaxTileRows,
      pack_rows,
      screen_tile,
      screen_row,
      score_group,
      project,
      collect,
      distance,
      scan,
      keep_near,
      rough_distance,
      unit_row,
      first_not_finite,
      subtract,
      decode_row,
      add_rounded,
      integers,
      bytes,
#ifdef RVQ_TESTING
      &kMeasuringKernels,
#endif
  };
}

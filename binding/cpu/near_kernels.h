// Sorts out, by distances in float32, those of a few candidates that cannot be the nearest; and the level's table.
//
// Included by every kernels_<level>.cpp as the last one, with the rules of screen_kernels.h. The bound's proof is in
// near_bound.h.

static size_t keep_near(const NearCodewords& job) {
  float smallest = __builtin_inff();
  for (size_t n = 0; n < job.count; n++) {
    float distance = rough_distance(job.row, job.codewords + job.candidates[n] * job.padded_dim, job.padded_dim);
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
      decode_rows,
      add_rounded,
      kProjectedRows,
      project_rows,
      widen_rows,
      integers,
      bytes,
      multiply_adds,
      kPeakSums * kLanes,
#ifdef RVQ_TESTING
      &kMeasuringKernels,
#endif
  };
}

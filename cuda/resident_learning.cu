// The operations of learning on rows that stay on the device.

#include "resident_learning.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "accumulate.h"
#include "array_layout.h"
#include "learning.h"
#include "means.h"
#include "resident_call.h"
#include "seeding.h"

namespace rvq::cuda {

namespace {

CountedRows counted_rows(const CodedRows& rows) {
  return {rows.count, rows.stage, rows.stages_of_row, rows.distances_before};
}

// Of a lane: what comes from the host, goes to it, and stays.
struct LearnPlaces {
  size_t grids, flag, in_end;
  size_t errors, masses, usage, out_end;
  size_t counts, sums, sums_end, totals, partial, counted, workspace, end;

  LearnPlaces(const CodedRows& rows, size_t num_codewords, size_t dim) {
    ArrayLayout layout;
    grids = layout.add(dim * sizeof(int32_t));
    flag = layout.add(sizeof(unsigned));
    in_end = layout.size();
    errors = layout.add(sizeof(StageErrors));
    masses = layout.add(num_codewords * sizeof(double));
    usage = layout.add(num_codewords * sizeof(double));
    out_end = layout.size();
    counts = layout.add(num_codewords * sizeof(long long));
    sums = layout.add(num_codewords * dim * sizeof(long long));
    sums_end = layout.size();
    totals = layout.add(2 * sizeof(double));
    partial = layout.add(error_blocks(rows.count) * sizeof(StageErrors));
    counted = layout.add(counted_rows(rows).all() ? 0 : rows.count * sizeof(uint32_t));
    workspace = layout.add(accumulate_workspace_bytes(rows.count, false, num_codewords));
    end = layout.size();
  }
};

struct MeansPlaces {
  size_t grids, flag, in_end;
  size_t errors, moved, counts, out_end;
  size_t columns, partial, workspace, end;

  // For sums of `piece` rows at a time.
  MeansPlaces(const CodedRows& rows, size_t piece, bool moving, size_t num_codewords, size_t dim) {
    ArrayLayout layout;
    grids = layout.add(dim * sizeof(int32_t));
    flag = layout.add(sizeof(unsigned));
    in_end = layout.size();
    errors = layout.add(sizeof(StageErrors));
    moved = layout.add(sizeof(unsigned));
    counts = layout.add(num_codewords * sizeof(double));
    out_end = layout.size();
    columns = layout.add(dim * sizeof(long long));
    partial = layout.add(error_blocks(rows.count) * sizeof(StageErrors));
    workspace = layout.add(accumulate_workspace_bytes(piece, moving, num_codewords));
    end = layout.size();
  }
};

template <typename Places>
void bring_grids(const CodedRows& rows, size_t dim, const Places& at, Lane& lane) {
  std::memcpy(lane.host<int32_t>(at.grids), rows.grid_exponents, dim * sizeof(int32_t));
  *lane.host<unsigned>(at.flag) = 0;
  lane.upload(at.grids, at.in_end);
}

template <typename Places>
AccumulateRequest sums_of(const CodedRows& rows, size_t num_codewords, size_t dim, const Places& at, Lane& lane) {
  AccumulateRequest sums{};
  sums.vectors = rows.vectors;
  sums.count = rows.count;
  sums.dim = dim;
  sums.codes = rows.codes.from(rows.stage);
  sums.code_stride = rows.code_stages;
  sums.num_codewords = num_codewords;
  sums.grid_exponents = lane.device<int32_t>(at.grids);
  sums.out_of_range = lane.device<unsigned>(at.flag);
  return sums;
}

void add_up(const CodedRows& rows, size_t num_codewords, size_t dim, const LearnPlaces& at, Lane& lane) {
  AccumulateRequest sums = sums_of(rows, num_codewords, dim, at, lane);
  CountedRows counted = counted_rows(rows);
  if (!counted.all()) {
    auto* codes = lane.device<uint32_t>(at.counted);
    choose_counted(counted, rows.codes, rows.code_stages, num_codewords, codes, lane.stream());
    sums.codes = {codes, true};
    sums.code_stride = 1;
    sums.leaves_out = true;
  }
  check(cudaMemsetAsync(lane.device<void>(at.counts), 0, at.sums_end - at.counts, lane.stream()), "accumulate");
  accumulate(sums, lane.device<long long>(at.counts), lane.device<long long>(at.sums), lane.device<void>(at.workspace),
             lane.stream());
}

// Piece by piece, to the sums that there are.
void move_sums(const ResidentMeansRequest& request, size_t piece, size_t num_codewords, size_t dim,
               const MeansPlaces& at, Lane& lane) {
  const CodedRows& rows = request.rows;
  AccumulateRequest sums = sums_of(rows, num_codewords, dim, at, lane);
  DeviceCodes previous{nullptr, false};
  if (request.previous == nullptr) {
    size_t counts_bytes = num_codewords * sizeof(long long);
    check(cudaMemsetAsync(request.counts, 0, counts_bytes, lane.stream()), "accumulate");
    check(cudaMemsetAsync(request.sums, 0, counts_bytes * dim, lane.stream()), "accumulate");
  } else {
    previous = DeviceCodes{request.previous, rows.codes.wide}.from(rows.stage);
    sums.previous = &previous;
    count_moved({rows.count, sums.codes, previous, rows.code_stages, lane.device<unsigned>(at.moved)}, lane.stream());
  }
  for (size_t first = 0; first < rows.count; first += piece) {
    sums.count = std::min(piece, rows.count - first);
    accumulate(sums, request.counts, request.sums, lane.device<void>(at.workspace), lane.stream());
    sums.vectors += sums.count * dim;
    sums.codes = sums.codes.from(sums.count * rows.code_stages);
    if (request.previous != nullptr) previous = previous.from(sums.count * rows.code_stages);
  }
}

template <typename Places>
void measure(const Codebooks& codebooks, const CodedRows& rows, const Places& at, Lane& lane) {
  PassOnRequest passed{};
  passed.vectors = rows.vectors;
  passed.count = rows.count;
  passed.codes = rows.codes;
  passed.code_stages = rows.code_stages;
  passed.stage = rows.stage;
  passed.distances = rows.distances;
  passed.plain_distances = rows.plain_distances;
  passed.residuals = rows.residuals;
  passed.out_of_range = lane.device<unsigned>(at.flag);
  pass_on(codebooks, passed, lane.stream());

  ErrorsRequest errors{};
  errors.count = rows.count;
  errors.stage = rows.stage;
  errors.num_stages = rows.code_stages;
  errors.stages_of_row = rows.stages_of_row;
  errors.distances = rows.distances;
  errors.plain_distances = rows.plain_distances == nullptr ? rows.distances : rows.plain_distances;
  errors.partial = lane.device<StageErrors>(at.partial);
  errors.errors = lane.device<StageErrors>(at.errors);
  sum_errors(errors, lane.stream());
}

void move(Codebooks& codebooks, const ResidentLearnRequest& request, const LearnPlaces& at, Lane& lane) {
  AverageRequest averages{};
  averages.num_codewords = codebooks.num_codewords(request.rows.stage);
  averages.dim = codebooks.dim();
  averages.counts = lane.device<long long>(at.counts);
  averages.sums = lane.device<long long>(at.sums);
  averages.grid_exponents = lane.device<int32_t>(at.grids);
  averages.decay = request.decay;
  averages.epsilon = request.epsilon;
  averages.encodec = request.encodec;
  averages.cosine = codebooks.cosine();
  averages.unused = request.unused;
  averages.usage = request.usage;
  averages.averages = request.averages;
  averages.codewords = codebooks.codewords(request.rows.stage);
  averages.masses = lane.device<double>(at.masses);
  averages.usage_out = lane.device<double>(at.usage);
  averages.totals = lane.device<double>(at.totals);
  move_averages(averages, lane.stream());
}

void replace_by_means(Codebooks& codebooks, const ResidentMeansRequest& request, const MeansPlaces& at, Lane& lane) {
  MeansRequest means{};
  means.num_codewords = codebooks.num_codewords(request.rows.stage);
  means.dim = codebooks.dim();
  means.rows = request.rows.count;
  means.counts = request.counts;
  means.sums = request.sums;
  means.grid_exponents = lane.device<int32_t>(at.grids);
  means.shrinkage = request.shrinkage;
  means.cosine = codebooks.cosine();
  means.codewords = codebooks.codewords(request.rows.stage);
  means.counts_out = lane.device<double>(at.counts);
  means.columns = lane.device<long long>(at.columns);
  become_means(means, lane.stream());
}

}  // namespace

void ResidentMagnitudes::submit(size_t first, size_t rows, Lane& lane) {
  check(cudaMemsetAsync(lane.device<void>(0), 0, dim_ * sizeof(float), lane.stream()), "magnitudes");
  raise_to_magnitudes(vectors_ + first * dim_, rows, dim_, lane.device<float>(0), lane.stream());
  lane.download(0, dim_ * sizeof(float));
}

bool ResidentMagnitudes::finish(size_t, size_t, Lane& lane) {
  const float* found = lane.host<float>(0);
  for (size_t i = 0; i < dim_; i++) largest_[i] = std::max(largest_[i], found[i]);
  return true;
}

ResidentOutcome codeword_magnitudes(const Codebooks& codebooks, float* largest) {
  size_t dim = codebooks.dim();
  size_t bytes = codebooks.num_stages() * dim * sizeof(float);
  auto need = [&] { return PieceMemory{bytes, bytes}; };
  with_lane(codebooks.device(), need, [&](Lane& lane) {
    reserve(lane, need(), true);
    check(cudaMemsetAsync(lane.device<void>(0), 0, bytes, lane.stream()), "magnitudes");
    for (size_t s = 0; s < codebooks.num_stages(); s++) {
      raise_to_magnitudes(codebooks.codewords(s), codebooks.num_codewords(s), dim, lane.device<float>(0) + s * dim,
                          lane.stream());
    }
    lane.download(0, bytes);
    lane.wait(true);
    std::memcpy(largest, lane.host<void>(0), bytes);
  });
  return {};
}

ResidentOutcome learn_resident(Codebooks& codebooks, const ResidentLearnRequest& request) {
  ResidentOutcome outcome;
  const CodedRows& rows = request.rows;
  size_t num_codewords = codebooks.num_codewords(rows.stage);
  size_t dim = codebooks.dim();
  LearnPlaces at(rows, num_codewords, dim);
  auto need = [&] { return PieceMemory{at.out_end, at.end}; };
  with_lane(codebooks.device(), need, [&](Lane& lane) {
    reserve(lane, need(), true);
    bring_grids(rows, dim, at, lane);
    // The codewords before the step measure it.
    add_up(rows, num_codewords, dim, at, lane);
    measure(codebooks, rows, at, lane);
    move(codebooks, request, at, lane);
    lane.download(at.flag, at.out_end);
    lane.wait(true);
    outcome.code_out_of_range = *lane.host<unsigned>(at.flag) != 0;
    *request.errors = *lane.host<StageErrors>(at.errors);
    std::memcpy(request.masses, lane.host<double>(at.masses), num_codewords * sizeof(double));
    std::memcpy(request.usage_after, lane.host<double>(at.usage), num_codewords * sizeof(double));
  });
  return outcome;
}

ResidentOutcome means_resident(Codebooks& codebooks, const ResidentMeansRequest& request) {
  ResidentOutcome outcome;
  const CodedRows& rows = request.rows;
  size_t num_codewords = codebooks.num_codewords(rows.stage);
  size_t dim = codebooks.dim();
  size_t piece = std::max<size_t>(1, rows.count);
  auto places = [&] { return MeansPlaces(rows, piece, request.previous != nullptr, num_codewords, dim); };
  auto need = [&] { return PieceMemory{places().out_end, places().end}; };
  with_lane(codebooks.device(), need, [&](Lane& lane) {
    while (!reserve(lane, need(), piece == 1)) {
      piece = (piece + 1) / 2;
    }
    MeansPlaces at = places();
    bring_grids(rows, dim, at, lane);
    move_sums(request, piece, num_codewords, dim, at, lane);
    // The codewords that the rows were assigned to measure them.
    measure(codebooks, rows, at, lane);
    replace_by_means(codebooks, request, at, lane);
    lane.download(at.flag, at.out_end);
    lane.wait(true);
    outcome.code_out_of_range = *lane.host<unsigned>(at.flag) != 0;
    *request.error = lane.host<StageErrors>(at.errors)->plain;
    *request.moved = request.previous == nullptr ? rows.count : *lane.host<unsigned>(at.moved);
    std::memcpy(request.counts_after, lane.host<double>(at.counts), num_codewords * sizeof(double));
  });
  return outcome;
}

ResidentOutcome draw_resident(int device, const ResidentSeedingRequest& request) {
  ArrayLayout layout;
  size_t weight_bytes = request.weights == nullptr ? 0 : request.dim * sizeof(float);
  size_t row_bytes = (request.draws + 1) * sizeof(uint32_t);
  size_t weights = layout.add(weight_bytes);
  size_t fractions = layout.add(request.draws * sizeof(double));
  size_t rows = layout.add(row_bytes);
  size_t host_end = layout.size();
  size_t block_sums = layout.add(seeding_blocks(request.count) * sizeof(double));
  size_t running_sums = layout.add(seeding_blocks(request.count) * sizeof(double));
  auto need = [&] { return PieceMemory{host_end, layout.size()}; };
  with_lane(device, need, [&](Lane& lane) {
    reserve(lane, need(), true);
    if (weight_bytes > 0) std::memcpy(lane.host<void>(weights), request.weights, weight_bytes);
    std::copy_n(request.fractions, request.draws, lane.host<double>(fractions));
    *lane.host<uint32_t>(rows) = request.last;
    lane.upload(weights, rows + sizeof(uint32_t));
    SeedingRequest draws{};
    draws.vectors = request.vectors;
    draws.count = request.count;
    draws.dim = request.dim;
    draws.weights = weight_bytes > 0 ? lane.device<float>(weights) : nullptr;
    draws.distances = request.distances;
    draws.fresh = request.fresh;
    draws.fractions = lane.device<double>(fractions);
    draws.draws = request.draws;
    draws.rows = lane.device<uint32_t>(rows);
    draws.block_sums = lane.device<double>(block_sums);
    draws.running_sums = lane.device<double>(running_sums);
    draw_apart(draws, lane.stream());
    lane.download(rows, rows + row_bytes);
    lane.wait(true);
    std::copy_n(lane.host<uint32_t>(rows) + 1, request.draws, request.rows);
  });
  return {};
}

}  // namespace rvq::cuda

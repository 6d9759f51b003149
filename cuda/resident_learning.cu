// The operations of a step of learning on rows that stay on the device.

#include "resident_learning.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "accumulate.h"
#include "array_layout.h"
#include "learning.h"
#include "resident_call.h"

namespace rvq::cuda {

namespace {

CountedRows counted_rows(const ResidentLearnRequest& request) {
  return {request.count, request.stage, request.stages_of_row, request.distances_before};
}

struct LearnPlaces {
  size_t grids, flag, in_end;
  size_t errors, masses, usage, out_end;
  size_t counts, sums, sums_end, totals, partial, counted, workspace, end;

  LearnPlaces(const ResidentLearnRequest& request, size_t num_codewords, size_t dim) {
    ArrayLayout layout;
    grids = layout.add(dim * sizeof(int32_t));
    flag = layout.add(sizeof(unsigned));
    in_end = layout.size();
    errors = layout.add(sizeof(StageErrors));
    masses = layout.add(num_codewords * sizeof(double));
    usage = layout.add(num_codewords * sizeof(double));
    out_end = layout.size();
    // One codeword more, for rows that do not count.
    counts = layout.add((num_codewords + 1) * sizeof(long long));
    sums = layout.add((num_codewords + 1) * dim * sizeof(long long));
    sums_end = layout.size();
    totals = layout.add(2 * sizeof(double));
    partial = layout.add(error_blocks(request.count) * sizeof(StageErrors));
    counted = layout.add(counted_rows(request).all() ? 0 : request.count * sizeof(uint32_t));
    workspace = layout.add(accumulate_workspace_bytes(request.count, false, num_codewords + 1));
    end = layout.size();
  }
};

void add_up(const ResidentLearnRequest& request, size_t num_codewords, size_t dim, const LearnPlaces& at, Lane& lane) {
  CountedRows counted = counted_rows(request);
  size_t code_bytes = request.codes.wide ? sizeof(uint32_t) : sizeof(uint16_t);
  AccumulateRequest rows{};
  rows.vectors = request.vectors;
  rows.count = request.count;
  rows.dim = dim;
  rows.codes = {static_cast<char*>(request.codes.data) + request.stage * code_bytes, request.codes.wide};
  rows.code_stride = request.code_stages;
  if (!counted.all()) {
    auto* codes = lane.device<uint32_t>(at.counted);
    choose_counted(counted, request.codes, request.code_stages, num_codewords, codes, lane.stream());
    rows.codes = {codes, true};
    rows.code_stride = 1;
  }
  rows.num_codewords = num_codewords + 1;
  rows.grid_exponents = lane.device<int32_t>(at.grids);
  rows.out_of_range = lane.device<unsigned>(at.flag);
  check(cudaMemsetAsync(lane.device<void>(at.counts), 0, at.sums_end - at.counts, lane.stream()), "accumulate");
  accumulate(rows, lane.device<long long>(at.counts), lane.device<long long>(at.sums), lane.device<void>(at.workspace),
             lane.stream());
}

void measure(const Codebooks& codebooks, const ResidentLearnRequest& request, const LearnPlaces& at, Lane& lane) {
  PassOnRequest rows{};
  rows.vectors = request.vectors;
  rows.count = request.count;
  rows.codes = request.codes;
  rows.code_stages = request.code_stages;
  rows.stage = request.stage;
  rows.distances = request.distances;
  rows.plain_distances = request.plain_distances;
  rows.residuals = request.residuals;
  rows.out_of_range = lane.device<unsigned>(at.flag);
  pass_on(codebooks, rows, lane.stream());

  ErrorsRequest errors{};
  errors.count = request.count;
  errors.stage = request.stage;
  errors.num_stages = request.code_stages;
  errors.stages_of_row = request.stages_of_row;
  errors.distances = request.distances;
  errors.plain_distances = request.plain_distances == nullptr ? request.distances : request.plain_distances;
  errors.partial = lane.device<StageErrors>(at.partial);
  errors.errors = lane.device<StageErrors>(at.errors);
  sum_errors(errors, lane.stream());
}

void move(Codebooks& codebooks, const ResidentLearnRequest& request, const LearnPlaces& at, Lane& lane) {
  AverageRequest averages{};
  averages.num_codewords = codebooks.num_codewords(request.stage);
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
  averages.codewords = codebooks.codewords(request.stage);
  averages.masses = lane.device<double>(at.masses);
  averages.usage_out = lane.device<double>(at.usage);
  averages.totals = lane.device<double>(at.totals);
  move_averages(averages, lane.stream());
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
  size_t num_codewords = codebooks.num_codewords(request.stage);
  size_t dim = codebooks.dim();
  LearnPlaces at(request, num_codewords, dim);
  auto need = [&] { return PieceMemory{at.out_end, at.end}; };
  with_lane(codebooks.device(), need, [&](Lane& lane) {
    reserve(lane, need(), true);
    std::memcpy(lane.host<int32_t>(at.grids), request.grid_exponents, dim * sizeof(int32_t));
    *lane.host<unsigned>(at.flag) = 0;
    lane.upload(at.grids, at.in_end);
    // The codewords before the step measure it.
    add_up(request, num_codewords, dim, at, lane);
    measure(codebooks, request, at, lane);
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

}  // namespace rvq::cuda

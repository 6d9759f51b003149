// Operations on arrays that stay on the device.

#include "resident.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "accumulate.h"
#include "array_layout.h"
#include "decode.h"
#include "failure.h"
#include "gather.h"
#include "host_accumulate.h"
#include "resident_call.h"

namespace rvq::cuda {

namespace {

// Residuals between the stages, and unit rows, of rows that go through all stages together: enough rows that the last
// blocks of a launch, which leave the device half empty, are few among all. A lane keeps them, and 64 MiB of the rest.
constexpr size_t kScratchBytes = size_t{256} << 20;
static_assert(kScratchBytes < kLargeLaneBytes);

// Sums are brought home in pieces of so many bytes.
constexpr size_t kBroughtBytes = size_t{8} << 20;

// Times what is enqueued on a stream between start() and stop().
class Timer {
 public:
  explicit Timer(CUstream_st* stream) : stream_(stream) {
    check(cudaEventCreateWithFlags(&start_, cudaEventDefault), "cudaEventCreate");
    try {
      check(cudaEventCreateWithFlags(&stop_, cudaEventDefault), "cudaEventCreate");
    } catch (...) {
      ignore_failure(cudaEventDestroy(start_));
      throw;
    }
  }
  ~Timer() {
    ignore_failure(cudaEventDestroy(start_));
    ignore_failure(cudaEventDestroy(stop_));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void start() { check(cudaEventRecord(start_, stream_), "cudaEventRecord"); }
  void stop() { check(cudaEventRecord(stop_, stream_), "cudaEventRecord"); }
  // After the stream has been waited for.
  float ms() const {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start_, stop_), "cudaEventElapsedTime");
    return ms;
  }

 private:
  CUstream_st* stream_;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
};

// Between the stages, where the caller has no room for them.
bool needs_residuals(const ResidentEncodeRequest& request) {
  return request.residuals == nullptr && request.stages > 1;
}

struct EncodePlaces {
  size_t bad, residuals, workspace;
  PieceMemory memory;

  EncodePlaces(const Codebooks& codebooks, const ResidentEncodeRequest& request, size_t rows) {
    size_t pieces = (request.count + rows - 1) / rows;
    ArrayLayout layout;
    bad = layout.add(pieces * sizeof(unsigned long long));
    memory.host_bytes = layout.size();
    residuals = layout.add(needs_residuals(request) ? rows * codebooks.dim() * sizeof(float) : 0);
    workspace = layout.add(encode_workspace_bytes(codebooks, rows));
    memory.device_bytes = layout.size();
  }
};

// Pieces of about the same size.
size_t even_rows(size_t count, size_t most) {
  constexpr size_t kMultiple = 256;
  size_t pieces = (count + most - 1) / most;
  size_t rows = (count + pieces - 1) / pieces;
  return (rows + kMultiple - 1) / kMultiple * kMultiple;
}

// Of one piece of a call: as many as the scratch memory has room for.
size_t rows_at_once(const Codebooks& codebooks, const ResidentEncodeRequest& request) {
  size_t arrays = (needs_residuals(request) ? 1 : 0) + (codebooks.cosine() ? 1 : 0);
  size_t row_bytes = arrays * codebooks.dim() * sizeof(float);
  return even_rows(request.count, row_bytes == 0 ? request.count : std::max<size_t>(1, kScratchBytes / row_bytes));
}

}  // namespace

size_t HostCopy::length(size_t first, size_t rows) const { return std::min(rows * kBlock, bytes_ - first * kBlock); }

void HostCopy::submit(size_t first, size_t rows, Lane& lane) {
  size_t at = first * kBlock;
  size_t bytes = length(first, rows);
  char* pinned = pinned_ ? host_ + at : lane.host<char>(0);
  bool to_device = direction_ == Direction::kToDevice;
  if (to_device && !pinned_) copy(pinned, host_ + at, bytes);
  check(to_device ? cudaMemcpyAsync(device_ + at, pinned, bytes, cudaMemcpyHostToDevice, lane.stream())
                  : cudaMemcpyAsync(pinned, device_ + at, bytes, cudaMemcpyDeviceToHost, lane.stream()),
        "copy");
}

bool HostCopy::finish(size_t first, size_t rows, Lane& lane) {
  if (direction_ == Direction::kFromDevice && !pinned_) {
    copy(host_ + first * kBlock, lane.host<char>(0), length(first, rows));
  }
  return true;
}

struct ResidentGather::Places {
  size_t numbers, in_end, gathered, end;

  Places(size_t rows, size_t dim) {
    ArrayLayout layout;
    numbers = layout.add(rows * sizeof(uint32_t));
    in_end = layout.size();
    gathered = layout.add(rows * dim * sizeof(float));
    end = layout.size();
  }
};

PieceMemory ResidentGather::memory(size_t rows) const {
  Places at(rows, dim_);
  return {at.end, at.end};
}

void ResidentGather::submit(size_t first, size_t rows, Lane& lane) {
  Places at(rows, dim_);
  auto* numbers = lane.host<uint32_t>(at.numbers);
  copy(numbers, rows_ + first, rows * sizeof(uint32_t));
  // Nobody changes the copy.
  if (std::any_of(numbers, numbers + rows, [this](uint32_t row) { return row >= vectors_count_; })) {
    out_of_range_ = true;
    return;
  }
  lane.upload(at.numbers, at.in_end);
  gather_rows(vectors_, lane.device<uint32_t>(at.numbers), rows, dim_, lane.device<float>(at.gathered), lane.stream());
  lane.download(at.gathered, at.end);
}

bool ResidentGather::finish(size_t first, size_t rows, Lane& lane) {
  if (out_of_range_) return false;
  Places at(rows, dim_);
  copy(gathered_ + first * dim_, lane.host<char>(at.gathered), rows * dim_ * sizeof(float));
  return true;
}

ResidentOutcome encode_resident(Codebooks& codebooks, const ResidentEncodeRequest& request) {
  ResidentOutcome outcome;
  if (request.count == 0) return outcome;
  size_t dim = codebooks.dim();
  size_t rows = rows_at_once(codebooks, request);
  auto need = [&] { return EncodePlaces(codebooks, request, rows).memory; };
  with_lane(codebooks.device(), need, [&](Lane& lane) {
    while (!reserve(lane, need(), rows == 1)) {
      rows = (rows + 1) / 2;
    }
    EncodePlaces at(codebooks, request, rows);
    size_t pieces = (request.count + rows - 1) / rows;
    std::fill_n(lane.host<unsigned long long>(at.bad), pieces, kNothingBad);
    lane.upload(at.bad, at.bad + pieces * sizeof(unsigned long long));
    if (request.pack) codebooks.pack(lane.stream());
    Timer timer(lane.stream());
    timer.start();
    for (size_t piece = 0; piece < pieces; piece++) {
      size_t first = piece * rows;
      EncodeRequest search{};
      search.vectors = request.vectors + first * dim;
      search.count = std::min(rows, request.count - first);
      search.stages = request.stages;
      search.codes = request.codes.from(first * request.stages);
      if (request.residuals != nullptr) search.residuals = request.residuals + first * dim;
      if (needs_residuals(request)) search.residuals = lane.device<float>(at.residuals);
      search.keep_residuals = request.residuals != nullptr;
      search.bad = lane.device<unsigned long long>(at.bad) + piece;
      encode(codebooks, search, lane.device<void>(at.workspace), lane.stream());
    }
    timer.stop();
    lane.download(at.bad, at.bad + pieces * sizeof(unsigned long long));
    lane.wait(request.count > kTinyRows);
    outcome.kernel_ms = timer.ms();
    for (size_t piece = 0; piece < pieces && !outcome.bad; piece++) {
      outcome.bad = bad_input_of(lane.host<unsigned long long>(at.bad)[piece], dim, piece * rows);
    }
  });
  return outcome;
}

ResidentOutcome decode_resident(const Codebooks& codebooks, const ResidentDecodeRequest& request) {
  ResidentOutcome outcome;
  if (request.count == 0) return outcome;
  auto need = [] { return PieceMemory{sizeof(unsigned), sizeof(unsigned)}; };
  with_lane(codebooks.device(), need, [&](Lane& lane) {
    reserve(lane, need(), true);
    *lane.host<unsigned>(0) = 0;
    lane.upload(0, sizeof(unsigned));
    Timer timer(lane.stream());
    timer.start();
    decode(
        codebooks,
        {request.codes, request.count, request.code_stages, request.stages, request.vectors, lane.device<unsigned>(0)},
        lane.stream());
    timer.stop();
    lane.download(0, sizeof(unsigned));
    lane.wait(true);
    outcome.kernel_ms = timer.ms();
    outcome.code_out_of_range = *lane.host<unsigned>(0) != 0;
  });
  return outcome;
}

ResidentOutcome accumulate_resident(int device, const ResidentAccumulateRequest& request) {
  ResidentOutcome outcome;
  if (request.count == 0) return outcome;
  size_t sums_length = request.num_codewords * request.dim;
  ArrayLayout layout;
  size_t grids = layout.add(request.dim * sizeof(int32_t));
  size_t flag = layout.add(sizeof(unsigned));
  size_t host_end = layout.size();
  size_t counts = layout.add(request.num_codewords * sizeof(long long));
  size_t sums = layout.add(sums_length * sizeof(long long));
  size_t out_end = layout.size();
  size_t workspace = layout.add(accumulate_workspace_bytes(request.count, false, request.num_codewords));
  auto need = [&] { return PieceMemory{std::max(host_end, std::min(out_end, kBroughtBytes)), layout.size()}; };
  with_lane(device, need, [&](Lane& lane) {
    reserve(lane, need(), true);
    std::memcpy(lane.host<int32_t>(grids), request.grid_exponents, request.dim * sizeof(int32_t));
    *lane.host<unsigned>(flag) = 0;
    lane.upload(grids, host_end);
    check(cudaMemsetAsync(lane.device<void>(counts), 0, out_end - counts, lane.stream()), "accumulate");

    AccumulateRequest rows{};
    rows.vectors = request.vectors;
    rows.count = request.count;
    rows.dim = request.dim;
    rows.codes = request.codes.from(request.stage);
    rows.code_stride = request.code_stages;
    rows.num_codewords = request.num_codewords;
    rows.grid_exponents = lane.device<int32_t>(grids);
    rows.out_of_range = lane.device<unsigned>(flag);
    Timer timer(lane.stream());
    timer.start();
    accumulate(rows, lane.device<long long>(counts), lane.device<long long>(sums), lane.device<void>(workspace),
               lane.stream());
    timer.stop();
    lane.download(flag, host_end);
    lane.wait(true);
    outcome.kernel_ms = timer.ms();
    outcome.code_out_of_range = *lane.host<unsigned>(flag) != 0;
    if (outcome.code_out_of_range) return;
    add_from_device(lane.device<long long>(counts), request.num_codewords, request.counts, lane);
    add_from_device(lane.device<long long>(sums), sums_length, request.sums, lane);
  });
  return outcome;
}

}  // namespace rvq::cuda

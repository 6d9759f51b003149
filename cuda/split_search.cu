// Residual encoding of few rows: when it is by the split search, and its launches (split_block.cuh has the search).

#include "split_search.h"

#include <algorithm>

#include "array_layout.h"
#include "device_state.h"
#include "failure.h"
#include "launch.cuh"
#include "split_block.cuh"

namespace rvq::cuda {

namespace {

// Rows of a block where there are more than a few of them.
constexpr int kSharedRows = 4;
constexpr size_t kFewestShared = 8;
constexpr int kMostSlice = 256;
// More would take longer to settle than to search.
constexpr size_t kMostSlices = 512;
// Blocks that hide the latency of what they read.
constexpr size_t kBlocksPerMultiprocessor = 8;
constexpr int kMostDim = 8192;
constexpr int kMostSharedDim = 2048;
// What a block may have without asking, less what is static.
constexpr size_t kMostSharedBytes = (48 << 10) - 1024;
static_assert(shared_bytes_of(1, kMostDim, kMostSlice) <= kMostSharedBytes);
static_assert(shared_bytes_of(kSharedRows, kMostSharedDim, kMostSlice) <= kMostSharedBytes);

// When to split; estimates until a GPU has measured them (`npm run bench -- cuda --only=calls`, latency by both forms).
//
// The tensor cores' form has all stages in one launch, but 128 rows and fewer (64 with wgmma) are one block, and one
// multiprocessor reads and multiplies all codewords: on an H200 about 0.25 cycles for K·D = 1, and 2 µs a stage to
// prepare and settle the rows (D 128, K 1024, 8 stages: 0.22 ms measured from end to end, some 0.06 of which is the
// host's); 0.6 cycles on an RTX 3090. A launch here takes 4 µs with settling, and N·K·D·4 bytes of the second-level
// cache at some 3000 bytes a cycle (1300), a quarter of that where rows are shared: 64 rows of D 128, K 1024 are 4 + 2
// µs beside 2 + 18. So the split pays up to more than 64 rows wherever K·D of a stage takes the tensor cores longer
// than 2 µs, the difference of the two overheads; that is 2^14 on an H200, and this is on the safe side of it.
constexpr size_t kMostRows = 64;
constexpr size_t kLeastStageWork = 1 << 15;  // K·D
// Where tests and benchmarks ask for this form.
constexpr size_t kMostForcedRows = 256;

// Dynamic shared memory for 256 dimensions. What is spilled is around the calls of float64's division.
// launch <1>: blocks 7, shared 4 * 256 + 1024
// launch <4> on 120: blocks 7, shared 16 * 256 + 4096, stack 8, spills 8
// launch <4>: blocks 7, shared 16 * 256 + 4096
template <int kRows>
__global__ void __launch_bounds__(kSplitThreads) search_slices(const __grid_constant__ SplitArguments job) {
  float* rows = reinterpret_cast<float*>(dynamic_shared_memory());
  // Asked for early: it is here when the rows are.
  const float* codewords = job.view->searched;
  SplitBlock<kRows> block{job, rows};
  block.settle();
  if (job.cosine) block.to_units();
  block.search(codewords, rows + kRows * block.stride);
}

// After the last stage: a block a row.
// launch: shared 4 * 256
__global__ void __launch_bounds__(kSplitThreads) settle_last(const __grid_constant__ SplitArguments job) {
  SplitBlock<1> block{job, reinterpret_cast<float*>(dynamic_shared_memory())};
  block.settle();
}

int rows_of_a_block(const Codebooks& codebooks, size_t count) {
  return count >= kFewestShared && codebooks.dim() <= size_t{kMostSharedDim} ? kSharedRows : 1;
}

// Codewords of a block, such that there are as many blocks as are wanted in all.
int slice_of(size_t num_codewords, size_t groups, size_t wanted_blocks) {
  size_t slices = std::clamp<size_t>(wanted_blocks / groups, 1, kMostSlices);
  size_t slice = (num_codewords + slices - 1) / slices;
  return static_cast<int>(std::min<size_t>((slice + kSplitTeams - 1) / kSplitTeams * kSplitTeams, kMostSlice));
}

size_t slices_of(size_t num_codewords, int slice) { return (num_codewords + slice - 1) / slice; }

size_t most_rows() {
  switch (test_limits().search_form) {
    case SearchForm::kSplit:
      return kMostForcedRows;
    case SearchForm::kWhole:
      return 0;
    default:
      return kMostRows;
  }
}

size_t most_codewords(const Codebooks& codebooks) {
  size_t most = 0;
  for (size_t s = 0; s < codebooks.num_stages(); s++) most = std::max(most, codebooks.num_codewords(s));
  return most;
}

bool can_split(const Codebooks& codebooks, size_t count) {
  return count <= most_rows() && codebooks.dim() <= size_t{kMostDim} &&
         most_codewords(codebooks) <= kMostSlice * kMostSlices;
}

// What blocks of one stage leave to those of the next, twice: one is read while the other is written.
struct Workspace {
  size_t residuals[2], found[2], size;

  Workspace(const Codebooks& codebooks, size_t count) {
    ArrayLayout layout;
    size_t slices = std::min<size_t>((most_codewords(codebooks) + kSplitTeams - 1) / kSplitTeams, kMostSlices);
    for (int i = 0; i < 2; i++) {
      residuals[i] = layout.add(count * codebooks.dim() * sizeof(float));
      found[i] = layout.add(count * slices * sizeof(Nearest));
    }
    size = layout.size();
  }
};

}  // namespace

bool is_split(const Codebooks& codebooks, size_t count, size_t stages) {
  if (!can_split(codebooks, count)) return false;
  if (test_limits().search_form == SearchForm::kSplit) return true;
  size_t work = 0;
  for (size_t s = 0; s < stages; s++) work += codebooks.num_codewords(s) * codebooks.dim();
  return work >= kLeastStageWork * stages;
}

size_t split_workspace_bytes(const Codebooks& codebooks, size_t count) {
  size_t rows = std::min(count, most_rows());
  return can_split(codebooks, rows) ? Workspace(codebooks, rows).size : 0;
}

void encode_split(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, cudaStream_t stream) {
  Workspace at(codebooks, request.count);
  auto place = [&](size_t offset) { return static_cast<unsigned char*>(workspace) + offset; };
  int rows = rows_of_a_block(codebooks, request.count);
  size_t groups = (request.count + rows - 1) / rows;

  int multiprocessors = 0;
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, codebooks.device()),
        "device attribute");

  SplitArguments job{};
  job.code_stride = static_cast<int>(request.stages);
  job.wide = request.codes.wide;
  job.from = request.vectors;
  job.bad = request.bad;
  job.weights = codebooks.weights();
  job.cosine = codebooks.cosine();
  job.count = request.count;
  job.dim = static_cast<int>(codebooks.dim());
  for (size_t s = 0; s < request.stages; s++) {
    job.to = s == 0 ? nullptr : reinterpret_cast<float*>(place(at.residuals[s % 2]));
    job.view = codebooks.views() + s;
    job.found = reinterpret_cast<Nearest*>(place(at.found[s % 2]));
    job.num_codewords = static_cast<int>(codebooks.num_codewords(s));
    job.slice = slice_of(codebooks.num_codewords(s), groups, kBlocksPerMultiprocessor * multiprocessors);
    size_t slices = slices_of(codebooks.num_codewords(s), job.slice);
    Launch shape{dim3(static_cast<unsigned>(groups), static_cast<unsigned>(slices)), dim3(kSplitThreads),
                 shared_bytes_of(rows, job.dim, job.slice), stream};
    launch("split search", shape, rows == 1 ? search_slices<1> : search_slices<kSharedRows>, job);

    // What the next launch settles.
    job.before = job.view;
    job.before_found = job.found;
    job.before_slices = static_cast<int>(slices);
    job.codes = request.codes.from(s).data;
    if (s > 0) job.from = job.to;
    job.bad = nullptr;
  }
  job.to = request.keep_residuals ? request.residuals : nullptr;
  launch("split search",
         {dim3(static_cast<unsigned>(request.count)), dim3(kSplitThreads), shared_bytes_of(1, job.dim, 0), stream},
         settle_last, job);
}

}  // namespace rvq::cuda

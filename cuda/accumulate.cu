// Counts and sums of the vectors of every codeword: a counting sort of the rows by code, then sums along the sorted
// rows.
//
// Shapes: vectors [count][dim], codes [count], sums [num_codewords][dim]. A row is an entry of its codeword; one that
// moves is also an entry, with the other sign, of the codeword that it leaves. 1. Entries of each codeword are counted.
// 2. Every codeword gets a piece of the sorted list, in no particular order. 3. Entries go to their places. 4. Threads
// along a row's elements walk over 64 sorted entries, add in registers while the code stays the same, and then once to
// memory. Integer sums are the same in any order, so nothing here needs one; no thread waits for another. Rows of a
// warp with the same code are counted and placed by one addition: many rows may share a code. No shared memory. Bound
// by reading each vector once, a row of 4 · dim bytes at a time, from anywhere.

#include <algorithm>

#include "accumulate.h"
#include "array_layout.h"
#include "canonical.cuh"
#include "device_memory.h"
#include "grid.cuh"
#include "launch.cuh"
#include "stage_table.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
// One addition to memory for so many to registers.
constexpr int kWalk = 64;
// Rows in flight a thread: enough to hide the latency of memory at half the threads an SM can hold.
constexpr int kAhead = 8;

constexpr uint32_t kLeaves = 1u << 31;

struct Workspace {
  uint32_t* entries;  // [num_codewords] of each codeword
  int32_t* net;       // [num_codewords] rows that came less rows that went; only with `previous`
  uint32_t* total;    // [1] entries placed so far
  uint32_t* places;   // [num_codewords] where the next entry of the codeword goes
  uint32_t* slots;    // [num_codewords] its number among the used ones
  uint32_t* sorted;   // [entries] row | kLeaves
};

struct WorkspaceLayout {
  size_t entries, net, total, cleared, places, slots, sorted, bytes;

  WorkspaceLayout(size_t count, bool moving, size_t num_codewords) {
    ArrayLayout layout;
    entries = layout.add(num_codewords * sizeof(uint32_t));
    net = layout.add(num_codewords * sizeof(int32_t));
    total = layout.add(sizeof(uint32_t));
    cleared = layout.size();
    places = layout.add(num_codewords * sizeof(uint32_t));
    slots = layout.add(num_codewords * sizeof(uint32_t));
    sorted = layout.add((moving ? 2 * count : count) * sizeof(uint32_t));
    bytes = layout.size();
  }

  Workspace at(void* base) const {
    auto place = [base](size_t offset) { return static_cast<char*>(base) + offset; };
    return {reinterpret_cast<uint32_t*>(place(entries)), reinterpret_cast<int32_t*>(place(net)),
            reinterpret_cast<uint32_t*>(place(total)),   reinterpret_cast<uint32_t*>(place(places)),
            reinterpret_cast<uint32_t*>(place(slots)),   reinterpret_cast<uint32_t*>(place(sorted))};
  }
};

struct Rows {
  const float* vectors;
  uint32_t count;
  uint32_t dim;
  DeviceCodes codes;
  DeviceCodes previous;  // data null: none
  size_t code_stride;
  uint32_t num_codewords;
  bool leaves_out;
  const int32_t* grid_exponents;
  unsigned* out_of_range;

  __device__ uint32_t code_of(const DeviceCodes& of, uint32_t row) const { return load_code(of, row * code_stride); }

  // False where there is nothing to do for the row.
  __device__ bool moves(uint32_t row, uint32_t* code, uint32_t* left) const {
    if (row >= count) return false;
    *code = code_of(codes, row);
    if (leaves_out && *code == num_codewords) return false;
    bool moving = previous.data != nullptr;
    *left = moving ? code_of(previous, row) : 0;
    if (*code >= num_codewords || *left >= num_codewords) {
      *out_of_range = 1;
      return false;
    }
    return !(moving && *code == *left);
  }
};

// The threads of a warp that count for the same codeword. All 32 come here.
struct Peers {
  unsigned lanes;
  int first;  // the lane that adds for them
  bool count;

  __device__ Peers(bool counts, uint32_t code) : count(counts) {
    lanes = __match_any_sync(kAll, counts ? code : UINT32_MAX);
    first = __ffs(static_cast<int>(lanes)) - 1;
  }
  __device__ bool add() const { return count && lane() == first; }
  __device__ uint32_t number() const { return static_cast<uint32_t>(__popc(lanes)); }
  // values[code]++ by all of them: what each has seen there. All 32 come here.
  __device__ uint32_t take(uint32_t* values, uint32_t code) const {
    uint32_t before = add() ? atomicAdd(&values[code], number()) : 0;
    return __shfl_sync(kAll, before, first) + static_cast<uint32_t>(__popc(lanes & ((1u << lane()) - 1)));
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
};

__global__ void __launch_bounds__(kThreads) count_entries(const __grid_constant__ Rows rows, Workspace work) {
  uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  uint32_t code = 0;
  uint32_t left = 0;
  bool moves = rows.moves(row, &code, &left);
  Peers came(moves, code);
  if (came.add()) atomicAdd(&work.entries[code], came.number());
  if (rows.previous.data == nullptr) return;
  if (came.add()) atomicAdd(&work.net[code], static_cast<int>(came.number()));
  Peers went(moves, left);
  if (!went.add()) return;
  atomicAdd(&work.entries[left], went.number());
  atomicAdd(&work.net[left], -static_cast<int>(went.number()));
}

// Pieces of the sorted list, a warp's together; and the counts, or with `few` the list of codewords used.
__global__ void __launch_bounds__(kThreads)
    give_places(uint32_t num_codewords, bool moving, Workspace work, long long* counts, FewStatistics few) {
  uint32_t k = blockIdx.x * kThreads + threadIdx.x;
  int lane = static_cast<int>(threadIdx.x % 32);
  uint32_t own = k < num_codewords ? work.entries[k] : 0;
  uint32_t through = own;  // entries of this warp's codewords up to this one
  for (int step = 1; step < 32; step *= 2) {
    uint32_t before = __shfl_up_sync(kAll, through, step);
    if (lane >= step) through += before;
  }
  uint32_t first = 0;
  if (lane == 31 && through > 0) first = atomicAdd(work.total, through);
  first = __shfl_sync(kAll, first, 31);
  if (k < num_codewords) work.places[k] = first + through - own;

  int32_t net = static_cast<int32_t>(own);
  if (moving && k < num_codewords) net = work.net[k];
  if (few.used == nullptr) {
    // Other streams may add to the same counts.
    if (own > 0) atomicAdd(reinterpret_cast<unsigned long long*>(&counts[k]), static_cast<long long>(net));
    return;
  }
  unsigned used = __ballot_sync(kAll, own > 0);
  uint32_t slot = 0;
  if (lane == 0 && used != 0) slot = atomicAdd(few.used, static_cast<uint32_t>(__popc(used)));
  slot = __shfl_sync(kAll, slot, 0) + static_cast<uint32_t>(__popc(used & ((1u << lane) - 1)));
  if (own == 0) return;
  work.slots[k] = slot;
  few.codes[slot] = k;
  few.counts[slot] = net;
}

__global__ void __launch_bounds__(kThreads) sort_entries(const __grid_constant__ Rows rows, Workspace work) {
  uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  uint32_t code = 0;
  uint32_t left = 0;
  bool moves = rows.moves(row, &code, &left);
  uint32_t place = Peers(moves, code).take(work.places, code);
  if (moves) work.sorted[place] = row;
  if (rows.previous.data == nullptr) return;
  place = Peers(moves, left).take(work.places, left);
  if (moves) work.sorted[place] = row | kLeaves;
}

// sums[code or, with `slots`, its slot][dim]; a block is threads along a row times walks.
__global__ void __launch_bounds__(kThreads)
    add_entries(const __grid_constant__ Rows rows, Workspace work, bool by_slot, long long* sums) {
  uint32_t total = *work.total;
  uint32_t begin = (blockIdx.x * blockDim.y + threadIdx.y) * kWalk;
  if (begin >= total) return;
  uint32_t end = begin + min(total - begin, static_cast<uint32_t>(kWalk));
  for (uint32_t i = threadIdx.x; i < rows.dim; i += blockDim.x) {
    int exponent = rows.grid_exponents[i];
    uint32_t target = 0xffffffffu;
    long long sum = 0;
    for (uint32_t at = begin; at < end; at += kAhead) {
      float values[kAhead];
      uint32_t targets[kAhead];
      bool leaves[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; j++) {
        // The last entry again, where there are no more.
        uint32_t entry = work.sorted[min(at + j, end - 1)];
        uint32_t row = entry & ~kLeaves;
        leaves[j] = (entry & kLeaves) != 0;
        uint32_t code = rows.code_of(leaves[j] ? rows.previous : rows.codes, row);
        targets[j] = by_slot ? work.slots[code] : code;
        values[j] = rows.vectors[static_cast<size_t>(row) * rows.dim + i];
      }
#pragma unroll
      for (int j = 0; j < kAhead; j++) {
        if (at + j >= end) break;
        if (targets[j] != target) {
          if (sum != 0) {
            atomicAdd(reinterpret_cast<unsigned long long*>(&sums[static_cast<size_t>(target) * rows.dim + i]),
                      static_cast<unsigned long long>(sum));
          }
          target = targets[j];
          sum = 0;
        }
        long long term = on_grid(values[j], exponent);
        sum += leaves[j] ? -term : term;
      }
    }
    if (sum != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&sums[static_cast<size_t>(target) * rows.dim + i]),
                static_cast<unsigned long long>(sum));
    }
  }
}

void run(const AccumulateRequest& request, long long* counts, long long* sums, const FewStatistics& few,
         void* workspace, CUstream_st* stream) {
  if (request.count == 0) return;
  bool moving = request.previous != nullptr;
  WorkspaceLayout layout(request.count, moving, request.num_codewords);
  Workspace work = layout.at(workspace);
  Rows rows{request.vectors,
            static_cast<uint32_t>(request.count),
            static_cast<uint32_t>(request.dim),
            request.codes,
            moving ? *request.previous : DeviceCodes{nullptr, false},
            request.code_stride,
            static_cast<uint32_t>(request.num_codewords),
            request.leaves_out,
            request.grid_exponents,
            request.out_of_range};
  check(cudaMemsetAsync(workspace, 0, layout.cleared, stream), "accumulate");

  Launch over_rows{blocks_for(request.count, kThreads), dim3(kThreads), 0, stream};
  Launch over_codewords{blocks_for(request.num_codewords, kThreads), dim3(kThreads), 0, stream};
  launch("accumulate", over_rows, count_entries, rows, work);
  launch("accumulate", over_codewords, give_places, rows.num_codewords, moving, work, counts, few);
  launch("accumulate", over_rows, sort_entries, rows, work);

  unsigned along = threads_along(request.dim);
  dim3 block(along, kThreads / along);
  size_t entries = moving ? 2 * request.count : request.count;
  Launch over_entries{blocks_for(entries, static_cast<size_t>(block.y) * kWalk), block, 0, stream};
  launch("accumulate", over_entries, add_entries, rows, work, few.used != nullptr, sums);
}

}  // namespace

size_t accumulate_workspace_bytes(size_t count, bool moving, size_t num_codewords) {
  return WorkspaceLayout(count, moving, num_codewords).bytes;
}

void accumulate(const AccumulateRequest& request, long long* counts, long long* sums, void* workspace,
                CUstream_st* stream) {
  run(request, counts, sums, FewStatistics{}, workspace, stream);
}

void accumulate_few(const AccumulateRequest& request, const FewStatistics& out, void* workspace, CUstream_st* stream) {
  check(cudaMemsetAsync(out.used, 0, sizeof *out.used, stream), "accumulate");
  check(cudaMemsetAsync(out.sums, 0, out.sums_length * sizeof *out.sums, stream), "accumulate");
  run(request, nullptr, out.sums, out, workspace, stream);
}

}  // namespace rvq::cuda

// Residual encoding: a warp takes 16 rows through all stages. In each it turns its rows into float16 operands
// (row_operands.cuh), multiplies them with the stage's codewords, which the block streams through shared memory, keeps
// of the upper ends of the score (screen_bound.h) what proves which codewords can be nearest, in sets (ranking.cuh) or
// by pieces (piece_ranking.cuh), and settles the codes (settle.cuh).
//
// The rows' operands stay in registers for the time of a stage (kSteps · 16 dimensions), or, with kSteps = 0, with
// wgmma in part in shared memory, with mma.sync in a part of global memory that stays in the second-level cache. The
// residuals themselves are read and written once a stage.

#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "encode_parameters.h"
#include "launch.cuh"
#include "limb_operands.cuh"
#include "opaque.cuh"
#include "piece_products.cuh"
#include "piece_ranking.cuh"
#include "ranking.cuh"
#include "row_operands.cuh"
#include "settle.cuh"
#include "stage.cuh"
#include "unit_products.cuh"
#include "wgmma.cuh"
#include "wide_products.cuh"

namespace rvq::cuda {

// Which multiplication: mma.sync, on every device; wgmma, on sm_90a, where rows' operands fit on a multiprocessor;
// mma.sync of two int8 limbs, where they fit in registers on devices on which float32 sums of products are slow
// (screen_form.h).
enum class Engine { kWarp, kWarpgroup, kLimbs };

constexpr int kWarpRows = 16;
// Warps of a block of mma.sync.
constexpr int kWarps = 8;
// Of a warpgroup.
constexpr int kGroupWarps = 4;

// A block of wgmma has a multiprocessor to itself: as many warpgroups as registers allow, so that some multiply while
// others prepare and settle, and all share the stream of codewords.
__host__ __device__ constexpr int most_warpgroups(int steps) { return steps == 0 ? 2 : steps <= 4 ? 4 : 3; }

// Threads of the largest block, and blocks a multiprocessor that the registers are held to. With mma.sync the warps of
// a block are in the same phase of their rows; another block multiplies while this one waits for memory.
__host__ __device__ constexpr int most_threads(Engine engine, int steps) {
  return 32 * (engine == Engine::kWarpgroup ? most_warpgroups(steps) * kGroupWarps : kWarps);
}
__host__ __device__ constexpr int least_blocks(Engine engine, int steps) {
  return engine != Engine::kWarpgroup && steps <= 8 ? 2 : 1;
}

// With wgmma, rows' operands that are in shared memory: of a step and a warpgroup, and of all steps.
static_assert(kRowStepBytes == kGroupWarps * kWarpRows * 32 && kWideRegisterSteps % 2 == 0);
__host__ __device__ constexpr int wide_operand_bytes(int steps) { return (steps - kWideRegisterSteps) * kRowStepBytes; }

template <Engine kEngine, int kSteps, Layout kLayout>
class EncodeWarp {
  static constexpr bool kResident = kSteps > 0;
  static constexpr bool kWarpgroup = kEngine == Engine::kWarpgroup;
  static constexpr bool kWide = kWarpgroup && !kResident;
  static constexpr bool kLimbs = kEngine == Engine::kLimbs;
  // Of a tile whose rows' operands are not all in registers only that of a chunk counts.
  static constexpr TileShape kTile = kWide        ? wide_tile(0)
                                     : kWarpgroup ? warpgroup_tile(kSteps)
                                                  : unit_tile(kSteps, kLimbs);
  // Whether what is kept is by pieces.
  static constexpr bool kPieces = kWarpgroup && kResident;
  // Loads of codewords that are compared with an open row.
  static constexpr int kLoads = kWide ? 16 : kPieces ? 8 : 4;
  // Steps of a row that are read at once: as many as there are registers for.
  static constexpr int kTogether = !kWarpgroup || kLayout == Layout::kAny ? 2 - kSteps % 2
                                   : kWide || kSteps > 8                  ? 4
                                                                          : kSteps;

 public:
  static constexpr int kUnitBytes = kResident ? kTile.bytes() : kTile.chunk_bytes();
  // Shared memory has little room for what is open beside two blocks' tiles of mma.sync, or beside rows' operands.
  static constexpr bool kRoomForAll = kWarpgroup == kResident;
  // Of many dimensions more codewords are within the bound, and to look through a place takes long; ranking does not.
  static constexpr bool kThree = kWide;
  // They lie where rows' operands are while there are products.
  static constexpr int kWideCandidates = 15;
  static_assert(kGroupWarps * kWarpRows * kWideCandidates * 4 <= 2 * kRowStepBytes && kWideCandidates < kPlaces);
  using Group = SettlingGroup<kWarpgroup ? kGroupWarps : 1,
                              kRoomForAll ? kPlaces
                              : kWide     ? kWideCandidates
                                          : 6,
                              kThree>;
  using RowRanking = std::conditional_t<kPieces, PieceRanking, Ranking>;
  using RowKept = std::conditional_t<kPieces, KeptPieces, Kept<kThree>>;

  // `open` is the group's, codes[kWarpRows] the warp's own, both in shared memory; `views` those of the parameters, or
  // a copy that is nearer.
  __device__ EncodeWarp(const EncodeParameters& parameters, const StageView* views, typename Group::Open& open,
                        uint32_t* codes)
      : parameters_(parameters),
        views_(views),
        open_(open),
        codes_(codes),
        steps_(kResident ? kSteps : steps_of(parameters.dim)) {
    if constexpr (kWide) {
      shared_operands_ = dynamic_shared_memory() + Group::index() * wide_operand_bytes(steps_);
      if (threadIdx.x % (32 * kGroupWarps) == 0) {
        open.codewords = reinterpret_cast<typename Group::Open::Codewords*>(shared_operands_);
      }
    } else if constexpr (!kResident) {
      size_t warp = static_cast<size_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
      fragments_ = static_cast<uint4*>(parameters.fragments) + warp * steps_ * 32 + threadIdx.x % 32;
    }
  }

  // Encodes the block's rows from `first_row` on. `stream` gives the pieces of packed codewords.
  template <typename Stream>
  __device__ __forceinline__ void run(uint32_t first_row, Stream& stream) {
    first_row_ = first_row + threadIdx.x / 32 * kWarpRows;
#pragma unroll 1
    for (int s = 0; s < parameters_.stages; s++) {
      const StageView& view = views_[s];
      ranking_ = RowRanking(view.tag_bits);
      prepare(view, s);
      kept_[0] = kept_[1] = {};
      rank(view, stream);
      settle(view, s);
      write_codes(s);
    }
    if (parameters_.keep_residuals) finish();
  }

 private:
  __device__ static int steps_of(int dim) { return kWide ? wide_steps(dim) : streamed_tile((dim + 15) / 16).steps; }

  // The thread's row of half 0 or 1 of the warp's rows.
  __device__ uint32_t row_of(int half) const { return first_row_ + half * 8 + fragment_row(); }
  __device__ uint32_t count() const { return static_cast<uint32_t>(parameters_.count); }
  __device__ bool exists(int half) const { return row_of(half) < count(); }

  // What the group shares of it.
  __device__ __forceinline__ auto& shared_row(int half) const {
    return open_.rows[Group::warp() * kWarpRows + half * 8 + fragment_row()];
  }

  // The compiler need not ask where all steps are full.
  __device__ int dim() const { return kResident && kLayout == Layout::kExact ? 16 * kSteps : parameters_.dim; }

  // The rows that stage s searches by, after its preparation.
  __device__ const float* searched_rows(int s) const { return s == 0 ? parameters_.queries : parameters_.residuals; }

  __device__ __forceinline__ void prepare(const StageView& view, int s) {
    size_t row_length = dim();
    const float* rows = s == 0 ? parameters_.queries : s == 1 ? parameters_.rows : parameters_.residuals;
    const float* codewords = views_[s == 0 ? 0 : s - 1].codewords;
    RowTile tile;
    tile.subtract = s > 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      tile.exists[half] = exists(half);
      size_t row = tile.exists[half] ? row_of(half) : 0;
      // Every row is written by somebody.
      tile.from[half] = thread_elements(tile.exists[half] ? rows + row * row_length : codewords);
      tile.codewords[half] = thread_elements(codewords + (s == 0 ? 0 : codes_[half * 8 + fragment_row()] * row_length));
      tile.to[half] = thread_elements(parameters_.residuals + row * row_length);
    }
    tile.centre = thread_elements(view.centre);
    auto make = [&](const RowTile& tile, const float(&scale)[2], operands::Sums(&sums)[2]) {
      uint4 some[kTogether];
      if constexpr (kResident) {
#pragma unroll
        for (int first = 0; first < kSteps; first += kTogether) {
          operands::make_steps<kTogether, kLayout>(tile, view, dim(), first, scale, sums, some);
#pragma unroll
          for (int k = 0; k < kTogether; k++) operands_[first + k] = some[k];
        }
      } else if constexpr (kWide) {
        constexpr int kWhole = kWideRegisterSteps / kTogether * kTogether;
#pragma unroll
        for (int first = 0; first < kWhole; first += kTogether) {
          operands::make_steps<kTogether, kLayout>(tile, view, dim(), first, scale, sums, some);
#pragma unroll
          for (int k = 0; k < kTogether; k++) operands_[first + k] = some[k];
        }
        // They come in pairs.
        uint4 pair[2];
        if constexpr (kWhole < kWideRegisterSteps) {
          operands::make_steps<2, kLayout>(tile, view, dim(), kWhole, scale, sums, pair);
          operands_[kWhole] = pair[0];
          operands_[kWhole + 1] = pair[1];
        }
        int first = kWideRegisterSteps;
#pragma unroll 1
        for (; first + kTogether < steps_; first += kTogether) {
          operands::make_steps<kTogether, kLayout>(tile, view, dim(), first, scale, sums, some);
#pragma unroll
          for (int k = 0; k < kTogether; k++) share_operand(first + k, some[k]);
        }
        if (kTogether > 2 && first + 2 < steps_) {
          operands::make_steps<2, kLayout>(tile, view, dim(), first, scale, sums, pair);
          share_operand(first, pair[0]);
          share_operand(first + 1, pair[1]);
        }
        // Beside the bound.
        uint4 last[1] = {};
        if constexpr (kLayout != Layout::kExact) {
          operands::make_steps<1, kLayout>(tile, view, dim(), steps_ - 2, scale, sums, last);
        }
        share_operand(steps_ - 2, last[0]);
      } else {
#pragma unroll 1
        for (int first = 0; first < steps_; first += kTogether) {
          operands::make_steps<kTogether, kLayout>(tile, view, dim(), first, scale, sums, some);
#pragma unroll
          for (int k = 0; k < kTogether; k++) fragments_[(first + k) * 32] = some[k];
        }
      }
    };
    unsigned long long* bad = s == 0 ? parameters_.bad : nullptr;
    RowLengths lengths[2];
    if constexpr (kLimbs) {
      make_limb_operands<kSteps, kLayout>(tile, view, dim(), rows, bad, states_, lengths, operands_);
    } else {
      make_operands(tile, view, dim(), rows, bad, states_, lengths, make);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (fragment_column() == 0) shared_row(half).lengths = lengths[half];
    }
    if constexpr (kWarpgroup) {
      uint2 slots[2] = {bound_slots(states_[0]), bound_slots(states_[1])};
      uint4 operand{0, 0, 0, 0};
      if (fragment_column() == 0) operand = {slots[0].x, slots[1].x, slots[0].y, slots[1].y};
      // The radius once more, which is the upper half there.
      static_assert(kStartLimbs == 3 && kShiftSlot == 4);
      if (kPieces && fragment_column() == 1) operand = {slots[0].y >> 16, slots[1].y >> 16, 0, 0};
      if constexpr (kWide) {
        share_operand(steps_ - 1, operand);
      } else {
        operands_[kSteps] = operand;
      }
    }
    choose_fineness<kPieces>(states_[0], view);
    choose_fineness<kPieces>(states_[1], view);
  }

  __device__ __forceinline__ void share_operand(int step, const uint4& operand) {
    store_row_step(shared_operands_ + (step - kWideRegisterSteps) * kRowStepBytes, Group::warp(), operand);
  }

  // Takes the upper ends of a stage's scores.
  template <typename Stream>
  __device__ __forceinline__ void rank(const StageView& view, Stream& stream) {
    if constexpr (kWarpgroup) {
#ifdef RVQ_WARPGROUP
      const float factors[2] = {states_[0].fineness * states_[0].inverse, states_[1].fineness * states_[1].inverse};
      int tiles = __shfl_sync(kAll, view.tiles, 0);
      if constexpr (kWide) {
        fence_async_proxy();
        Group::meet();
        WideProducts<Stream>{operands_, shared_operands_, steps_, factors, ranking_, stream, kept_}.run(tiles);
      } else {
        PieceProducts<kSteps, Stream>{operands_, factors, ranking_, stream, kept_}.run(tiles);
      }
#endif
    } else {
      UnitProducts<kSteps, kLimbs, Stream>{operands_, fragments_, steps_, states_, ranking_, stream, kept_}.run(view);
    }
  }

  // codes_ of the stage.
  __device__ __forceinline__ void settle(const StageView& view, int s) {
    int& count = open_.counts[turn_];
    turn_ ^= 1;
    if constexpr (kPieces) {
      settle_pieces(view, count);
    } else {
      settle_sets(view, count);
    }
    Group::meet();
    if (count == 0) return;
    int thread = static_cast<int>(threadIdx.x) % 32;
    // What follows from it is not to take up registers all the time.
    make_opaque(thread);
    RowSearch<kLayout, kLoads> search{parameters_.weights, dim(), &view, thread};
    size_t group_row = first_row_ - Group::warp() * kWarpRows;
    settle_open<Group>(search, searched_rows(s) + group_row * dim(), count, open_, codes_ - Group::warp() * kWarpRows);
    // All have met at the end of that, and in the next stage nobody adds to it.
    if (Group::warp() == 0 && thread == 0) count = 0;
  }

  // The codes that scores kept in sets prove; rows that they leave open are listed.
  __device__ __forceinline__ void settle_sets(const StageView& view, int& count) {
    float2 bounds[2][kSets];
    // Of a row that is not finite a tag can be anything.
    uint32_t last = static_cast<uint32_t>(view.tiles) * kTile.codewords - 1;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int set = 0; set < kSets; set++) {
        bounds[half][set] = view.bounds[min(ranking_.codeword(kept_[half].best[set], set, fragment_column()), last)];
      }
    }
    // Other threads of the warp have read the codes of the stage before, and have written lengths.
    __syncwarp();
    Verdict verdicts[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      verdicts[half] = judge<Group::kMostCandidates>(view, dim(), ranking_, kept_[half], bounds[half], states_[half],
                                                     shared_row(half).lengths, norm_rounding(kWarpgroup));
      uint32_t* codes = codes_ + half * 8;
      if (states_[half].not_finite || !exists(half)) {
        if (fragment_column() == 0) codes[fragment_row()] = 0;
      } else if (verdicts[half].certain) {
#pragma unroll
        for (int set = 0; set < kSets; set++) {
          if (verdicts[half].candidates >> (4 * set + fragment_column()) & 1)
            codes[fragment_row()] = ranking_.codeword(kept_[half].best[set], set, fragment_column());
        }
      }
    }
    const bool open[2] = {exists(0) && !verdicts[0].certain, exists(1) && !verdicts[1].certain};
    // No more products read what is overwritten.
    if constexpr (kWide) Group::meet();
    list_open<Group>(view, ranking_, kept_, verdicts, open, open_, count);
  }

  // The same of scores that are kept by pieces.
  __device__ __forceinline__ void settle_pieces(const StageView& view, int& count) {
    uint32_t best[2];
    float2 bounds[2];
    // Of a row that is not finite a tag can be anything.
    uint32_t last = static_cast<uint32_t>(view.tiles) * kTile.codewords - 1;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      best[half] = kept_[half].best_codeword(ranking_, fragment_column());
      bounds[half] = best[half] == kNoCodeword ? view.widest : view.bounds[min(best[half], last)];
    }
    // Other threads of the warp have read the codes of the stage before, and have written lengths.
    __syncwarp();
    PieceVerdict verdicts[2];
    bool open[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      verdicts[half] = judge(view, dim(), ranking_, kept_[half], bounds[half], states_[half], shared_row(half).lengths);
      uint32_t* code = codes_ + half * 8 + fragment_row();
      open[half] = exists(half) && !verdicts[half].certain;
      if (states_[half].not_finite || !exists(half)) {
        if (fragment_column() == 0) *code = 0;
      } else if (verdicts[half].certain && verdicts[half].speaks) {
        *code = best[half];
      }
    }
    if (!__any_sync(kAll, open[0] || open[1])) return;
    list_open<Group>(view, ranking_, kept_, verdicts, best, open, open_, count);
  }

  __device__ __forceinline__ void write_codes(int s) const {
    int r = static_cast<int>(threadIdx.x) % 32;
    if (r >= kWarpRows || first_row_ + r >= count()) return;
    size_t place = static_cast<size_t>(first_row_ + r) * parameters_.code_stride + s;
    if (parameters_.wide) {
      static_cast<uint32_t*>(parameters_.codes)[place] = codes_[r];
    } else {
      static_cast<uint16_t*>(parameters_.codes)[place] = static_cast<uint16_t>(codes_[r]);
    }
  }

  // Residuals after the last stage.
  __device__ __forceinline__ void finish() const {
    const StageView& view = views_[parameters_.stages - 1];
    const float* from = parameters_.stages == 1 ? parameters_.rows : parameters_.residuals;
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
      if (!exists(half)) continue;
      size_t first = static_cast<size_t>(row_of(half)) * dim();
      const float* x = thread_elements(from + first);
      const float* codeword =
          thread_elements(view.codewords + static_cast<size_t>(codes_[half * 8 + fragment_row()]) * dim());
      float* to = thread_elements(parameters_.residuals + first);
      int steps = (dim() + 15) / 16;
#pragma unroll 4
      for (int k = 0; k < steps; k++) {
        float4 rest = subtract(load4<kLayout>(x, k, dim()), load4<kLayout>(codeword, k, dim()));
        store4<kLayout>(to, k, dim(), rest);
      }
    }
  }

  const EncodeParameters& parameters_;
  const StageView* const views_;
  typename Group::Open& open_;
  uint32_t* const codes_;  // [kWarpRows] in shared memory
  const int steps_;
  uint32_t first_row_ = 0;
  RowRanking ranking_;
  int turn_ = 0;  // which of the group's counters is used
  uint4 operands_[kWide ? kWideRegisterSteps : kTile.chunk_steps];
  uint4* fragments_ = nullptr;
  unsigned char* shared_operands_ = nullptr;
  // Of rows 0 … 7 and 8 … 15.
  RowState states_[2];
  RowKept kept_[2];
};

}  // namespace rvq::cuda

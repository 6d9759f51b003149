// The codes of rows that the bound leaves open: some warps list them together, and compare what can be nearest.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "piece_ranking.cuh"
#include "ranking.cuh"
#include "row_operands.cuh"
#include "row_search.cuh"
#include "stage.cuh"

namespace rvq::cuda {

struct Found {
  double distance;
  uint32_t codeword;
};

// What the rows of some warps leave open, in shared memory. Rows count from the first of them. A row can be on both
// lists.
template <int kGroupWarps, int kMostCandidates, bool kThree>
struct OpenRows {
  static constexpr int kRows = 16 * kGroupWarps;
  using Candidates = std::conditional_t<kThree, uint32_t, uint16_t>;
  using Codewords = uint32_t[kMostCandidates];
  // Searches at a time.
  static constexpr int kSearches = 4;

  // The best of its places: of those that are to be compared, or of all. With three kept in other memory of the group.
  std::conditional_t<kThree, Codewords*, Codewords[kRows]> codewords;
  Candidates candidates[kRows];  // bits of those that are to be compared, as of a Verdict
  uint16_t hidden[kRows];        // of those that are to be looked through
  uint8_t compared[kRows];       // rows with candidates
  uint8_t searched[kRows];       // rows with hidden places
  // Until a row is judged its lengths, then what has been found among its candidates, where it is searched as well.
  union {
    RowLengths lengths;
    Found of_candidates;
  } rows[kRows];
  // What each warp has found in its places.
  Found of_places[kSearches][kGroupWarps];
  // How many are compared, and 2^16 times how many are searched: one for each stage, in turn.
  int counts[2];

  // Where the codeword of one of a row's candidates is, by its bit: without gaps where there is not room for all.
  __device__ static __forceinline__ int slot_of(int bit, unsigned candidates) {
    return kMostCandidates == kPlaces ? bit : __popc(candidates & ((1u << bit) - 1));
  }
};

// Warps that settle their rows together: sixteen rows a warp. A warp alone, or the four of a warpgroup: what is left
// open is shared out among them, and none waits long for another.
template <int kGroupWarps, int kRowCandidates, bool kThree>
struct SettlingGroup {
  static constexpr int kWarps = kGroupWarps;
  // Of a row that are compared one by one; where there are more their places are looked through.
  static constexpr int kMostCandidates = kRowCandidates;
  using Open = OpenRows<kGroupWarps, kMostCandidates, kThree>;

  // Of the block.
  __device__ static int index() { return static_cast<int>(threadIdx.x) / (32 * kGroupWarps); }
  // Of the group.
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32 % kGroupWarps; }

  // All that was written before is seen by all of the group after.
  __device__ static void meet() {
    if constexpr (kGroupWarps == 1) {
      __syncwarp();
    } else {
      // Barrier 0 is __syncthreads().
      int barrier = 1 + index();
#ifdef RVQ_EMULATE_CUDA
      emulation::meet_at(barrier, 32 * kGroupWarps);
#else
      asm volatile("bar.sync %0, %1;\n" ::"r"(barrier), "n"(32 * kGroupWarps) : "memory");
#endif
    }
  }
};

// Puts the warp's open rows on the group's lists: candidates of a listing, of which write(half, codewords) enters the
// thread's, and hidden places. The four threads of a row have the same.
template <typename Group, typename Listing, typename Write>
__device__ __forceinline__ void enter_rows(const Listing (&listings)[2], const bool (&is_open)[2],
                                           typename Group::Open& open, int& count, const Write& write) {
  unsigned compared[2];
  unsigned searched[2];
  int wanted = 0;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    // One thread of the four of a row.
    bool speaks = is_open[half] && fragment_column() == 0;
    compared[half] = __ballot_sync(kAll, speaks && listings[half].candidates != 0);
    searched[half] = __ballot_sync(kAll, speaks && listings[half].hidden != 0);
    wanted += __popc(compared[half]) + (__popc(searched[half]) << 16);
  }
  if (wanted == 0) return;
  // All have read lengths.
  __syncwarp();
  int lane = static_cast<int>(threadIdx.x) % 32;
#ifdef RVQ_EMULATE_CUDA
  if (lane == 0) emulation::add_open_rows(wanted & 0xffff, wanted >> 16);
#endif
  int first = lane == 0 ? atomicAdd(&count, wanted) : 0;
  first = __shfl_sync(kAll, first, 0);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = Group::warp() * 16 + half * 8 + fragment_row();
    unsigned own = 1u << (lane & 28);
    unsigned before = own - 1;
    bool is_compared = (compared[half] & own) != 0;
    bool is_searched = (searched[half] & own) != 0;
    if (is_compared) write(half, open.codewords[row]);
    // The row's four threads know the same.
    if (fragment_column() != 0 || !(is_compared || is_searched)) continue;
    open.candidates[row] = static_cast<typename Group::Open::Candidates>(listings[half].candidates);
    // Those that are not searched as well are done when they have been compared.
    open.hidden[row] = static_cast<uint16_t>(listings[half].hidden);
    if (is_compared) {
      int place = (first & 0xffff) + (half == 0 ? 0 : __popc(compared[0])) + __popc(compared[half] & before);
      open.compared[place] = static_cast<uint8_t>(row);
    }
    if (is_searched) {
      int place = (first >> 16) + (half == 0 ? 0 : __popc(searched[0])) + __popc(searched[half] & before);
      open.searched[place] = static_cast<uint8_t>(row);
      if (listings[half].candidates == 0) open.rows[row].of_candidates = {INFINITY, ~0u};
    }
  }
}

// Of scores that are kept in sets.
template <typename Group, bool kThree>
__device__ __forceinline__ void list_open(const StageView& view, const Ranking& ranking, const Kept<kThree> (&kept)[2],
                                          const Verdict (&verdicts)[2], const bool (&is_open)[2],
                                          typename Group::Open& open, int& count) {
  enter_rows<Group>(verdicts, is_open, open, count, [&](int half, auto& codewords) {
    unsigned candidates = verdicts[half].candidates;
    auto list = [&](int bit, int tagged, int set) {
      if (Group::kMostCandidates < kPlaces && (candidates >> bit & 1) == 0) return;
      // Where all are alike, one that does not exist can be the best of a place.
      codewords[Group::Open::slot_of(bit, candidates)] =
          min(ranking.codeword(tagged, set, fragment_column()), static_cast<uint32_t>(view.num_codewords) - 1);
    };
#pragma unroll
    for (int set = 0; set < kSets; set++) {
      int place = 4 * set + fragment_column();
      list(place, kept[half].best[set], set);
      if constexpr (kThree) list(kPlaces + place, kept[half].second[set], set);
    }
  });
}

// Of scores that are kept by pieces.
template <typename Group>
__device__ __forceinline__ void list_open(const StageView& view, const PieceRanking& ranking,
                                          const KeptPieces (&kept)[2], const PieceVerdict (&verdicts)[2],
                                          const uint32_t (&best)[2], const bool (&is_open)[2],
                                          typename Group::Open& open, int& count) {
  const PieceListing listings[2] = {list_pieces<Group::kMostCandidates>(verdicts[0]),
                                    list_pieces<Group::kMostCandidates>(verdicts[1])};
  uint32_t last = static_cast<uint32_t>(view.num_codewords) - 1;
  enter_rows<Group>(listings, is_open, open, count, [&](int half, auto& codewords) {
    each_combination(verdicts[half], listings[half], kept[half], ranking, best[half],
                     [&](int place, uint32_t codeword) { codewords[place] = min(codeword, last); });
  });
}

// Those of a row's candidates, of which a team of eight threads knows, that float32 leaves: the row's first, or the
// first two, or all. Rows have no weights. By the whole warp.
template <typename Group, typename Search>
__device__ __forceinline__ unsigned look_in_float32(const Search& search, const float* row,
                                                    const uint32_t (&codewords)[Group::kMostCandidates],
                                                    const unsigned candidates) {
  // The nearest three: the third only as a number.
  float first = INFINITY;
  float second = INFINITY;
  float third = INFINITY;
  unsigned first_place = 0;
  unsigned second_place = 0;
  unsigned places = candidates;
#pragma unroll 1
  while (__any_sync(kAll, places != 0)) {
    uint32_t k[2] = {};
    unsigned place[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      place[i] = places & (0 - places);
      if (places != 0) k[i] = codewords[Group::Open::slot_of(__ffs(static_cast<int>(places)) - 1, candidates)];
      places ^= place[i];
    }
    float distances[2];
    search.float32_distances(row, k, distances);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float d = place[i] != 0 ? distances[i] : INFINITY;
      third = fminf(third, fmaxf(second, d));
      bool nearest = d < first;
      if (d < second) second_place = nearest ? first_place : place[i];
      second = fminf(second, fmaxf(first, d));
      if (nearest) first_place = place[i];
      first = fminf(first, d);
    }
  }
  float reach = float32_reach(first, search.dim);
  return third <= reach ? candidates : second <= reach ? first_place | second_place : first_place;
}

// The codes of the group's rows that are open. By the whole group; rows[…][dim] and codes[…] are of its first row.
template <typename Group, typename Search>
__device__ __forceinline__ void settle_open(const Search& search, const float* rows, int count,
                                            typename Group::Open& open, uint32_t* codes) {
  constexpr int kTeams = 32 / kSumLanes;
  int lane = search.thread;
  int team = lane / kSumLanes;
  int num_compared = count & 0xffff;
  int num_searched = count >> 16;
#pragma unroll 1
  for (int first = Group::warp() * kTeams; first < num_compared; first += Group::kWarps * kTeams) {
    int row = open.compared[min(first + team, num_compared - 1)];
    const unsigned candidates = open.candidates[row];
    unsigned places = candidates;
    Nearest nearest;
    uint32_t k[2] = {};
    if (search.weights == nullptr) {
      places =
          look_in_float32<Group>(search, rows + static_cast<size_t>(row) * search.dim, open.codewords[row], candidates);
      // One that is left alone need not be measured; it stays where other teams go on.
      if ((places & (places - 1)) == 0 && open.hidden[row] == 0) {
        nearest.take(-1, open.codewords[row][Group::Open::slot_of(__ffs(static_cast<int>(places)) - 1, candidates)]);
        places = 0;
      }
    }
#pragma unroll 1
    while (__any_sync(kAll, places != 0)) {
      // Two at a time; where there is none, the last once more.
#pragma unroll
      for (int i = 0; i < 2; i++) {
        k[i] = places != 0 ? open.codewords[row][Group::Open::slot_of(__ffs(static_cast<int>(places)) - 1, candidates)]
                           : k[0];
        places &= places - 1;
      }
      double distances[2];
      search.distances(rows + static_cast<size_t>(row) * search.dim, k, distances);
      nearest.take(distances[0], k[0]);
      nearest.take(distances[1], k[1]);
    }
    if (first + team >= num_compared || lane % kSumLanes != 0) continue;
    if (open.hidden[row] == 0) {
      codes[row] = nearest.code();
    } else {
      open.rows[row].of_candidates = {nearest.distance, nearest.codeword};
    }
  }
  // What has been found for candidates is a reach for others.
  if (num_searched > 0) Group::meet();
#pragma unroll 1
  for (int first = 0; first < num_searched; first += Group::Open::kSearches) {
    int here = min(num_searched - first, Group::Open::kSearches);
#pragma unroll 1
    for (int i = 0; i < here; i++) {
      int row = open.searched[first + i];
      Nearest found = search.of_places(rows + static_cast<size_t>(row) * search.dim, open.hidden[row], Group::warp(),
                                       Group::kWarps, open.rows[row].of_candidates.distance);
      if (lane == 0) open.of_places[i][Group::warp()] = {found.distance, found.codeword};
    }
    Group::meet();
    if (Group::warp() == 0 && lane < here) {
      int row = open.searched[first + lane];
      Nearest nearest;
      nearest.take(open.rows[row].of_candidates.distance, open.rows[row].of_candidates.codeword);
#pragma unroll
      for (int w = 0; w < Group::kWarps; w++) {
        nearest.take(open.of_places[lane][w].distance, open.of_places[lane][w].codeword);
      }
      codes[row] = nearest.code();
    }
    Group::meet();
  }
  if (num_searched == 0) Group::meet();
}

}  // namespace rvq::cuda

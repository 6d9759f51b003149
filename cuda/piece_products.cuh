// A stage's products by wgmma where rows' operands are in registers: a piece of 64 codewords after the other, ranked as
// piece_ranking.cuh says. Only for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "piece_ranking.cuh"
#include "stage.cuh"
#include "wgmma.cuh"

namespace rvq::cuda {

#ifdef RVQ_WARPGROUP

// By a warpgroup; `stream` gives the tiles.
template <int kSteps, typename Stream>
struct PieceProducts {
  const uint4 (&operands)[kSteps + 1];
  const float (&factors)[2];
  const PieceRanking& ranking;
  Stream& stream;
  KeptPieces (&kept)[2];
  uint64_t tile = 0;  // descriptor of that whose products are begun

  // While a piece is ranked the products of the next are under way, where there are registers for both; else those of
  // other warpgroups.
  __device__ __forceinline__ void run(int tiles) {
    int last = tiles * kPiecesInTile - 1;
    float sums[kPieceGroups][4];
    begin_tile(stream.take(), sums);
    if constexpr (!kAhead) {
#pragma unroll 1
      for (int piece = 0;; piece++) {
        rank<0>(sums, piece);
        if (piece == last) return;
        if ((piece + 1) % kPiecesInTile == 0) {
          begin_tile(stream.take(), sums);
        } else {
          begin((piece + 1) % kPiecesInTile, sums);
        }
      }
    } else {
      static_assert(kPiecesInTile == 1);
      float others[kPieceGroups][4];
#pragma unroll 1
      for (int piece = 0;; piece += 2) {
        if (piece == last) return rank<0>(sums, piece);
        begin_tile(stream.take_following(), others);
        rank<1>(sums, piece);
        if (piece + 1 == last) return rank<0>(others, piece + 1);
        begin_tile(stream.take_following(), sums);
        rank<1>(others, piece + 1);
      }
    }
  }

 private:
  static constexpr TileShape kTile = warpgroup_tile(kSteps);
  static constexpr int kPiecesInTile = kTile.codewords / kPieceCodewords;
  static constexpr bool kAhead = kSteps >= 4 && kSteps <= 12;

  __device__ __forceinline__ void begin_tile(uint32_t shared, float (&sums)[kPieceGroups][4]) {
    tile = operand_descriptor(shared, kTile.codewords * 16);
    begin(0, sums);
  }

  // Begins the products of a piece of the tile. The address in a descriptor is in units of sixteen bytes.
  __device__ __forceinline__ void begin(int piece, float (&sums)[kPieceGroups][4]) {
    constexpr int kStep = kTile.codewords * 32 / 16;
    uint64_t codewords = tile + piece * kPieceCodewords;
    hold(sums);
    warpgroup_arrive();
#pragma unroll
    for (int k = 0; k <= kSteps; k++) warpgroup_multiply(sums, operands[k], codewords + k * kStep, k > 0);
    warpgroup_commit();
  }

  // Ranks a piece, once no more than kPending are under way.
  template <int kPending>
  __device__ __forceinline__ void rank(float (&sums)[kPieceGroups][4], int piece) {
    warpgroup_wait<kPending>();
    hold(sums);
    bool ends = (piece + 1) % kPiecesInTile == 0;
    if (ends) stream.give_up();
#pragma unroll
    for (int half = 0; half < 2; half++) kept[half].take(sums, half, piece, ranking, factors[half]);
    if (ends) stream.go_on();
  }
};

#endif

}  // namespace rvq::cuda

// How far the tensor-core screen's score can be from what decides the search, and the proof. Host and device.
//
// The screen's space, of one stage. C_k,i = p·a_i·(c_k,i − m_i), with a_i = sqrt(weight_i), m a float32 vector near the
// codewords' mean and p a power of two that brings the largest |C_k,i| between 2^5 and 2^7 (kLargestExponent). X
// likewise from a row. Exactly: the nearest codeword has the largest S_k = X·C_k − h_k, h_k = ½|C_k|².
//
// What is computed. x̂ = float16(q·X), with q = 1, or for rows far out a smaller power of two; ĉ_k = float16(C_k). The
// tensor cores sum x̂·ĉ_k; the score is Ŝ_k = (x̂·ĉ_k)/q − h_k in float32. Measured, not assumed: e_x = |x̂ − q·X|/q and
// e_k = |ĉ_k − C_k|. With n_x ≥ |x̂|/q, |X| ≤ n_x + e_x and n_k ≥ |C_k|:
//   |x̂·ĉ_k/q − X·C_k| ≤ e_x·n_k + n_x·e_k                                                      (Cauchy and Schwarz)
//   the sum on the tensor cores is off by at most γ·n_x·(n_k + e_k). Products of float16 are exact; they are aligned to
//     the largest of 16 and the running sum and cut off below 24 bits of it (Turing to Ada; 25 on Hopper), so a step of
//     16 loses at most 17·2^-23 of Σ|x̂_i·ĉ_k,i|, and ⌈D/16⌉ + 2 steps (D + 47)·17/16·2^-23. γ = (D + 56)·17/16·2^-23
//     covers the roundings of the two multiply-adds that make the score too.
//   h_k is rounded, γ_h = 2^-21 of it, and where it is one of the products (below) with them: γ_h = γ + 2^-21.
// So |Ŝ_k − S_k| ≤ n_x·(θ·n_k + e_k + γ·(n_k + e_k)) + γ_h·h_k with θ = e_x/n_x ≤ ρ·g_k + γ_h·h_k, where
//   g_k = θ₀·n_k + e_k + γ·(n_k + e_k) belongs to the codeword, ρ = n_x·max(1, θ/θ₀) to the row.
// θ₀ is about what rounding to float16 costs a row (2^-10·0.16); any value is correct.
//
// Where numbers underflow, an operand or a norm is off by far less than 2^-40: `kFloor` is added to e_x and to g_k.
//
// What decides is the canonical d64, which is |X − C|²/p² to within (⌈D/8⌉ + 6)·2^-53 of itself
// (binding/cpu/error_bound.h has the proof): `order`·(n_x + e_x + n)² on either side, n the largest n_k.
//
// Upper ends U_k = Ŝ_k + ρ·g_k + γ_h·h_k are what the kernel ranks; U_k − 2·(ρ·g_k + γ_h·h_k) is a lower end. Codeword
// j is not nearest if U_j + order's part < the lower end of another.

#pragma once

#include <cmath>

#ifdef __CUDACC__
#define RVQ_HOST_DEVICE __host__ __device__
#else
#define RVQ_HOST_DEVICE
#endif

namespace rvq::cuda {

constexpr double kRowRounding = 0x1p-10 * 0.16;  // θ₀

constexpr double kFloor = 0x1p-40;

// γ
RVQ_HOST_DEVICE inline float product_rounding(int dim) { return static_cast<float>(dim + 56) * 0x1.1p-23f; }
// γ_h; `in_products`: h_k is one of the products.
RVQ_HOST_DEVICE inline float norm_rounding(int dim, bool in_products) {
  return (in_products ? product_rounding(dim) : 0) + 0x1p-21f;
}

// `order`, for both ends together, with room for the roundings of its own evaluation in float32.
RVQ_HOST_DEVICE inline float order_rounding(int dim) { return static_cast<float>((dim / 8 + 32) * 0x1p-52); }

// Dimensions beyond which the bound means little.
constexpr int kMostScreenedDim = 1 << 16;

// What a codeword's score starts from and how its bound grows with the row: −h_k + γ_h·h_k, and g_k rounded up,
// with room for the sum on the tensor cores where ρ·g_k is one of its products.
struct CodewordBound {
  float start;
  float slope;
};

// What has been measured of a codeword, where C_k,i is exact but for float64's rounding: |C_k|² in float64; and in
// float32 the sum of the squares of ĉ_k,i, or w_i/g, less C_k,i as a float32: a subtraction that is exact, as what is
// rounded to fewer bits lies near. Eight threads have dim/8 elements each, and three more.
struct CodewordSums {
  double squared_norm;
  double squared_error;
  double squared_low;  // norm of the low limbs over g
};

// |ĉ_k − C_k| at least: as a float32 C_k,i is off by 2^-24 of itself.
RVQ_HOST_DEVICE inline double codeword_error(int dim, const CodewordSums& sums) {
  return std::sqrt(sums.squared_error) * (1 + (dim / 8 + 32) * 0x1p-24) + std::sqrt(sums.squared_norm) * 0x1p-24;
}

RVQ_HOST_DEVICE inline CodewordBound codeword_bound(int dim, bool in_products, const CodewordSums& sums) {
  constexpr double kInflation = 1 + 0x1p-20;
  double norm = std::sqrt(sums.squared_norm) * kInflation;
  double error = codeword_error(dim, sums) * kInflation;
  double gamma = double{product_rounding(dim)};
  double slope = (kRowRounding * norm + error + gamma * (norm + error) + kFloor) * (1 + gamma);
  double start = -0.5 * sums.squared_norm * (1 - double{norm_rounding(dim, in_products)});
  return {static_cast<float>(start), static_cast<float>(slope * kInflation)};
}

// For places without a codeword of their own: an upper end below that of every codeword, for any row. `largest` is n.
RVQ_HOST_DEVICE inline CodewordBound bound_of_none(float largest) {
  return {-0.53125f * largest * largest, -1.0625f * largest};
}

// All upper ends of a row are less than this from 0, those of places without a codeword too.
RVQ_HOST_DEVICE inline float largest_score(float radius, float largest) {
  return 1.125f * (radius * largest + 0.5f * largest * largest) + 0x1p-18f * radius + 0x1p-30f;
}

// With wgmma upper ends come from the tensor cores: one step more has, of a codeword, its start and slope, and of a row
// what they are multiplied by. start = Σ limb_j · start_scale(j), each limb a float16 and the last rounded up; the row
// has q · start_scale(j) there, exactly. The slope is rounded up to kSlopeScale times a float16, and q·ρ to a float16
// divided by kSlopeScale. With |C_k,i| < 2^7 and D ≤ 1024, h_k < 2^23 and n_k < 2^12: limbs are below 2^11, and what is
// rounded off the last below 2^-12, less than half a unit of the ranked score (ranking.cuh): the
// largest norm is 2^6 or more, and the unit 1.125 · ½ · 2^12 / 2^22 or more.
constexpr int kStartLimbs = 3;
RVQ_HOST_DEVICE constexpr float start_scale(int limb) { return limb == 0 ? 0x1p12f : limb == 1 ? 0x1p1f : 0x1p-10f; }
constexpr float kSlopeScale = 0x1p-4f;

// Where rows' operands are all in registers, upper ends are compared as they come (piece_ranking.cuh), and are not to
// be below zero: U'_k = U_k + ρ·c + s with c = 1.0625·n and s = 0.53125·n², which is 0 for places without a codeword,
// all of whose slots are zeros. s is part of the start; c is in a slot of its own, rounded up to kSlopeScale times a
// float16, beside q·ρ once more. What is added is the same for all codewords, but more is cut off in the last step of
// the sum, where five products are not zero: with the running sum six times 2^-23 of it, and kShiftRounding·(ρ·c + s)
// belongs to the bound of every codeword.
constexpr int kShiftSlot = 4;
constexpr float kShiftRounding = 8 * 0x1p-23f;
RVQ_HOST_DEVICE inline float shift_slope(float largest) { return 1.0625f * largest; }
RVQ_HOST_DEVICE inline float shift_start(float largest) { return 0.53125f * largest * largest; }

RVQ_HOST_DEVICE inline CodewordBound shifted_bound(const CodewordBound& bound, float largest) {
  return {bound.start + (1 + kShiftRounding) * shift_start(largest),
          (bound.slope + kShiftRounding * shift_slope(largest)) * (1 + 0x1p-20f)};
}

// Half of that part of the width between the ends that does not grow with the row: γ_h·h_k, here from −h_k + γ_h·h_k,
// and what the last step loses of s; and 2^-11, more than what the limbs of a start are too large.
RVQ_HOST_DEVICE inline float shifted_width(int dim, const CodewordBound& bound, float largest) {
  return -bound.start * norm_rounding(dim, true) * 1.01f + kShiftRounding * shift_start(largest) + 0x1p-11f;
}

// All U'_k of a row are less than this.
RVQ_HOST_DEVICE inline float largest_shifted(float radius, float largest) {
  return largest_score(radius, largest) + 1.0625f * (shift_slope(largest) * radius + shift_start(largest));
}

// log2 of the bound below which the largest |C_k,i| is brought; kHeadroom below it, so that where n is the largest that
// it can be, 2^7·32/kHeadroom, the slope of places without a codeword, 1.0625·n/kSlopeScale, is still a float16.
constexpr int kLargestExponent = 7;
constexpr double kHeadroom = 1.07;
static_assert(1.0625 * 0x1p7 * 32 / kHeadroom * (1 + 0x1p-19) / kSlopeScale < 65504);

// Limbs: operands of two int8, where float16 products with float32 sums take longer than three of integers. A row has
// v = round(q·X), with q such that the largest |v_i| is kMostLimbs at most, a codeword w = round(g·C_k), with one g for
// the codebook. Both are 256·high + low with bytes from −127 to 127 and from −128 to 127. Then
//   v·w = 2^16·(high·high) + 2^8·(high·low + low·high) + low·low,
// and the tensor cores sum the first three exactly: at most 2·127·128·D and 127²·D, D ≤ 256, in int32. The middle ones
// are divided by 256 and rounded before the first is added; the sum T, below 2^22, becomes a float32 exactly, and
// Ŝ_k = T·2^16/(q·g) − h_k. Measured, not assumed: e_x = |v/q − X|, e_k = |w/g − C_k| and the norms l_x and l_k of the
// low limbs over q and g. Then
//   |v·w/(q·g) − X·C_k| ≤ e_x·n_k + n_x·e_k, as above;
//   |T·2^16 − v·w| ≤ |low·low| + 2^15: l_x·l_k + 2^15/(q·g) more;
//   2^16/(q·g) is off by less than 5·2^-24 of itself, and two multiply-adds round: kLimbRounding·n_x·(n_k + e_k) is
//   more; h_k as above, γ_h = 2^-21 of it.
// ≤ ρ·g_k + γ_h·h_k, where g_k = η₀·n_k + e_k + 2^8·η₀·l_k + u₀·2^15/g + kLimbRounding·(n_k + e_k) belongs to the
// codeword and ρ = max(n_x, e_x/η₀, l_x/(2^8·η₀), 1/(q·u₀)) to the row. Any η₀ and u₀ are correct; they are of a row as
// peaky as the codewords are in the mean, whose roundings are evenly spread (limb_row).
constexpr float kMostLimbs = 32512;
constexpr float kLimbProduct = 0x1p16f;
constexpr double kLimbRounding = 0x1p-20;

struct LimbRow {
  float error;  // η₀
  float unit;   // u₀
};

// `peak`: the largest element of such a row over its norm.
RVQ_HOST_DEVICE inline LimbRow limb_row(int dim, double peak) {
  double unit = peak / double{kMostLimbs};
  return {static_cast<float>(unit * std::sqrt(dim / 12.0)), static_cast<float>(unit)};
}

RVQ_HOST_DEVICE inline CodewordBound limb_codeword_bound(int dim, LimbRow row, double scale, const CodewordSums& sums) {
  constexpr double kInflation = 1 + 0x1p-20;
  double norm = std::sqrt(sums.squared_norm) * kInflation;
  double error = codeword_error(dim, sums) * kInflation;
  double low = std::sqrt(sums.squared_low) * kInflation;
  double slope = row.error * (norm + 0x1p8 * low) + error + row.unit * 0x1p15 / scale + kLimbRounding * (norm + error);
  double start = -0.5 * sums.squared_norm * (1 - double{norm_rounding(0, false)});
  return {static_cast<float>(start), static_cast<float>((slope + kFloor) * kInflation)};
}

}  // namespace rvq::cuda

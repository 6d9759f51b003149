// How far the tensor-core screen's score can be from what decides the search, and the proof. Host and device.
//
// The screen's space, of one stage. C_k,i = p·a_i·(c_k,i − m_i), with a_i = sqrt(weight_i), m a float32 vector near the
// codewords' mean and p a power of two that brings the largest |C_k,i| between 2^5 and 2^7 (kLargestExponent). X
// likewise from a row. Exactly: the nearest codeword has the largest S_k = X·C_k − h_k, h_k = ½|C_k|², and the smallest
// d_k = |X − C_k|.
//
// What is computed. x̂ = float16(q·X), with q = 1, or for rows far out a smaller power of two; ĉ_k = float16(C_k). With
// the errors E_x = x̂/q − X and E_k = ĉ_k − C_k, the tensor cores sum x̂·ĉ_k, and the score is
//   Ŝ_k = (x̂·ĉ_k)/q − h_k − b_k in float32, where b_k = C_k·E_k, so that
//   Ŝ_k = S_k + E_x·C_k + (X − C_k + E_x)·E_k + what the sum loses:
// the nearer a codeword is, the less its own error counts. Measured, not assumed: e_x ≥ |E_x|, e_k ≥ |E_k|,
// n_x ≥ |x̂|/q, |X|, and n_k ≥ |C_k|.
//   The sum on the tensor cores is off by at most γ·a_x·(a_k + e_k) + γ_c·n_x·(n_k + e_k). Products of float16 are
//     exact; they are aligned to the largest of 16, or of fewer at a time, and the running sum and cut off below 24
//     bits of it (Turing to Ada; 25 on Hopper), so a step of 16 loses at most 17·2^-23 of Σ|x̂_i·ĉ_k,i| over it and the
//     steps before. That is at most the product of what is |x̂|/q and |ĉ_k| so far; a_x ≥ and a_k + e_k ≥ are their root
//     mean squares over the T = ⌈D/16⌉ steps, about 0.7 of the norms, and γ = T·17·2^-23. The step of the bounds
//     (below), and the roundings of the two multiply-adds that make the score, have γ_c = 3·17·2^-23. Steps that are
//     all padding lose nothing.
//   h_k + b_k is rounded, γ_h = 2^-21 of H_k = h_k + |b_k|; where it is one of the products (below), those of the last
//     step, 18·2^-23 more: γ_h = 2^-18.
//
// Upper ends U_k = Ŝ_k + ρ·g_k + γ_h·H_k are what the kernel ranks, where
//   g_k = θ₀·n_k + e_k + γ·(a_k + e_k) + γ_c·(n_k + e_k) belongs to the codeword,
//   ρ = n_x·max(1, θ/θ₀) with θ = e_x/n_x to the row.
// θ₀ is about the most that rounding to float16 costs a row; any value is correct. L_k = U_k − 2·(ρ·g_k + γ_h·H_k).
//
// Which codewords can be nearest. Let codeword i be one whose L_i is the largest, and j be as near as i: d_j ≤ d_i.
//   d_i ≤ d = sqrt(n_x² − 2·L_i) + e_x + 2·e, e being the largest e_k of codewords so near: |x̂/q − ĉ_i| is off by at
//     most e_x + e_i, and its square is |x̂/q|² + |E_i|² − 2·((x̂·ĉ_i)/q − h_i − b_i), where what is in brackets is L_i
//     or more.
//   For k = i and k = j the part of E_k is at most (d + e_x)·e_k.
//   In Ŝ_j − Ŝ_i the row's error stands as E_x·(C_j − C_i), which is at most e_x·(n_i + n_j), and as C_j − C_i is also
//     the difference of X − C_i and X − C_j, at most e_x·(d + d).
// So Ŝ_j ≥ Ŝ_i less ρ·g_k + γ_h·H_k − G of each of the two, that is U_j ≥ L_i + 2·G (nearness), where
//   G = max(0, ρ·θ₀·max(n, |X| − d) − e_x·d) + (ρ − d − e_x)·e_k + γ·(ρ − a_x)·a_k, n being the least n_k, because
// n_k ≥ |X| − d, with the least e_k and a_k, or the largest where it would count against what is to be shown. Where
// codewords lie nearer to rows than zero does, G is most of the bound's width; else it is about nothing.
//
// Where numbers underflow, an operand or a norm is off by far less than 2^-40: `kFloor` is added to e_x and to g_k.
//
// What decides is the canonical d64, which is |X − C|²/p² to within (⌈D/8⌉ + 6)·2^-53 of itself
// (binding/cpu/error_bound.h has the proof): `order`·(n_x + e_x + n)² on either side, n the largest n_k. By so much
// less may U_j be.

#pragma once

#include <cmath>

#ifdef __CUDACC__
#define RVQ_HOST_DEVICE __host__ __device__
#else
#define RVQ_HOST_DEVICE
#endif

namespace rvq::cuda {

constexpr double kRowRounding = 0x1p-10 * 0.2;  // θ₀

constexpr double kFloor = 0x1p-40;

// T
RVQ_HOST_DEVICE constexpr int product_steps(int dim) { return (dim + 15) / 16; }
// γ and γ_c
RVQ_HOST_DEVICE inline float step_rounding(int dim) { return static_cast<float>(product_steps(dim)) * 0x1.1p-19f; }
constexpr float kMoreRounding = 3 * 0x1.1p-19f;
// γ_h; `in_products`: h_k is one of the products.
RVQ_HOST_DEVICE constexpr float norm_rounding(bool in_products) { return in_products ? 0x1p-18f : 0x1p-21f; }

// `order`, for both ends together, with room for the roundings of its own evaluation in float32.
RVQ_HOST_DEVICE inline float order_rounding(int dim) { return static_cast<float>((dim / 8 + 32) * 0x1p-52); }

// Dimensions beyond which the bound means little.
constexpr int kMostScreenedDim = 1 << 16;

// What a codeword's score starts from and how its bound grows with the row: −h_k − b_k + γ_h·H_k, and g_k rounded up,
// with room for the sum on the tensor cores where ρ·g_k is one of its products.
struct CodewordBound {
  float start;
  float slope;
};

// What has been measured of a codeword, where C_k,i is exact but for float64's rounding: |C_k|² in float64; and in
// float32 the sum of the squares of ĉ_k,i, or w_i/g, less C_k,i as a float32: a subtraction that is exact, as what is
// rounded to fewer bits lies near. Eight threads have dim/8 elements each, and three more. b_k has products of
// float32, added up by fours: it is off by less than 2^-22 of n_k·e_k and 2^-23 of h_k, half of what γ_h has for it.
struct CodewordSums {
  double squared_norm;
  double squared_error;
  double inner;         // b_k
  float squared_steps;  // Σ over the steps of the squared norm up to the end of it: T·a_k²
  double squared_low;   // norm of the low limbs over g
};

// a_k
RVQ_HOST_DEVICE inline float steps_norm(int dim, const CodewordSums& sums) {
  return std::sqrt(sums.squared_steps / static_cast<float>(product_steps(dim))) * (1 + 0x1p-10f);
}

// |ĉ_k − C_k| at least: as a float32 C_k,i is off by 2^-24 of itself.
RVQ_HOST_DEVICE inline double codeword_error(int dim, const CodewordSums& sums) {
  return std::sqrt(sums.squared_error) * (1 + (dim / 8 + 32) * 0x1p-24) + std::sqrt(sums.squared_norm) * 0x1p-24;
}

// −h_k − b_k + γ_h·H_k
RVQ_HOST_DEVICE inline double bound_start(double norm_rounding, const CodewordSums& sums) {
  double half = 0.5 * sums.squared_norm;
  return norm_rounding * (half + std::fabs(sums.inner)) - (half + sums.inner);
}

RVQ_HOST_DEVICE inline CodewordBound codeword_bound(int dim, bool in_products, const CodewordSums& sums) {
  constexpr double kInflation = 1 + 0x1p-20;
  double norm = std::sqrt(sums.squared_norm) * kInflation;
  double error = codeword_error(dim, sums) * kInflation;
  double gamma = double{step_rounding(dim)};
  double of_sum = gamma * (double{steps_norm(dim, sums)} + error) + double{kMoreRounding} * (norm + error);
  double slope = (kRowRounding * norm + error + of_sum + kFloor) * (1 + gamma + double{kMoreRounding});
  double start = bound_start(double{norm_rounding(in_products)}, sums);
  return {static_cast<float>(start), static_cast<float>(slope * kInflation)};
}

// What is known of a row beside ρ: |X| rounded up, by less than 2^-9 of it, and e_x, which together are n_x at least;
// a_x.
struct RowLengths {
  float norm;
  float error;
  float steps_norm;
};

// Of the codewords of a stage: θ₀ rounded down, the least n_k, the least and the largest e_k, the largest e_k/n_k, and
// the least γ·a_k, zero of limbs.
struct CodewordErrors {
  float row_rounding;
  float least_norm;
  float least;
  float largest;
  float relative;
  float least_of_sum;
};

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

// Half of that part of the width between the ends that does not grow with the row: γ_h·H_k, here from the start, and
// what the last step loses of s; and 2^-11, more than what the limbs of a start are too large. H_k is more than 1.01 of
// the start only of codewords most of which is rounded away, and that is far less than 2^-11 then.
RVQ_HOST_DEVICE inline float shifted_width(const CodewordBound& bound, float largest) {
  return -bound.start * norm_rounding(true) * 1.01f + kShiftRounding * shift_start(largest) + 0x1p-11f;
}

// What is added to upper ends of a row, rounded up; `slope` is c as the slots hold it.
RVQ_HOST_DEVICE inline float added_shift(float radius, float slope, float largest) {
  return (slope * radius + shift_start(largest)) * (1 + 0x1p-20f);
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
// Ŝ_k = T·2^16/(q·g) − h_k − b_k. Measured, not assumed: e_x = |v/q − X|, e_k = |w/g − C_k| and the norms l_x and l_k
// of the low limbs over q and g. Then
//   v/q and w/g are in the place of x̂/q and ĉ_k above;
//   |T·2^16 − v·w| ≤ |low·low| + 2^15: l_x·l_k + 2^15/(q·g) more;
//   2^16/(q·g) is off by less than 5·2^-24 of itself, and two multiply-adds round: kLimbRounding·n_x·(n_k + e_k) is
//   more; h_k + b_k as above, γ_h = 2^-21 of H_k.
// So bounds are ρ·g_k + γ_h·H_k, where g_k = η₀·n_k + e_k + 2^8·η₀·l_k + u₀·2^15/g + kLimbRounding·(n_k + e_k) belongs
// to the codeword and ρ = max(n_x, e_x/η₀, l_x/(2^8·η₀), 1/(q·u₀)) to the row. Any η₀ and u₀ are correct; they are of a
// row as peaky as the codewords are in the mean, whose roundings are evenly spread (limb_row).
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
  double start = bound_start(double{norm_rounding(false)}, sums);
  return {static_cast<float>(start), static_cast<float>((slope + kFloor) * kInflation)};
}

}  // namespace rvq::cuda

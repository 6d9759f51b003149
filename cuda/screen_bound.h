// How far the tensor-core screen's score can be from what decides the search, and the proof. Host and device.
//
// The screen's space, of one stage. C_k,i = p·a_i·(c_k,i − m_i), with a_i = sqrt(weight_i), m a float32 vector near the
// codewords' mean and p a power of two that brings the largest |C_k,i| into [2^7, 2^8). X likewise from a row. Exactly:
// the nearest codeword has the largest S_k = X·C_k − h_k, h_k = ½|C_k|².
//
// What is computed. x̂ = float16(q·X), with q = 1, or for rows far out a smaller power of two; ĉ_k = float16(C_k). The
// tensor cores sum x̂·ĉ_k; the score is Ŝ_k = (x̂·ĉ_k)/q − h_k in float32. Measured, not assumed: e_x = |x̂ − q·X|/q and
// e_k = |ĉ_k − C_k|. With n_x ≥ |x̂|/q, |X| ≤ n_x + e_x and n_k ≥ |C_k|:
//   |x̂·ĉ_k/q − X·C_k| ≤ e_x·n_k + n_x·e_k                                                      (Cauchy and Schwarz)
//   the sum on the tensor cores is off by at most γ·n_x·(n_k + e_k). Products of float16 are exact; they are aligned to
//     the largest of 16 and the running sum and cut off below 24 bits of it (Turing to Ada; 25 on Hopper), so a step of
//     16 loses at most 17·2^-23 of Σ|x̂_i·ĉ_k,i|, and D/16 steps D·17/16·2^-23. γ = (D + 16)·2^-22 leaves twice that,
//     and covers the roundings of the two multiply-adds that make the score.
//   h_k and the multiply-adds round h_k: γ_h = 2^-21 of it.
// So |Ŝ_k − S_k| ≤ n_x·(θ·n_k + e_k + γ·(n_k + e_k)) + γ_h·h_k with θ = e_x/n_x ≤ ρ·g_k + γ_h·h_k, where
//   g_k = θ₀·n_k + e_k + γ·(n_k + e_k) belongs to the codeword, ρ = n_x·max(1, θ/θ₀) to the row.
// θ₀ is about what rounding to float16 costs a row (2^-10·0.19); any value is correct.
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
constexpr double kNormRounding = 0x1p-21;        // γ_h

constexpr double kFloor = 0x1p-40;

// γ
inline double product_rounding(int dim) { return (dim + 16) * 0x1p-22; }

// `order`, for both ends together, with room for the roundings of its own evaluation in float32.
RVQ_HOST_DEVICE inline float order_rounding(int dim) { return static_cast<float>((dim / 8 + 32) * 0x1p-52); }

// Dimensions beyond which the bound means little.
constexpr int kMostScreenedDim = 1 << 16;

// What a codeword's score starts from and how its bound grows with the row: −h_k + γ_h·h_k and g_k, each rounded up.
struct CodewordBound {
  float start;
  float slope;
};

// From |C_k|² and |ĉ_k − C_k|², exact but for float64's rounding.
inline CodewordBound codeword_bound(int dim, double squared_norm, double squared_error) {
  constexpr double kInflation = 1 + 0x1p-20;
  double norm = std::sqrt(squared_norm) * kInflation;
  double error = std::sqrt(squared_error) * kInflation;
  double gamma = product_rounding(dim);
  double slope = kRowRounding * norm + error + gamma * (norm + error) + kFloor;
  double start = -0.5 * squared_norm * (1 - kNormRounding);
  return {static_cast<float>(start), static_cast<float>(slope * kInflation)};
}

}  // namespace rvq::cuda

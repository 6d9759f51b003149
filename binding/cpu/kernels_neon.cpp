// The kernels for 64-bit ARM: 32 registers of 4 float32.

#include <arm_neon.h>

#include "kernels.h"

namespace rvq::cpu {
namespace neon {

typedef float Floats __attribute__((vector_size(16)));
typedef float HalfFloats __attribute__((vector_size(8)));
typedef double Doubles __attribute__((vector_size(16)));
typedef float Group __attribute__((vector_size(4 * kGroupCodewords)));
typedef Floats Part;

constexpr size_t kLanes = 4;
// 4 × 4 sums, 4 registers of rows and a codeword: enough sums for four pipes of latency four.
constexpr int kTileRegisters = 4;
constexpr int kTileCodewords = 4;

// 4 × 4 sums and 4 registers of weights: 20 of the 32 registers.
constexpr size_t kProjectedRows = 4;

static inline Floats broadcast(float x) { return (Floats)vdupq_n_f32(x); }
static inline Floats fused(Floats a, Floats b, Floats c) {
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
static inline Floats larger(Floats a, Floats b) { return (Floats)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
static inline Floats smaller(Floats a, Floats b) { return (Floats)vminq_f32((float32x4_t)a, (float32x4_t)b); }
static inline unsigned reaches(Floats a, Floats b) {
  const uint32_t bit[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(vcgeq_f32((float32x4_t)a, (float32x4_t)b), vld1q_u32(bit)));
}

static inline Floats interleave_low(Floats a, Floats b) { return (Floats)vzip1q_f32((float32x4_t)a, (float32x4_t)b); }
static inline Floats interleave_high(Floats a, Floats b) { return (Floats)vzip2q_f32((float32x4_t)a, (float32x4_t)b); }

static inline Part broadcast_part(float x) { return broadcast(x); }
static inline Part fused_part(Part a, Part b, Part c) { return fused(a, b, c); }

static inline Doubles fused_doubles(Doubles a, Doubles b, Doubles c) {
  return (Doubles)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
static inline Doubles broadcast_double(double x) { return (Doubles)vdupq_n_f64(x); }

#include "peak_kernels.h"
#include "screen_kernels.h"
#ifdef RVQ_TESTING
#include "measuring_kernels.h"
#endif
// Each needs what is above it.
#include "exact_kernels.h"
// Likewise.
#include "project_kernels.h"
// Likewise.
#include "near_kernels.h"

}  // namespace neon

extern const Kernels kNeonKernels = neon::table("neon", nullptr, nullptr);

}  // namespace rvq::cpu

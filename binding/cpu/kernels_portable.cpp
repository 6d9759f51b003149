// The kernels for every processor: vectors of 4 float32 in whatever the compiler has for them, no fused multiply-add.

#include "kernels.h"

namespace rvq::cpu {
namespace portable {

typedef float Floats __attribute__((vector_size(16)));
typedef float HalfFloats __attribute__((vector_size(8)));
typedef double Doubles __attribute__((vector_size(16)));
typedef float Group __attribute__((vector_size(4 * kGroupCodewords)));
typedef Floats Part;

constexpr size_t kLanes = 4;
// 2 × 4 sums, 2 registers of rows, a codeword and a product: fits the 16 registers of x86-64.
constexpr int kTileRegisters = 2;
constexpr int kTileCodewords = 4;

static inline Floats broadcast(float x) { return Floats{x, x, x, x}; }
static inline Floats fused(Floats a, Floats b, Floats c) { return a * b + c; }
static inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
static inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
static inline unsigned reaches(Floats a, Floats b) {
  auto mask = a >= b;
  return (mask[0] & 1u) | (mask[1] & 2u) | (mask[2] & 4u) | (mask[3] & 8u);
}

static inline Floats interleave_low(Floats a, Floats b) { return Floats{a[0], b[0], a[1], b[1]}; }
static inline Floats interleave_high(Floats a, Floats b) { return Floats{a[2], b[2], a[3], b[3]}; }

static inline Part broadcast_part(float x) { return broadcast(x); }
static inline Part fused_part(Part a, Part b, Part c) { return fused(a, b, c); }

#include "screen_kernels.h"
#ifdef RVQ_TESTING
#include "measuring_kernels.h"
#endif
// Each needs what is above it.
#include "exact_kernels.h"
#include "near_kernels.h"

}  // namespace portable

extern const Kernels kPortableKernels = portable::table("portable", nullptr, nullptr);

}  // namespace rvq::cpu

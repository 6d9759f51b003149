// The kernels for x86 processors with AVX2 and FMA: 16 registers of 8 float32.

#include <immintrin.h>

#include "kernels.h"

namespace rvq::cpu {
namespace avx2 {

typedef float Floats __attribute__((vector_size(32)));
typedef float HalfFloats __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef float Group __attribute__((vector_size(4 * kGroupCodewords)));
typedef Floats Part;

constexpr size_t kLanes = 8;
// 3 × 4 sums, 3 registers of rows and a codeword: all of the 16 registers.
constexpr int kTileRegisters = 3;
constexpr int kTileCodewords = 4;
constexpr size_t kIntegerCodewords = 4;
constexpr size_t kFewestIntegerDims = 16;  // Measured at 4 … 32 dimensions, 16 … 1024 codewords.

static inline Floats broadcast(float x) { return _mm256_set1_ps(x); }
static inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
static inline Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
static inline unsigned reaches(Floats a, Floats b) {
  return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}

static inline Floats interleave_low(Floats a, Floats b) {
  return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
static inline Floats interleave_high(Floats a, Floats b) {
  return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}

static inline Part broadcast_part(float x) { return broadcast(x); }
static inline Part fused_part(Part a, Part b, Part c) { return fused(a, b, c); }

static inline Ints to_integers(Floats x) { return (Ints)_mm256_cvtps_epi32(x); }
// In assembly, to keep the rows in memory: with them in registers GCC spills a sum.
static inline void add_dots(Ints& sums, const uint32_t* a, Ints b) {
  Ints products;
  asm("vpmaddwd %1, %2, %0" : "=x"(products) : "m"(*(const __m256i*)a), "x"(b));
  sums = (Ints)_mm256_add_epi32((__m256i)sums, (__m256i)products);
}

#include "screen_kernels.h"
// Each needs what is above it.
#include "exact_kernels.h"
#include "integer_kernels.h"

}  // namespace avx2

extern const Kernels kAvx2Kernels = avx2::table("avx2", &avx2::kIntegerKernels);

}  // namespace rvq::cpu

// The kernels for x86 processors with AVX2 and FMA: 16 registers of 8 float32.

#include <immintrin.h>

#include "kernels.h"

namespace rvq::cpu {
namespace avx2 {

typedef float Floats __attribute__((vector_size(32)));
typedef float HalfFloats __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(sizeof(Floats))));
typedef float Group __attribute__((vector_size(4 * kGroupCodewords)));
typedef Floats Part;

constexpr size_t kLanes = 8;
// 3 × 4 sums, 3 registers of rows and a codeword: all of the 16 registers.
constexpr int kTileRegisters = 3;
constexpr int kTileCodewords = 4;
constexpr size_t kIntegerCodewords = 4;
constexpr size_t kByteCodewords = 4;
constexpr int kLargestByte = 90;
constexpr size_t kByteBlockWords = 16;
constexpr size_t kFewestByteDims = 64;
// Zen 3 and Zen 4.
constexpr ByteCosts kByteCosts = {0.45, 1.0 / 45, 40, 40, 0.5};
// Measured at 4 … 32 dimensions, 16 … 1024 codewords.
constexpr size_t kFewestUniformDims = 6;
constexpr size_t kFewestIntegerDims = 16;

// 6 × 2 sums, 2 registers of weights and an element: 15 of the 16 registers.
constexpr size_t kProjectedRows = 6;

static inline Floats broadcast(float x) { return _mm256_set1_ps(x); }
static inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
static inline Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
static inline Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
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

static inline Doubles fused_doubles(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
static inline Doubles broadcast_double(double x) { return _mm256_set1_pd(x); }

static inline Ints to_integers(Floats x) { return (Ints)_mm256_cvtps_epi32(x); }
// Two registers of rows are kept, a third is read from memory each time: 12 sums, 2 rows, a codeword and a product are
// all of the 16 registers, and the loads stay below the two a cycle that there are. In assembly, lest GCC load the
// third too and spill a sum.
static inline void add_dots(Ints& sums, const uint32_t* a, Ints b, int place) {
  __m256i products;
  if (place < 2) {
    products = _mm256_madd_epi16(_mm256_load_si256((const __m256i*)a), (__m256i)b);
  } else {
    asm("vpmaddwd %1, %2, %0" : "=x"(products) : "m"(*(const __m256i*)a), "x"(b));
  }
  sums = (Ints)_mm256_add_epi32((__m256i)sums, products);
}

// 12 sums, two registers of rows, a codeword and a product are all of the 16 registers; the third register of rows is a
// memory operand. In assembly, a codeword at a time: GCC multiplies ahead otherwise, and spills the sums.
template <int kRegisters>
struct ByteRows {
  const __m256i* rows;
  __m256i first;
  __m256i second;

  explicit ByteRows(const uint32_t* address) : rows((const __m256i*)address), first(rows[0]), second(first) {
    if (kRegisters > 1) second = rows[1];
  }
  void add(Ints (&sums)[kRegisters], const uint32_t* codeword) const {
    __m256i bytes;
    __m256i products;
    if constexpr (kRegisters == 1) {
      asm("vpbroadcastd %3, %1\n\t"
          "vpmaddubsw %4, %1, %2\n\tvpaddw %2, %0, %0"
          : "+x"(sums[0]), "=&x"(bytes), "=&x"(products)
          : "m"(*codeword), "x"(first));
    } else if constexpr (kRegisters == 2) {
      asm("vpbroadcastd %4, %2\n\t"
          "vpmaddubsw %5, %2, %3\n\tvpaddw %3, %0, %0\n\t"
          "vpmaddubsw %6, %2, %3\n\tvpaddw %3, %1, %1"
          : "+x"(sums[0]), "+x"(sums[1]), "=&x"(bytes), "=&x"(products)
          : "m"(*codeword), "x"(first), "x"(second));
    } else {
      asm("vpbroadcastd %5, %3\n\t"
          "vpmaddubsw %6, %3, %4\n\tvpaddw %4, %0, %0\n\t"
          "vpmaddubsw %7, %3, %4\n\tvpaddw %4, %1, %1\n\t"
          "vpmaddubsw %8, %3, %4\n\tvpaddw %4, %2, %2"
          : "+x"(sums[0]), "+x"(sums[1]), "+x"(sums[2]), "=&x"(bytes), "=&x"(products)
          : "m"(*codeword), "x"(first), "x"(second), "m"(rows[2]));
    }
  }
};
static inline Ints widen(Ints sums) { return (Ints)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1)); }

typedef Ints GroupInts;

// In assembly: GCC multiplies ahead otherwise, and spills a product.
static inline void add_pairs(GroupInts& sums, const uint32_t* codewords, uint32_t row) {
  __m256i products;
  asm("vpmaddwd %2, %1, %0" : "=x"(products) : "x"(_mm256_set1_epi32((int)row)), "m"(*(const GroupInts*)codewords));
  sums = (Ints)_mm256_add_epi32((__m256i)sums, products);
}
static inline void add_quadruples(GroupInts&, const uint32_t*, uint32_t) {}

#include "peak_kernels.h"
#include "screen_kernels.h"
#ifdef RVQ_TESTING
#include "measuring_kernels.h"
#endif
// Each needs what is above it.
#include "exact_kernels.h"
#include "integer_kernels.h"
// Likewise.
#include "uniform_kernels.h"
// Likewise.
#include "byte_kernels.h"
#include "integer_row_kernels.h"
// Likewise.
#include "project_kernels.h"
// Likewise.
#include "near_kernels.h"

}  // namespace avx2

extern const Kernels kAvx2Kernels = avx2::table("avx2", &avx2::kIntegerKernels, &avx2::kByteKernels);

}  // namespace rvq::cpu

// The kernels for x86 processors with AVX-512 (F, VL, DQ, BW), with and without VNNI: 32 registers of 16 float32.

#ifdef RVQ_EMULATE_AVX512
#include "emulated_avx512.h"
#else
#include <immintrin.h>
#endif

#include "kernels.h"

namespace rvq::cpu {
namespace avx512 {

typedef float Floats __attribute__((vector_size(64)));
typedef float HalfFloats __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(sizeof(Floats))));
typedef float Group __attribute__((vector_size(4 * kGroupCodewords)));
typedef Group Part;

constexpr size_t kLanes = 16;
// 3 × 4 sums: 3 × 8 would fit, but then the processor cannot look far enough ahead to overlap the products of a tile
// with the comparisons of the one before (D 8: 70 in place of 82 GFLOP/s; the same from D 64 on).
constexpr int kTileRegisters = 3;
constexpr int kTileCodewords = 4;
constexpr size_t kIntegerCodewords = 4;
constexpr size_t kByteCodewords = 8;
constexpr int kLargestByte = 127;
constexpr size_t kByteBlockWords = 0;
constexpr size_t kFewestByteDims = 64;
// Zen 4: one product of 512 bits a cycle; 64 … 768 dimensions, 256 … 65536 codewords.
constexpr ByteCosts kByteCosts = {0.3, 1.0 / 64, 40, 40, 0.25};
// Measured at 2 … 32 dimensions, 16 … 1024 codewords.
constexpr size_t kFewestUniformDims = 4;
constexpr size_t kFewestIntegerDims = 16;

// 12 sums: the weights are converted once for so many rows.
constexpr size_t kProjectedRows = 12;

static inline Floats broadcast(float x) { return _mm512_set1_ps(x); }
static inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
static inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
static inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
static inline unsigned reaches(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

static inline Floats interleave_low(Floats a, Floats b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
}
static inline Floats interleave_high(Floats a, Floats b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b);
}

static inline Part broadcast_part(float x) { return _mm256_set1_ps(x); }
static inline Part fused_part(Part a, Part b, Part c) { return _mm256_fmadd_ps(a, b, c); }

static inline Doubles fused_doubles(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
static inline Doubles broadcast_double(double x) { return _mm512_set1_pd(x); }

static inline Ints to_integers(Floats x) { return (Ints)_mm512_cvtps_epi32(x); }
// In assembly: GCC 12 spills sums that are written by the intrinsic, which costs half the speed; and this file is not
// compiled for VNNI, so that its other functions run without.
static inline void add_dots(Ints& sums, const uint32_t* a, Ints b, int) {
#ifdef RVQ_EMULATE_AVX512
  sums = (Ints)_mm512_dpwssd_epi32((__m512i)sums, _mm512_load_si512(a), (__m512i)b);
#else
  asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(_mm512_load_si512(a)), "v"(b));
#endif
}

template <int kRegisters>
struct ByteRows {
  __m512i rows[kRegisters];

  explicit ByteRows(const uint32_t* address) {
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; r++) rows[r] = _mm512_load_si512(address + r * kLanes);
  }
  // In assembly for the reasons above; a codeword at a time, else GCC reorders and moves sums about.
  void add(Ints (&sums)[kRegisters], const uint32_t* codeword) const {
#ifdef RVQ_EMULATE_AVX512
    __m512i bytes = _mm512_set1_epi32((int)*codeword);
    for (int r = 0; r < kRegisters; r++) sums[r] = (Ints)_mm512_dpbusd_epi32((__m512i)sums[r], bytes, rows[r]);
#else
    __m512i bytes;
    if constexpr (kRegisters == 1) {
      asm("vpbroadcastd %2, %1\n\tvpdpbusd %3, %1, %0" : "+v"(sums[0]), "=&v"(bytes) : "m"(*codeword), "v"(rows[0]));
    } else if constexpr (kRegisters == 2) {
      asm("vpbroadcastd %3, %2\n\tvpdpbusd %4, %2, %0\n\tvpdpbusd %5, %2, %1"
          : "+v"(sums[0]), "+v"(sums[1]), "=&v"(bytes)
          : "m"(*codeword), "v"(rows[0]), "v"(rows[1]));
    } else {
      asm("vpbroadcastd %4, %3\n\tvpdpbusd %5, %3, %0\n\tvpdpbusd %6, %3, %1\n\tvpdpbusd %7, %3, %2"
          : "+v"(sums[0]), "+v"(sums[1]), "+v"(sums[2]), "=&v"(bytes)
          : "m"(*codeword), "v"(rows[0]), "v"(rows[1]), "v"(rows[2]));
    }
#endif
  }
};
static inline Ints widen(Ints sums) { return sums; }

typedef int32_t GroupInts __attribute__((vector_size(4 * kGroupCodewords)));

// In assembly for the reasons above.
static inline void add_pairs(GroupInts& sums, const uint32_t* codewords, uint32_t row) {
#ifdef RVQ_EMULATE_AVX512
  sums = (GroupInts)_mm256_dpwssd_epi32((__m256i)sums, _mm256_load_si256((const __m256i*)codewords),
                                        _mm256_set1_epi32((int)row));
#else
  asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(_mm256_set1_epi32((int)row)), "m"(*(const GroupInts*)codewords));
#endif
}
static inline void add_quadruples(GroupInts& sums, const uint32_t* codewords, uint32_t row) {
#ifdef RVQ_EMULATE_AVX512
  sums = (GroupInts)_mm256_dpbusd_epi32((__m256i)sums, _mm256_load_si256((const __m256i*)codewords),
                                        _mm256_set1_epi32((int)row));
#else
  asm("vpdpbusd %2, %1, %0"
      : "+v"(sums)
      : "v"(_mm256_load_si256((const __m256i*)codewords)), "v"(_mm256_set1_epi32((int)row)));
#endif
}

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

}  // namespace avx512

extern const Kernels kAvx512Kernels = avx512::table("avx512", nullptr, nullptr);
extern const Kernels kAvx512VnniKernels = avx512::table("avx512vnni", &avx512::kIntegerKernels, &avx512::kByteKernels);

}  // namespace rvq::cpu

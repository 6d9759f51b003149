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
// 6 × 2 sums, 2 codewords and 2 products: all of the 16 registers of x86-64.
constexpr int kTileRegisters = 6;
constexpr int kTileCodewords = 2;

// 2 × 4 sums, 4 registers of weights, an element and a product: 14 of the 16 registers.
constexpr size_t kProjectedRows = 2;

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

static inline Doubles fused_doubles(Doubles a, Doubles b, Doubles c) { return a * b + c; }
static inline Doubles broadcast_double(double x) { return Doubles{x, x}; }

#if defined(__x86_64__)
#define RVQ_OWN_PRODUCTS
// In assembly, as what binds is not arithmetic but instructions: a codeword goes to all lanes with one (a shuffle of
// float32 would need a load of its own), a row is copied once for two products, and no sum is spilled.
template <int kRegisters, int kCodewords>
static inline void add_products(const float* x, const float* y, size_t first, Floats (&sums)[kCodewords][kRegisters]) {
#pragma GCC unroll 4
  for (int c = 0; c < kCodewords; c += 2) {
    Floats even;
    Floats odd;
    const Floats& four = *(const Floats*)(y + (first + c) / kLanes * kLanes);
    if ((first + c) % kLanes == 0) {
      asm("pshufd $0x00, %1, %0" : "=x"(even) : "m"(four));
      asm("pshufd $0x55, %1, %0" : "=x"(odd) : "m"(four));
    } else {
      asm("pshufd $0xaa, %1, %0" : "=x"(even) : "m"(four));
      asm("pshufd $0xff, %1, %0" : "=x"(odd) : "m"(four));
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRegisters; r++) {
      Floats a;
      Floats b;
      asm("movaps %4, %2\n\tmovaps %2, %3\n\t"
          "mulps %5, %2\n\taddps %2, %0\n\t"
          "mulps %6, %3\n\taddps %3, %1"
          : "+x"(sums[c][r]), "+x"(sums[c + 1][r]), "=&x"(a), "=&x"(b)
          : "m"(*(const Floats*)(x + r * kLanes)), "x"(even), "x"(odd));
    }
  }
}
#endif

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

}  // namespace portable

extern const Kernels kPortableKernels = portable::table("portable", nullptr, nullptr);

}  // namespace rvq::cpu

// Products of the tensor cores on the processor, from the operands that all threads of a warp hold.

#include "products.h"

#include <cuda_fp16.h>

#include <algorithm>
#include <bit>
#include <vector>

namespace {

constexpr int kRows = 16;
constexpr int kColumns = 8;
constexpr int kDepth = 16;

// Of all float16: their conversion is most of what a product costs otherwise.
const float* float_of_halves() {
  static const std::vector<float> floats = [] {
    std::vector<float> all(1 << 16);
    for (uint32_t bits = 0; bits < all.size(); bits++) all[bits] = __half2float({static_cast<uint16_t>(bits)});
    return all;
  }();
  return floats.data();
}

// A number of each column.
using Floats [[gnu::vector_size(kColumns * 4)]] = float;
using Integers [[gnu::vector_size(kColumns * 4)]] = int32_t;

// sums[n] = Σ addends[…][n]. All of them are cut off below 24 bits of the largest, and so is the sum, as on Turing to Ada.
void add_cut_off(const Floats (&addends)[kDepth + 1], float (&sums)[kColumns]) {
  Integers largest = {};
  Floats plain = {};
  for (const Floats& some : addends) {
    Integers magnitude = std::bit_cast<Integers>(some) & 0x7fffffff;
    largest = largest < magnitude ? magnitude : largest;
    plain += some;
  }
  // The largest is below 2^exponent; of the tiniest fewer bits are left.
  Integers exponent = (largest >> 23) - 126;
  exponent = exponent < -102 ? -102 : exponent > 126 ? 126 : exponent;
  Integers scale = (127 + 24 - exponent) << 23;
  Integers unit = (127 - 24 + exponent) << 23;
  // What is not finite comes to nothing of use, and is not used.
  Integers total = {};
  for (const Floats& some : addends) {
    total += __builtin_convertvector(some * std::bit_cast<Floats>(scale), Integers);
  }
  for (int n = 0; n < kColumns; n++) {
    auto bits = static_cast<uint32_t>(total[n]);
    uint32_t magnitude = total[n] < 0 ? 0 - bits : bits;
    int dropped = std::max(0, 32 - 24 - __builtin_clz(magnitude | 1));
    float kept = static_cast<float>(magnitude >> dropped << dropped) * __int_as_float(unit[n]);
    float rounded = total[n] < 0 ? -kept : kept;
    sums[n] = std::isfinite(plain[n]) ? rounded : plain[n];
  }
}

float float_of(uint64_t word, int place) { return __uint_as_float(static_cast<uint32_t>(word >> (32 * place))); }

// The thread with `group` = lane / 4 and `in_group` = lane % 4 has of `a` the columns 2·in_group and 2·in_group + 1 of row
// `group`, then of row group + 8, then both again eight columns further; of `b` the rows 2·in_group and 2·in_group + 1 of
// column `group`, then eight rows further. Of the sums it has row `group`, columns 2·in_group and 2·in_group + 1, then
// row group + 8.
void multiply(emulation::Words* all) {
  const float* floats = float_of_halves();
  auto half_of = [floats](uint64_t registers, int place) { return floats[registers >> (16 * place) & 0xffff]; };
  float a[kRows][kDepth];
  Floats b[kDepth];
  for (int k = 0; k < kDepth; k++) {
    for (int m = 0; m < kRows; m++) {
      a[m][k] = half_of(all[m % 8 * 4 + k % 8 / 2].word[k / 8], m / 8 * 2 + k % 2);
    }
    for (int n = 0; n < kColumns; n++) b[k][n] = half_of(all[n * 4 + k % 8 / 2].word[2], k / 8 * 2 + k % 2);
  }
  Floats addends[kDepth + 1];
  float sums[kColumns];
  for (int m = 0; m < kRows; m++) {
    auto place = [&](int n) -> uint64_t& { return all[m % 8 * 4 + n / 2].word[3 + m / 8]; };
    // A product of two float16 is exact in float32.
    for (int k = 0; k < kDepth; k++) addends[k] = a[m][k] * b[k];
    for (int n = 0; n < kColumns; n++) addends[kDepth][n] = float_of(place(n), n % 2);
    add_cut_off(addends, sums);
    for (int n = 0; n < kColumns; n += 2) {
      place(n) = __float_as_uint(sums[n]) | uint64_t{__float_as_uint(sums[n + 1])} << 32;
    }
  }
}

// The same of bytes: of `a` the thread has four columns from 4·in_group on of row `group`, then of row group + 8, then both
// again sixteen columns further; of `b` four rows from 4·in_group on of column `group`, then sixteen rows further.
void multiply_bytes(emulation::Words* all) {
  constexpr int kBytes = 32;
  auto byte_of = [](uint64_t registers, int place) { return static_cast<int8_t>(registers >> (8 * place)); };
  for (int m = 0; m < kRows; m++) {
    for (int n = 0; n < kColumns; n++) {
      uint64_t& sums = all[m % 8 * 4 + n / 2].word[3 + m / 8];
      auto sum = static_cast<uint32_t>(sums >> (32 * (n % 2)));
      for (int k = 0; k < kBytes; k++) {
        int in_group = k % 16 / 4;
        int a = byte_of(all[m % 8 * 4 + in_group].word[k / 16], m / 8 * 4 + k % 4);
        int b = byte_of(all[n * 4 + in_group].word[2], k / 16 * 4 + k % 4);
        sum += static_cast<uint32_t>(a * b);
      }
      uint64_t other = n % 2 == 0 ? sums >> 32 << 32 : sums & 0xffffffff;
      sums = other | uint64_t{sum} << (32 * (n % 2));
    }
  }
}

uint64_t pair(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }

}  // namespace

void emulation::multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Words own{{pair(a[0], a[1]), pair(a[2], a[3]), pair(b[0], b[1]), pair(__float_as_uint(sums[0]), __float_as_uint(sums[1])),
             pair(__float_as_uint(sums[2]), __float_as_uint(sums[3]))}};
  const Words& done = exchange(0xffffffff, own, multiply)[lane()];
  for (int i = 0; i < 4; i++) sums[i] = float_of(done.word[3 + i / 2], i % 2);
}

void emulation::multiply_add(int (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  auto word = [&](int i) { return pair(static_cast<uint32_t>(sums[i]), static_cast<uint32_t>(sums[i + 1])); };
  Words own{{pair(a[0], a[1]), pair(a[2], a[3]), pair(b[0], b[1]), word(0), word(2)}};
  const Words& done = exchange(0xffffffff, own, multiply_bytes)[lane()];
  for (int i = 0; i < 4; i++) sums[i] = static_cast<int>(done.word[3 + i / 2] >> (32 * (i % 2)));
}

// Products of the tensor cores on the processor, from the operands that all threads of a warp hold.

#include "products.h"

#include <cuda_fp16.h>

#include <algorithm>
#include <vector>

namespace {

// Products of sixteen pairs and the sum so far: all are cut off below 24 bits of the largest, as on Turing to Ada.
constexpr int kAddends = 17;

float cut_off_sum(const float (&addends)[kAddends]) {
  float largest = 0;
  for (float addend : addends) largest = std::max(largest, std::fabs(addend));
  // Also where something is not finite.
  if (!(largest > 0 && largest < INFINITY)) {
    float sum = 0;
    for (float addend : addends) sum += addend;
    return sum;
  }
  int exponent = 0;
  std::frexp(largest, &exponent);
  double units = std::ldexp(1.0, 24 - exponent);
  int64_t sum = 0;
  for (float addend : addends) sum += static_cast<int64_t>(addend * units);
  // Down to float32's own 24 bits, towards zero.
  int64_t magnitude = sum < 0 ? -sum : sum;
  int dropped = std::max(0, 64 - 24 - __builtin_clzll(static_cast<uint64_t>(magnitude) | 1));
  magnitude = magnitude >> dropped << dropped;
  return static_cast<float>(static_cast<double>(sum < 0 ? -magnitude : magnitude) / units);
}

// Every float16.
const std::vector<float>& floats() {
  static const std::vector<float> floats = [] {
    std::vector<float> values(65536);
    for (size_t i = 0; i < values.size(); i++) values[i] = __half2float({static_cast<uint16_t>(i)});
    return values;
  }();
  return floats;
}

float half_of(uint64_t registers, int place) { return floats()[registers >> (16 * place) & 0xffff]; }

}  // namespace

void emulation::multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Words own{{a[0] | uint64_t{a[1]} << 32, a[2] | uint64_t{a[3]} << 32, b[0] | uint64_t{b[1]} << 32}};
  const Words* all = exchange(0xffffffff, own);
  // The thread with `group` = lane / 4 and `in_group` = lane % 4 has of `a` the columns 2·in_group and 2·in_group + 1 of row
  // `group`, then of row group + 8, then both again eight columns further; of `b` the rows 2·in_group and 2·in_group + 1
  // of column `group`, then eight rows further. Of the sums it has row `group`, columns 2·in_group and 2·in_group + 1,
  // then row group + 8.
  int group = static_cast<int>(lane() / 4);
  int in_group = static_cast<int>(lane() % 4);
  float rows[2][16];
  float columns[2][16];
  for (int k = 0; k < 16; k++) {
    int holder = k % 8 / 2;
    for (int i = 0; i < 2; i++) {
      rows[i][k] = half_of(all[group * 4 + holder].word[k / 8], i * 2 + k % 2);
      columns[i][k] = half_of(all[(in_group * 2 + i) * 4 + holder].word[2], k / 8 * 2 + k % 2);
    }
  }
  for (int i = 0; i < 4; i++) {
    float addends[kAddends];
    // A product of two float16 is exact in float32.
    for (int k = 0; k < 16; k++) addends[k] = rows[i / 2][k] * columns[i % 2][k];
    addends[16] = sums[i];
    sums[i] = cut_off_sum(addends);
  }
}

// The inner loop that says what the processor can do at most: the roof that searches are measured against.
//
// Included by every kernels_<level>.cpp, with the rules of screen_kernels.h.

// Multiply-adds that wait for nothing but themselves: enough sums for two pipes of a latency of six, or four of four.
constexpr size_t kPeakSums = 14 > kTileRegisters* kTileCodewords ? 14 : kTileRegisters* kTileCodewords;

static float multiply_adds(size_t rounds) {
  // Different sums, or the compiler would compute only one; each goes to 1, so that no operand is ever subnormal.
  Floats sums[kPeakSums];
#pragma GCC unroll 32
  for (size_t s = 0; s < kPeakSums; s++) sums[s] = broadcast((float)s);
  Floats factor = broadcast(0.5f);
  for (size_t i = 0; i < rounds; i++) {
#pragma GCC unroll 32
    for (size_t s = 0; s < kPeakSums; s++) sums[s] = fused(sums[s], factor, factor);
  }
  float total = 0;
  for (size_t s = 0; s < kPeakSums; s++) total += sums[s][0];
  return total;
}

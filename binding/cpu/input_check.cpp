// What a search refuses: the first row that is not finite or, with the cosine metric, zero.

#include "input_check.h"

#include <algorithm>

namespace rvq::cpu {

bool InputCheck::passes(size_t first_row, size_t count) {
  size_t dim = codebooks_.dim;
  const float* rows = vectors_ + first_row * dim;
  size_t elements = count * dim;
  uint64_t found = kNone;

  size_t at = kernels_.first_not_finite(rows, elements);
  if (at < elements) found = 2 * (first_row * dim + at);
  if (codebooks_.metric == Metric::kCosine) {
    for (size_t r = 0; r < count && 2 * ((first_row + r) * dim) + 1 < found; r++) {
      const float* row = rows + r * dim;
      if (std::all_of(row, row + dim, [](float x) { return x == 0; })) found = 2 * ((first_row + r) * dim) + 1;
    }
  }
  if (found == kNone) return true;

  uint64_t smallest = bad_.load(std::memory_order_relaxed);
  while (found < smallest && !bad_.compare_exchange_weak(smallest, found, std::memory_order_relaxed)) {
  }
  return false;
}

std::optional<BadInput> InputCheck::bad_input() const {
  uint64_t bad = bad_.load(std::memory_order_relaxed);
  if (bad == kNone) return std::nullopt;
  BadInput::Kind kind = bad % 2 == 0 ? BadInput::Kind::kNotFinite : BadInput::Kind::kZero;
  return BadInput{kind, bad / 2 / codebooks_.dim, bad / 2 % codebooks_.dim};
}

}  // namespace rvq::cpu

// What a search refuses: the first row that is not finite or, with the cosine metric, zero.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "codebook.h"
#include "kernels.h"

namespace rvq::cpu {

struct BadInput {
  enum class Kind { kNotFinite, kZero };
  Kind kind;
  uint64_t row;
  uint64_t column;
};

// Shared by the threads of one call.
class InputCheck {
 public:
  // vectors[…][dim]
  InputCheck(const Kernels& kernels, const Codebooks& codebooks, const float* vectors)
      : kernels_(kernels), codebooks_(codebooks), vectors_(vectors) {}

  // False where one of these rows is bad.
  bool passes(size_t first_row, size_t count);

  // After the last block: the first bad row, the same for any number of threads, if blocks are handed out in order and
  // each looks at all of its rows first: every row before a bad one has then been looked at.
  std::optional<BadInput> bad_input() const;

 private:
  const Kernels& kernels_;
  const Codebooks& codebooks_;
  const float* vectors_;
  // Twice the flat index of the first bad element, plus one for a zero row: the smallest wins.
  static constexpr uint64_t kNone = UINT64_MAX;
  std::atomic<uint64_t> bad_{kNone};
};

}  // namespace rvq::cpu

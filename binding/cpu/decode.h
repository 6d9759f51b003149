// Decoding: sums of codewords, one row after the other.

#pragma once

#include <atomic>
#include <cstddef>

#include "../block_feed.h"
#include "codebook.h"
#include "codes.h"
#include "kernels.h"

namespace rvq::cpu {

struct DecodeRequest {
  Codes codes;  // [count][code_stages]
  size_t count;
  size_t code_stages;
  size_t stages;
  float* vectors;  // out [count][dim]
};

// One decode call; `run` is called by every thread that takes part.
class Decode {
 public:
  Decode(const Kernels& kernels, const Codebooks& codebooks, const DecodeRequest& request)
      : kernels_(kernels), codebooks_(codebooks), request_(request) {}

  size_t blocks() const { return (request_.count + kBlockRows - 1) / kBlockRows; }
  double work() const;
  void run(BlockFeed& feed);
  // A code had no codeword; what was decoded is then incomplete.
  bool code_out_of_range() const { return out_of_range_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kBlockRows = 256;
  static constexpr size_t kPointers = 1024;

  const Kernels& kernels_;
  const Codebooks& codebooks_;
  const DecodeRequest request_;
  std::atomic<bool> out_of_range_{false};
};

// The first `stages` codes of each of the rows first … first + count − 1.
struct CodeRows {
  const Codes& codes;  // [rows][code_stages]
  size_t first;
  size_t count;
  size_t code_stages;
  size_t stages;
};

// codewords[count][stages] = the codewords that the codes name; false where one does not exist.
bool look_up(const Codebooks& codebooks, const CodeRows& rows, const float** codewords);

}  // namespace rvq::cpu

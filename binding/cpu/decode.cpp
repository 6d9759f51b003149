// Decoding: looks codewords up and adds them in stage order.

#include "decode.h"

#include <algorithm>
#include <vector>

namespace rvq::cpu {

namespace {

// Stage by stage, for the sake of the loop.
template <typename Code>
bool look_up_in(const Codebooks& codebooks, const CodeRows& rows, const Code* codes, const float** codewords) {
  size_t beyond = 0;
  for (size_t s = 0; s < rows.stages; s++) {
    const Stage& stage = codebooks.stages[s];
    const float* first = stage.codewords.data();
    const Code* code = codes + rows.first * rows.code_stages + s;
    for (size_t row = 0; row < rows.count; row++) {
      size_t k = code[row * rows.code_stages];
      beyond += k >= stage.num_codewords ? 1 : 0;
      codewords[row * rows.stages + s] = first + k * codebooks.padded_dim;
    }
  }
  return beyond == 0;
}

}  // namespace

double Decode::work() const {
  return static_cast<double>(request_.count) * static_cast<double>(request_.stages * codebooks_.dim);
}

void Decode::run(BlockFeed& feed) {
  size_t stages = request_.stages;
  // As many rows at once as leave the pointers in the first-level cache.
  size_t together = std::clamp<size_t>(kPointers / std::max<size_t>(stages, 1), 1, kBlockRows);
  std::vector<const float*> codewords(together * stages);
  while (auto block = feed.next()) {
    size_t end = std::min(request_.count, (*block + 1) * kBlockRows);
    for (size_t first = *block * kBlockRows; first < end; first += together) {
      size_t count = std::min(together, end - first);
      CodeRows rows{request_.codes, first, count, request_.code_stages, stages};
      if (!look_up(codebooks_, rows, codewords.data())) {
        out_of_range_.store(true, std::memory_order_relaxed);
        feed.stop();
        return;
      }
      float* vectors = request_.vectors + first * codebooks_.dim;
      kernels_.decode_rows({codewords.data(), count, stages, codebooks_.dim, vectors});
    }
  }
}

bool look_up(const Codebooks& codebooks, const CodeRows& rows, const float** codewords) {
  const Codes& codes = rows.codes;
  return codes.wide ? look_up_in(codebooks, rows, static_cast<const uint32_t*>(codes.data), codewords)
                    : look_up_in(codebooks, rows, static_cast<const uint16_t*>(codes.data), codewords);
}

}  // namespace rvq::cpu

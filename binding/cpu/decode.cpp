// Decoding: looks codewords up and adds them in stage order.

#include "decode.h"

#include <algorithm>
#include <vector>

namespace rvq::cpu {

double Decode::work() const {
  return static_cast<double>(request_.count) * static_cast<double>(request_.stages * codebooks_.dim);
}

void Decode::run(BlockFeed& feed) {
  std::vector<const float*> codewords(request_.stages);
  while (auto block = feed.next()) {
    size_t end = std::min(request_.count, (*block + 1) * kBlockRows);
    for (size_t row = *block * kBlockRows; row < end; row++) {
      if (!look_up(codebooks_, request_.codes, row * request_.code_stages, request_.stages, codewords.data())) {
        out_of_range_.store(true, std::memory_order_relaxed);
        feed.stop();
        return;
      }
      kernels_.decode_row({codewords.data(), request_.stages, codebooks_.dim, request_.vectors + row * codebooks_.dim});
    }
  }
}

bool look_up(const Codebooks& codebooks, const Codes& codes, size_t first, size_t stages, const float** codewords) {
  for (size_t s = 0; s < stages; s++) {
    const Stage& stage = codebooks.stages[s];
    size_t code = codes.get(first + s);
    if (code >= stage.num_codewords) return false;
    codewords[s] = stage.codewords.data() + code * codebooks.padded_dim;
  }
  return true;
}

}  // namespace rvq::cpu

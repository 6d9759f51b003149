// What a CpuCodebooks object holds and its calls share.

#pragma once

#include <memory>

#include "cpu/codebook.h"
#include "cpu/moved_codewords.h"
#include "cpu_options.h"
#include "requests.h"

namespace rvq {

struct PreparedCodebooks {
  CpuOptions options;
  Shape shape;
  cpu::Codebooks codebooks;
  std::unique_ptr<const cpu::MovedCodewords> moved;  // since the codewords that the preparation was told of

  size_t size_bytes() const { return codebooks.size_bytes() + (moved ? moved->size_bytes() : 0); }
  const cpu::Kernels& kernels() const { return *options.kernels; }
};

}  // namespace rvq

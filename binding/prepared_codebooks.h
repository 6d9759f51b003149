// What a CpuCodebooks object holds and its calls share.

#pragma once

#include "cpu/codebook.h"
#include "cpu_options.h"

namespace rvq {

struct PreparedCodebooks {
  CpuOptions options;
  cpu::Codebooks codebooks;

  const cpu::Kernels& kernels() const { return *options.kernels; }
};

}  // namespace rvq

// What a CudaCodebooks object holds and its calls share.

#pragma once

#include <atomic>
#include <memory>

#include "../cuda/codebooks.h"
#include "cuda_device.h"
#include "requests.h"

namespace rvq {

struct CudaPrepared {
  CudaOptions options;
  Shape shape;
  std::unique_ptr<cuda::Codebooks> codebooks;
  // Codewords have changed on the device since they were packed, or since a call that was to pack them failed. Calls
  // that change codewords or need them packed run one after the other.
  mutable std::atomic<bool> changed = false;
};

}  // namespace rvq

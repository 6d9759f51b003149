// What a CudaCodebooks object holds and its calls share.

#pragma once

#include <memory>

#include "../cuda/codebooks.h"
#include "cuda_device.h"
#include "requests.h"

namespace rvq {

struct CudaPrepared {
  CudaOptions options;
  Shape shape;
  std::unique_ptr<cuda::Codebooks> codebooks;
  // Codewords have changed on the device since they were packed. Of the JavaScript thread.
  mutable bool changed = false;
};

}  // namespace rvq

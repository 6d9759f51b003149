// What a CudaCodebooks object holds and its calls share.

#pragma once

#include <memory>

#include "../cuda/codebooks.h"
#include "requests.h"

namespace rvq {

struct CudaPrepared {
  Shape shape;
  std::unique_ptr<const cuda::Codebooks> codebooks;
};

}  // namespace rvq

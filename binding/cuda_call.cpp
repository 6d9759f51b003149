// Turns an operation on rows of the CUDA core into a call from JavaScript.

#include "cuda_call.h"

#include <string>

#include "../cuda/failure.h"

namespace rvq {

void with_coded_failures(const std::function<void()>& work) {
  using Kind = cuda::Failure::Kind;
  try {
    work();
  } catch (const cuda::Failure& failure) {
    std::string what = failure.what();
    switch (failure.kind) {
      case Kind::kOutOfMemory:
        throw CodedFailure("OUT_OF_MEMORY", "the device is out of memory (" + what +
                                                "): free memory of other programs, or use backend \"cpu\"");
      case Kind::kDeviceLost:
        throw CodedFailure("DEVICE_LOST", "the device is lost to this process (" + what +
                                              "): start the process again, or use backend \"cpu\"");
      default:
        throw CodedFailure("CUDA", "a CUDA call failed (" + what + "): see `nvidia-smi`, or use backend \"cpu\"");
    }
  }
}

}  // namespace rvq

// Starts kernels; what is wrong with a launch is reported by the launch.

#pragma once

#include <cuda_runtime.h>

#include "failure.h"
#include "lane.h"

namespace rvq::cuda {

struct Launch {
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  cudaStream_t stream;
};

// Runs a call of the runtime that is the first about a kernel, perhaps: it loads the kernel's code, for which the
// device may have no memory. Then it runs once more, when lanes that nobody uses have given theirs back; the first time
// it has done nothing.
template <typename Call>
cudaError_t with_code_loaded(const Call& call) {
  cudaError_t status = call();
  if (status != cudaErrorMemoryAllocation) return status;
  cudaGetLastError();
  release_idle_lanes();
  return call();
}

template <typename... Parameters, typename... Arguments>
void launch(const char* name, const Launch& shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  auto start = [&] {
#ifdef RVQ_EMULATE_CUDA
    return emulation::enqueue_kernel(shape.stream, reinterpret_cast<const void*>(kernel),
                                     {shape.grid, shape.block, shape.shared_bytes},
                                     [=] { kernel(static_cast<Parameters>(arguments)...); });
#else
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = shape.stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
#endif
  };
  // Its own status: the thread's last error may be that of something else.
  check(with_code_loaded(start), name);
}

// The dynamic shared memory of a block, in kernels that are launched with some.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
#ifdef RVQ_EMULATE_CUDA
  return emulation::dynamic_shared();
#else
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
#endif
}

// Blocks of `per_block` that hold `count`; a grid has at most 2^31 − 1 of them.
inline dim3 blocks_for(size_t count, size_t per_block) {
  return dim3(static_cast<unsigned>((count + per_block - 1) / per_block));
}

// Threads of a block in x that walk along a row of `width` elements: a power of two, 256 at most.
inline unsigned threads_along(size_t width) {
  unsigned threads = 1;
  while (threads < width && threads < 256) threads *= 2;
  return threads;
}

}  // namespace rvq::cuda

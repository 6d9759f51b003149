// What cuda/mma.cuh asks of a GPU: products of the tensor cores and asynchronous copies.

#pragma once

#include <cuda_runtime.h>

namespace emulation {

// mma.sync.m16n8k16 of float16 with float32 sums, by all threads of a warp: a[4], b[2] and sums[4] are a thread's parts, as
// the PTX manual has them. What a tensor core leaves of a sum is the worst that cuda/screen_bound.h allows for.
void multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// mma.sync.m16n8k32 of int8 with int32 sums, exactly.
void multiply_add(int (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// cp.async of sixteen bytes: they are there when the thread has waited for the group, and poison before.
void copy_async(void* shared, const void* global);
void end_copy_group();
void wait_for_copies(size_t pending_groups);

}  // namespace emulation

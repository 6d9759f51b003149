// Which operands the screen of mma.sync has on a device: float16, or two int8 limbs (screen_bound.h).

#pragma once

namespace rvq::cuda {

struct TileShape;

// Whether codewords that would be packed as `tile` are packed as limbs. RVQ_CUDA_SCREEN=int8 or float16 in the
// environment says so for tests and benchmarks; else it is so where limbs are quicker.
bool screens_by_limbs(const TileShape& tile, int device);

}  // namespace rvq::cuda

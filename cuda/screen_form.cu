// Which operands the screen of mma.sync has on a device.

#include "screen_form.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "failure.h"
#include "product_test.h"
#include "stage.cuh"

namespace rvq::cuda {

namespace {

// GeForce cards with tensor cores do float16 products with float32 sums at half their rate: three products of int8 take
// three quarters of that time (scripts/predict-cuda.mjs). Others do them at the full rate. lib/cli/roofline.ts has the
// same rule.
bool has_slow_sums(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "device properties");
  int capability = 10 * properties.major + properties.minor;
  bool known = capability == 75 || capability == 86 || capability == 89 || capability == 120;
  return known && std::strstr(properties.name, "GeForce RTX") != nullptr;
}

// Asked of the runtime once for each device.
bool prefers_limbs(int device) {
  static std::mutex mutex;
  // Never destroyed: threads of the pool may ask at the end of the process.
  static auto& known = *new std::map<int, bool>;
  std::lock_guard lock(mutex);
  auto found = known.find(device);
  if (found == known.end()) found = known.emplace(device, has_slow_sums(device)).first;
  return found->second;
}

}  // namespace

bool screens_by_limbs(const TileShape& tile, int device) {
  if (tile.warpgroup || !tile.is_resident() || tile.steps < kFewestLimbSteps) return false;
  const char* wanted = std::getenv("RVQ_CUDA_SCREEN");
  if (wanted != nullptr && std::strcmp(wanted, "float16") == 0) return false;
  bool asked = wanted != nullptr && std::strcmp(wanted, "int8") == 0;
  return (asked || prefers_limbs(device)) && test_products(device).limbs;
}

}  // namespace rvq::cuda

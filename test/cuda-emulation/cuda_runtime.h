// Stands in for CUDA's header in builds for tests on machines without a GPU: the little of the runtime and of the
// device language that cuda/ uses, on the processor. Kernels written with mma, cp.async or wgmma are beyond it.
//
// What it is for: stream order and lifetimes. Nothing that is asynchronous on a device happens before somebody waits
// for it, and then the work of all streams is done in a random order that keeps each stream's own.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Of the thread that runs.
extern thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorMemoryAllocation,
  cudaErrorInsufficientDriver,
  cudaErrorNoDevice,
  cudaErrorInvalidDevice,
  cudaErrorIllegalAddress,
  cudaErrorLaunchTimeout,
  cudaErrorLaunchFailure,
  cudaErrorHardwareStackError,
  cudaErrorIllegalInstruction,
  cudaErrorMisalignedAddress,
  cudaErrorInvalidAddressSpace,
  cudaErrorInvalidPc,
  cudaErrorECCUncorrectable,
  cudaErrorNvlinkUncorrectable,
  cudaErrorDevicesUnavailable,
  cudaErrorAssert,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum { cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };

struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;

struct cudaDeviceProp {
  char name[256];
  int major, minor;
  size_t totalGlobalMem;
  int multiProcessorCount;
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
enum cudaDeviceAttr { cudaDevAttrClockRate, cudaDevAttrMemoryClockRate, cudaDevAttrGlobalMemoryBusWidth };
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end);

namespace emulation {

void enqueue(cudaStream_t stream, std::function<void()> work);
void enqueue_kernel(cudaStream_t stream, dim3 grid, dim3 block, std::function<void()> thread);

// Meets the threads of `mask` of this warp; every thread's value is then in values[lane].
struct Exchange {
  uint64_t values[32];
};
Exchange exchange(unsigned mask, uint64_t value);

template <typename T>
T shuffle(unsigned mask, T value, unsigned from) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  Exchange all = exchange(mask, bits);
  T result;
  std::memcpy(&result, &all.values[from], sizeof result);
  return result;
}

unsigned lane();

}  // namespace emulation

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
  return emulation::shuffle(mask, value, emulation::lane() ^ static_cast<unsigned>(step));
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int from) {
  return emulation::shuffle(mask, value, static_cast<unsigned>(from));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int step) {
  unsigned own = emulation::lane();
  return emulation::shuffle(mask, value, own < static_cast<unsigned>(step) ? own : own - static_cast<unsigned>(step));
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
  emulation::Exchange all = emulation::exchange(mask, vote);
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; i++) {
    if ((mask >> i & 1) != 0 && all.values[i] != 0) votes |= 1u << i;
  }
  return votes;
}

inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Kernels run one at a time.
template <typename T, typename Value>
T atomicAdd(T* at, Value value) {
  T before = *at;
  *at = before + static_cast<T>(value);
  return before;
}
inline unsigned atomicMax(unsigned* at, unsigned value) {
  unsigned before = *at;
  if (value > before) *at = value;
  return before;
}

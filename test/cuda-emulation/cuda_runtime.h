// Stands in for CUDA's header in builds for tests on machines without a GPU: the little of the runtime and of the
// device language that cuda/ uses, on the processor. Products of the tensor cores and asynchronous copies are emulated
// in products.h, those of Hopper in warpgroup.h.
//
// What it is for: results, stream order and lifetimes. Nothing that is asynchronous on a device happens before somebody
// waits for it, and then the work of all streams is done in a random order that keeps each stream's own.

#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "races.h"

#define __global__ static
#define __device__
#define __host__
// Kernels run one at a time, block by block.
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __builtin_assume(...) ((void)0)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Of the thread that runs.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
#ifdef RVQ_FIND_RACES
namespace emulation {
dim3 thread_index();
}
// The variable is written by whoever has a thread go on.
#define threadIdx emulation::thread_index()
#endif

// Numbered as by CUDA.
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorECCUncorrectable = 214,
  cudaErrorNvlinkUncorrectable = 220,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchTimeout = 702,
  cudaErrorContextIsDestroyed = 709,
  cudaErrorAssert = 710,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorMpsClientTerminated = 810,
  cudaErrorExternalDevice = 911,
  cudaErrorUnknown = 999,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum { cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
enum cudaDeviceAttr {
  cudaDevAttrClockRate,
  cudaDevAttrMemoryClockRate,
  cudaDevAttrGlobalMemoryBusWidth,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess };
enum { cudaEnableDefault };
#define CUDART_VERSION 13000

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
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFreeHost(void* data);
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

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** entry, unsigned version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result = nullptr);

namespace emulation {
// That it may have so much dynamic shared memory on this device.
cudaError_t allow_shared_bytes(const void* kernel, int bytes);
}

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int bytes) {
  return emulation::allow_shared_bytes(reinterpret_cast<const void*>(kernel), bytes);
}
template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel*, int, size_t) {
  *blocks = 1;
  return cudaSuccess;
}

namespace emulation {

void enqueue(cudaStream_t stream, std::function<void()> work);

struct Grid {
  dim3 grid, block;
  size_t shared_bytes;
};
cudaError_t enqueue_kernel(cudaStream_t stream, const void* kernel, const Grid& shape, std::function<void()> thread);
// What the device lets a block have: without asking 48 KiB.
size_t allowed_shared_bytes(const void* kernel);

// Dynamic shared memory of the block that runs, aligned to 128.
unsigned char* dynamic_shared();

// What a thread says to others, and what all of them have said, by lane: until this thread's next exchange.
struct Words {
  uint64_t word[5];
};
// Meets the threads of `mask` of this warp. The last to come may combine what all have said, in its place.
const Words* exchange(unsigned mask, const Words& own, void (*combine)(Words* all) = nullptr);
// The same without words, after which all see what each has written.
void meet_warp(unsigned mask);
// Meets all threads of the block, none of which may have ended.
void meet_block();
// Meets so many threads at one of the block's barriers.
void meet_at(int barrier, int threads);
// Until it is true: asked again when others have gone on.
void wait_until(const std::function<bool()>& condition);
// Says that something that others may wait for has happened.
void tell();

unsigned lane();

// Rows, once a stage, whose codes the screen has left open: how many it has, and what a kernel adds.
struct OpenRows {
  size_t compared;
  size_t searched;
};
OpenRows open_rows();
void add_open_rows(int compared, int searched);

template <typename T>
RVQ_NOT_OF_A_KERNEL T shuffle(unsigned mask, T value, unsigned from) {
  static_assert(sizeof value <= sizeof(uint64_t));
  Words own{};
  std::memcpy(&own, &value, sizeof value);
  const Words* all = exchange(mask, own);
  T result;
  std::memcpy(&result, &all[from], sizeof result);
  return result;
}

}  // namespace emulation

inline void __syncthreads() { emulation::meet_block(); }
inline void __syncwarp(unsigned mask = 0xffffffff) { emulation::meet_warp(mask); }

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
RVQ_NOT_OF_A_KERNEL inline unsigned __ballot_sync(unsigned mask, bool vote) {
  const emulation::Words* all = emulation::exchange(mask, {vote});
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; i++) {
    if ((mask >> i & 1) != 0 && all[i].word[0] != 0) votes |= 1u << i;
  }
  return votes;
}
RVQ_NOT_OF_A_KERNEL inline unsigned __match_any_sync(unsigned mask, uint32_t value) {
  const emulation::Words* all = emulation::exchange(mask, {value});
  unsigned same = 0;
  for (unsigned i = 0; i < 32; i++) {
    if ((mask >> i & 1) != 0 && all[i].word[0] == value) same |= 1u << i;
  }
  return same;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline float __double2float_ru(double a) {
  auto nearest = static_cast<float>(a);
  return nearest < a ? std::nextafter(nearest, INFINITY) : nearest;
}
inline long long __double_as_longlong(double x) {
  long long bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline double __longlong_as_double(long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a < b ? b : a; }
inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
inline uint32_t max(uint32_t a, uint32_t b) { return a < b ? b : a; }
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
// Off by two units in the last place, as it may be: up or down, by a bit of the divisor.
inline float __fdividef(float a, float b) { return a / b * (1 + (__float_as_uint(b) & 1 ? 0x1p-22f : -0x1p-22f)); }
inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline int __float_as_int(float x) { return static_cast<int>(__float_as_uint(x)); }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<uint32_t>(bits)); }
inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
  uint64_t bytes = uint64_t{y} << 32 | x;
  uint32_t result = 0;
  for (int i = 0; i < 4; i++) result |= static_cast<uint32_t>(bytes >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return result;
}
inline int __dp4a(int a, int b, int sum) {
  for (int i = 0; i < 32; i += 8) sum += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return sum;
}
inline bool __isGlobal(const void*) { return true; }
template <typename T>
T __ldg(const T* at) {
  return *at;
}

// Of what others change meanwhile.
template <typename T>
T __ldcg(T* at) {
  return std::atomic_ref(*at).load(std::memory_order_relaxed);
}

// They order nothing else.
template <typename T, typename Value>
T atomicAdd(T* at, Value value) {
  return std::atomic_ref(*at).fetch_add(static_cast<T>(value), std::memory_order_relaxed);
}
// Kernels run one at a time, and a thread until it waits for others: nothing comes in between.
template <typename T, typename Value>
T atomicCAS(T* at, Value expected, Value value) {
  T before = static_cast<T>(expected);
  std::atomic_ref(*at).compare_exchange_strong(before, static_cast<T>(value), std::memory_order_relaxed);
  return before;
}
template <typename T, typename Value>
T atomicMin(T* at, Value value) {
  std::atomic_ref<T> all(*at);
  T before = all.load(std::memory_order_relaxed);
  if (static_cast<T>(value) < before) all.store(static_cast<T>(value), std::memory_order_relaxed);
  return before;
}
template <typename T, typename Value>
T atomicMax(T* at, Value value) {
  std::atomic_ref<T> all(*at);
  T before = all.load(std::memory_order_relaxed);
  if (static_cast<T>(value) > before) all.store(static_cast<T>(value), std::memory_order_relaxed);
  return before;
}

// What cuda/wgmma.cuh has of Hopper, on the processor. Products are those of mma.sync, warp by warp, and done at once;
// copies by the bulk engine are done when somebody waits for them, and are poison before.

#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <functional>

namespace emulation::warpgroup {

// Where RVQ_EMULATED_WGMMA is set and not 0.
bool has_warpgroups();

// Of dynamic shared memory: from its start.
uint32_t shared_address(const void* shared);

// A thread's products that are under way: those of the last group, which is not complete, and those before.
void begin_product(std::function<void()> product);
void end_product_group();
void finish_products(size_t pending_groups);

inline void warpgroup_arrive() {}
inline void warpgroup_commit() { end_product_group(); }
template <int kPending>
void warpgroup_wait() {
  finish_products(kPending);
  // A warp waits as one: what one of its threads then tells others is of all of its products.
  if (races::kLooking) meet_warp(~0u);
}
template <int kGroups>
void hold(float (&)[kGroups][4]) {}

// The thread's operand of rows, from that of all of the warpgroup's rows.
uint4 operand_of(uint64_t descriptor);

// Operands in shared memory are read from when a product is begun until it is done.
void tell_of_operand(uint64_t descriptor, int groups);

// Of eight codewords, whose operand a descriptor is of.
void multiply_group(float (&sums)[4], const uint4& rows, uint64_t descriptor, int group);

template <int kGroups>
void warpgroup_multiply(float (&sums)[kGroups][4], const uint4& rows, uint64_t descriptor, bool accumulate) {
  if (!accumulate) std::fill_n(&sums[0][0], kGroups * 4, NAN);
  tell_of_operand(descriptor, kGroups);
  begin_product([&sums, rows, descriptor, accumulate] {
    for (int n = 0; n < kGroups; n++) {
      if (!accumulate) std::fill_n(sums[n], 4, 0.0f);
      multiply_group(sums[n], rows, descriptor, n);
    }
    tell_of_operand(descriptor, kGroups);
  });
}

template <int kGroups>
void warpgroup_multiply_add(float (&sums)[kGroups][4], uint64_t rows, uint64_t descriptor) {
  constexpr int kRowGroups = 8;
  tell_of_operand(rows, kRowGroups);
  tell_of_operand(descriptor, kGroups);
  begin_product([&sums, rows, descriptor] {
    for (int n = 0; n < kGroups; n++) multiply_group(sums[n], operand_of(rows), descriptor, n);
    tell_of_operand(rows, kRowGroups);
    tell_of_operand(descriptor, kGroups);
  });
}

void init_barrier(uint32_t barrier, int arrivals);
void arrive(uint32_t barrier);
bool has_completed(uint32_t barrier, uint32_t phase);
void wait_for_phase(uint32_t barrier, uint32_t phase);
void copy_bulk(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier);
inline void fence_async_proxy() {}

inline uint32_t compare_and_swap(uint32_t place, uint32_t expected, uint32_t value) {
  std::atomic_ref at(*reinterpret_cast<uint32_t*>(dynamic_shared() + place));
  at.compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}

}  // namespace emulation::warpgroup

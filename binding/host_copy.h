// Copies of large arrays in host memory, shared among the threads of the pool.

#pragma once

#include <napi.h>

#include <cstddef>

namespace rvq {

// memcpy by this thread and, where that pays, up to threads − 1 others. What is shared out is written past the caches:
// it is too large to stay there, and a device reads it next or nobody soon.
void copy_bytes(void* to, const void* from, size_t bytes, size_t threads);

// copyElements({ source, target, threads }): target = source, two Float32Array, Uint16Array or Uint32Array of the same
// size, of which each is read or written before this returns. Threads: 1 … 1024.
Napi::Value copy_elements(const Napi::CallbackInfo& info);

}  // namespace rvq

// Gives device memory back where nobody waits for it: freeing ends when all that the device is doing has ended.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

namespace rvq {

// Calls `free`, which must not throw: at once where no asynchronous call is under way, else on a thread for that.
void release(std::function<void()> free) noexcept;

// Owns what is to be released so by whoever lets go of it last.
template <typename T>
std::shared_ptr<const T> released_late(std::unique_ptr<T> object) {
  return {object.release(), [](const T* last) { release([last] { delete last; }); }};
}

// How often memory has been freed on that thread so far.
size_t times_released();

// Until all memory is free that has been let go of: work that begins then finds it. Not on that thread.
void wait_for_releases();

}  // namespace rvq

// What ThreadSanitizer is told of the threads of a kernel, in the build that looks for races (RVQ_FIND_RACES): each is a
// fiber of its own, and only what orders threads on a device orders them: barriers, __syncwarp and the arrivals that
// somebody has seen, but no shuffle, and not the order in which they happen to run. In other builds nothing.

#pragma once

#include <cstddef>

#ifdef RVQ_FIND_RACES

extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* token);
void __tsan_release(void* token);
void __tsan_read_range(void* at, unsigned long bytes);
void __tsan_write_range(void* at, unsigned long bytes);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}

// Of the emulation itself, in headers that kernels include.
#define RVQ_NOT_OF_A_KERNEL __attribute__((no_sanitize("thread")))

namespace emulation::races {

constexpr bool kLooking = true;

inline void* current() { return __tsan_get_current_fiber(); }
inline void* create() { return __tsan_create_fiber(0); }
// Without ordering what the two do.
inline void switch_to(void* fiber) { __tsan_switch_to_fiber(fiber, 1); }

// Who acquires a token comes after all that has been released there.
inline void release(const void* token) { __tsan_release(const_cast<void*>(token)); }
inline void acquire(const void* token) { __tsan_acquire(const_cast<void*>(token)); }

// Of the thread that runs.
inline void read(const void* at, size_t bytes) { __tsan_read_range(const_cast<void*>(at), bytes); }
inline void written(const void* at, size_t bytes) { __tsan_write_range(const_cast<void*>(at), bytes); }

// What is done meanwhile has been told of already.
class Unseen {
 public:
  Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

}  // namespace emulation::races

#else

#define RVQ_NOT_OF_A_KERNEL

namespace emulation::races {

constexpr bool kLooking = false;

inline void* current() { return nullptr; }
inline void* create() { return nullptr; }
inline void switch_to(void*) {}
inline void release(const void*) {}
inline void acquire(const void*) {}
inline void read(const void*, size_t) {}
inline void written(const void*, size_t) {}
struct Unseen {
  Unseen() {}
};

}  // namespace emulation::races

#endif

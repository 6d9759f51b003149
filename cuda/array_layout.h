// Places of several arrays in one piece of memory.

#pragma once

#include <cstddef>

namespace rvq::cuda {

class ArrayLayout {
 public:
  // The offset of an array of so many bytes: aligned to 256, as device memory is.
  size_t add(size_t bytes) {
    constexpr size_t kAlignment = 256;
    size_t offset = size_;
    size_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
};

}  // namespace rvq::cuda

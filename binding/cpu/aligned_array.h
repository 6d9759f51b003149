// An uninitialised array on a cache-line border.

#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace rvq::cpu {

template <typename T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t size)
      : size_(size), data_(static_cast<T*>(::operator new (size * sizeof(T), std::align_val_t{kAlignment}))) {}
  AlignedArray(AlignedArray&& other) noexcept { swap(other); }
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedArray() { ::operator delete (data_, std::align_val_t{kAlignment}); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return size_; }
  size_t size_bytes() const { return size_ * sizeof(T); }

 private:
  static constexpr size_t kAlignment = 64;

  void swap(AlignedArray& other) {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
  }

  size_t size_ = 0;
  T* data_ = nullptr;
};

}  // namespace rvq::cpu

// Codes as callers hold them: 16 or 32 bits each.

#pragma once

#include <cstddef>
#include <cstdint>

namespace rvq::cpu {

struct Codes {
  void* data;
  bool wide;  // uint32_t, else uint16_t
  size_t size;

  uint32_t get(size_t i) const {
    return wide ? static_cast<const uint32_t*>(data)[i] : static_cast<const uint16_t*>(data)[i];
  }
  void set(size_t i, uint32_t code) const {
    if (wide) {
      static_cast<uint32_t*>(data)[i] = code;
    } else {
      static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(code);
    }
  }
};

}  // namespace rvq::cpu

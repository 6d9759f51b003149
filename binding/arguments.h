// Reads the fields of a request. Everything is checked again here, so that no argument can crash the process; the
// messages for people come from lib/.

#pragma once

#include <napi.h>

#include <cstddef>
#include <string>
#include <vector>

#include "cpu/codes.h"

namespace rvq {

// Every reader throws a TypeError that names the field, and may run a getter: pointers that were read before are valid
// once check_left_alone() has passed, for as long as no JavaScript runs that could detach or resize their arrays.
class Arguments {
 public:
  // `value` must be an object.
  explicit Arguments(const Napi::Value& value);

  bool has(const char* name) const { return !get(name).IsUndefined(); }
  size_t size(const char* name) const;
  size_t size_between(const char* name, size_t least, size_t most) const;
  int integer(const char* name) const;
  double number(const char* name) const;
  bool boolean(const char* name) const;
  std::string string(const char* name) const;
  Napi::Array array(const char* name) const;
  Napi::Value value(const char* name) const { return get(name); }
  // An object or undefined.
  Napi::Value object_or_undefined(const char* name) const;

  // At least `length` elements, or null / undefined where that is allowed.
  float* floats(const char* name, size_t length);
  float* floats_or_null(const char* name, size_t length);
  double* doubles(const char* name, size_t length);
  int32_t* integers(const char* name, size_t length);
  uint8_t* bytes(const char* name, size_t length);
  uint32_t* words(const char* name, size_t length);
  cpu::Codes codes(const char* name, size_t length);
  // A Float32Array, Float64Array, Uint16Array or Uint32Array of any length.
  void* numbers(const char* name, size_t* bytes);
  // An array of Float32Arrays of any lengths.
  struct Floats {
    const float* data;
    size_t length;
  };
  std::vector<Floats> float_arrays(const char* name);

  // Throws a TypeError where an array is no longer what was read. Runs no JavaScript.
  void check_left_alone() const;
  // The arrays read so far, all left alone.
  const std::vector<Napi::Object>& arrays() const;

  // Throws where one of these elements of a field, if there are any, is NaN or infinite. Runs no JavaScript.
  void require_finite(const char* name, const float* elements, size_t length) const;

  Napi::TypeError error(const char* name, const std::string& expected) const;

 private:
  Napi::Value get(const char* name) const { return object_.Get(name); }
  void* elements(const char* name, napi_typedarray_type type, size_t length, const char* type_name);

  void remember(const Napi::Value& array, const char* name, const void* data, size_t length);

  // An array when its pointer was taken.
  struct Memory {
    const char* name;  // a literal
    const void* data;
    size_t length;
  };

  Napi::Object object_;
  std::vector<Napi::Object> arrays_;
  std::vector<Memory> memories_;  // theirs
};

// The elements of one Float32Array, Uint16Array or Uint32Array, which need not be a field. Runs no JavaScript.
void* number_elements(const Napi::Value& value, const char* name, size_t* bytes);

// a · b; throws a TypeError where no array can be that long.
size_t product(Napi::Env env, size_t a, size_t b);

}  // namespace rvq

// Reads and checks the fields of a request.

#include "arguments.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "cpu/instruction_set.h"

namespace rvq {

namespace {

constexpr double kLargestInteger = 9007199254740991.0;  // 2^53 − 1

// Room for those of most requests.
constexpr size_t kUsualArrays = 8;

struct TypedArray {
  napi_typedarray_type type;
  size_t length;
  void* data;
};

bool read_typed_array(const Napi::Value& value, TypedArray* array) {
  if (!value.IsTypedArray()) return false;
  napi_status status =
      napi_get_typedarray_info(value.Env(), value, &array->type, &array->length, &array->data, nullptr, nullptr);
  return status == napi_ok;
}

// The elements of a typed array of one of these types.
void* elements_of_any(const Napi::Value& value, const char* name, std::initializer_list<napi_typedarray_type> types,
                      const char* expected, size_t* bytes) {
  TypedArray array{};
  if (!read_typed_array(value, &array) || std::find(types.begin(), types.end(), array.type) == types.end()) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + ": expected " + expected);
  }
  *bytes = array.length * value.As<Napi::TypedArray>().ElementSize();
  return array.data;
}

}  // namespace

Arguments::Arguments(const Napi::Value& value) {
  if (!value.IsObject()) throw Napi::TypeError::New(value.Env(), "request: expected an object");
  object_ = value.As<Napi::Object>();
  arrays_.reserve(kUsualArrays);
  memories_.reserve(kUsualArrays);
}

size_t Arguments::size(const char* name) const { return size_between(name, 0, static_cast<size_t>(kLargestInteger)); }

size_t Arguments::size_between(const char* name, size_t least, size_t most) const {
  Napi::Value value = get(name);
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) || std::floor(number) != number) {
    throw error(name, std::string("an integer in ") + std::to_string(least) + " … " + std::to_string(most));
  }
  return static_cast<size_t>(number);
}

int Arguments::integer(const char* name) const {
  Napi::Value value = get(name);
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(std::fabs(number) <= 1e6) || std::floor(number) != number) throw error(name, "an integer");
  return static_cast<int>(number);
}

double Arguments::number(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsNumber()) throw error(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

bool Arguments::boolean(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsBoolean()) throw error(name, "true or false");
  return value.As<Napi::Boolean>();
}

std::string Arguments::string(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsString()) throw error(name, "a string");
  return value.As<Napi::String>();
}

Napi::Array Arguments::array(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsArray()) throw error(name, "an array");
  return value.As<Napi::Array>();
}

Napi::Value Arguments::object_or_undefined(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsObject() && !value.IsUndefined()) throw error(name, "an object or nothing");
  return value;
}

float* Arguments::floats(const char* name, size_t length) {
  return static_cast<float*>(elements(name, napi_float32_array, length, "Float32Array"));
}

float* Arguments::floats_or_null(const char* name, size_t length) {
  Napi::Value value = get(name);
  return value.IsNull() || value.IsUndefined() ? nullptr : floats(name, length);
}

double* Arguments::doubles(const char* name, size_t length) {
  return static_cast<double*>(elements(name, napi_float64_array, length, "Float64Array"));
}

int32_t* Arguments::integers(const char* name, size_t length) {
  return static_cast<int32_t*>(elements(name, napi_int32_array, length, "Int32Array"));
}

uint8_t* Arguments::bytes(const char* name, size_t length) {
  return static_cast<uint8_t*>(elements(name, napi_uint8_array, length, "Uint8Array"));
}

uint32_t* Arguments::words(const char* name, size_t length) {
  return static_cast<uint32_t*>(elements(name, napi_uint32_array, length, "Uint32Array"));
}

cpu::Codes Arguments::codes(const char* name, size_t length) {
  TypedArray array{};
  bool wide = read_typed_array(get(name), &array) && array.type == napi_uint32_array;
  void* data = wide ? elements(name, napi_uint32_array, length, "Uint32Array")
                    : elements(name, napi_uint16_array, length, "Uint16Array or Uint32Array");
  return {data, wide, length};
}

void* Arguments::numbers(const char* name, size_t* bytes) {
  Napi::Value value = get(name);
  void* data =
      elements_of_any(value, name, {napi_float32_array, napi_float64_array, napi_uint16_array, napi_uint32_array},
                      "a Float32Array, Float64Array, Uint16Array or Uint32Array", bytes);
  remember(value, name, data, value.As<Napi::TypedArray>().ElementLength());
  return data;
}

std::vector<Arguments::Floats> Arguments::float_arrays(const char* name) {
  Napi::Array values = array(name);
  std::vector<Floats> arrays;
  uint32_t count = values.Length();
  for (uint32_t i = 0; i < count; i++) {
    Napi::Value value = values.Get(i);
    TypedArray array{};
    if (!read_typed_array(value, &array) || array.type != napi_float32_array) throw error(name, "Float32Arrays");
    remember(value, name, array.data, array.length);
    arrays.push_back({static_cast<const float*>(array.data), array.length});
  }
  return arrays;
}

void Arguments::check_left_alone() const {
  for (size_t i = 0; i < arrays_.size(); i++) {
    const Memory& memory = memories_[i];
    size_t length = 0;
    void* data = nullptr;
    napi_get_typedarray_info(arrays_[i].Env(), arrays_[i], nullptr, &length, &data, nullptr, nullptr);
    if (data == memory.data && length >= memory.length) continue;
    throw error(memory.name, "an array left alone while the request is read");
  }
}

void Arguments::require_finite(const char* name, const float* elements, size_t length) const {
  if (elements == nullptr || cpu::supported_kernels().front()->first_not_finite(elements, length) == length) return;
  throw error(name, "finite numbers");
}

const std::vector<Napi::Object>& Arguments::arrays() const {
  check_left_alone();
  return arrays_;
}

void* Arguments::elements(const char* name, napi_typedarray_type type, size_t length, const char* type_name) {
  Napi::Value value = get(name);
  TypedArray array{};
  // A detached array has length 0.
  if (!read_typed_array(value, &array) || array.type != type || array.length < length) {
    throw error(name, std::string("a ") + type_name + " of at least " + std::to_string(length) + " elements");
  }
  remember(value, name, array.data, array.length);
  return array.data;
}

void Arguments::remember(const Napi::Value& array, const char* name, const void* data, size_t length) {
  arrays_.push_back(array.As<Napi::Object>());
  memories_.push_back({name, data, length});
}

Napi::TypeError Arguments::error(const char* name, const std::string& expected) const {
  return Napi::TypeError::New(object_.Env(), std::string(name) + ": expected " + expected);
}

void* number_elements(const Napi::Value& value, const char* name, size_t* bytes) {
  return elements_of_any(value, name, {napi_float32_array, napi_uint16_array, napi_uint32_array},
                         "a Float32Array, Uint16Array or Uint32Array", bytes);
}

size_t product(Napi::Env env, size_t a, size_t b) {
  size_t result = 0;
  if (__builtin_mul_overflow(a, b, &result) || static_cast<double>(result) > kLargestInteger) {
    throw Napi::TypeError::New(env, "request: sizes are too large");
  }
  return result;
}

}  // namespace rvq

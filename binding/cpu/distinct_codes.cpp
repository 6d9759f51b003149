// Finds codewords that are the same to every distance.

#include "distinct_codes.h"

#include <algorithm>
#include <bit>

namespace rvq::cpu {

namespace {

// The bits that count: a dimension of weight zero does not matter to a distance, nor does the sign of a zero.
uint32_t significant_bits(float element, const float* weight) {
  if (element == 0 || (weight != nullptr && *weight == 0)) return 0;
  return std::bit_cast<uint32_t>(element);
}

// Some total order of codewords; zero where they are the same to every distance.
int compare_codewords(const float* a, const float* b, const float* weights, size_t dim) {
  for (size_t i = 0; i < dim; i++) {
    const float* weight = weights == nullptr ? nullptr : weights + i;
    uint32_t bits_a = significant_bits(a[i], weight);
    uint32_t bits_b = significant_bits(b[i], weight);
    if (bits_a != bits_b) return bits_a < bits_b ? -1 : 1;
  }
  return 0;
}

// A codeword and what tells it from most others.
struct Keyed {
  uint64_t key;
  uint32_t code;
};
using Run = std::vector<Keyed>::iterator;

bool in_order(const Keyed& a, const Keyed& b) { return a.key != b.key ? a.key < b.key : a.code < b.code; }

// Calls visit(begin, end) for every run of equal keys.
template <typename Visit>
void for_each_run(Run begin, Run end, Visit&& visit) {
  while (begin != end) {
    Run last = begin;
    while (last != end && last->key == begin->key) last++;
    visit(begin, last);
    begin = last;
  }
}

}  // namespace

// By two elements, then by a hash, and where that is not enough by all elements. A codebook may come from a file that
// means harm: sorted, it takes O(K log K) comparisons whatever is in it.
std::vector<uint32_t> distinct_codes(const float* codewords, size_t count, size_t stride, size_t dim,
                                     const float* weights) {
  auto bits = [=](size_t k, size_t i) {
    return significant_bits(codewords[k * stride + i], weights == nullptr ? nullptr : weights + i);
  };
  auto compare = [=](const Keyed& a, const Keyed& b) {
    return compare_codewords(codewords + a.code * stride, codewords + b.code * stride, weights, dim);
  };
  auto hash = [=](size_t k) {
    uint64_t sum = 0;
    for (size_t i = 0; i < dim; i++) sum = (sum ^ bits(k, i)) * 0x9e3779b97f4a7c15u;
    return sum;
  };

  std::vector<uint32_t> codes;
  codes.reserve(count);
  auto keep_first = [&](Run begin, Run end) {
    Keyed first = *begin;
    if (std::all_of(begin, end, [&](const Keyed& other) { return compare(first, other) == 0; })) {
      codes.push_back(first.code);
      return;
    }
    std::sort(begin, end, [&](const Keyed& a, const Keyed& b) {
      int order = compare(a, b);
      return order != 0 ? order < 0 : a.code < b.code;
    });
    end = std::unique(begin, end, [&](const Keyed& a, const Keyed& b) { return compare(a, b) == 0; });
    for (; begin != end; begin++) codes.push_back(begin->code);
  };

  std::vector<Keyed> sorted(count);
  for (size_t k = 0; k < count; k++) {
    sorted[k] = {uint64_t{bits(k, dim / 2)} << 32 | bits(k, 0), static_cast<uint32_t>(k)};
  }
  std::sort(sorted.begin(), sorted.end(), in_order);
  for_each_run(sorted.begin(), sorted.end(), [&](Run begin, Run end) {
    if (end - begin == 1) return codes.push_back(begin->code);
    for (Run keyed = begin; keyed != end; keyed++) keyed->key = hash(keyed->code);
    std::sort(begin, end, in_order);
    for_each_run(begin, end, keep_first);
  });
  std::sort(codes.begin(), codes.end());
  return codes;
}

}  // namespace rvq::cpu

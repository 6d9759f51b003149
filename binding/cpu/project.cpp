// Linear maps of vectors, as codecs have around their codebooks.

#include "project.h"

#include <algorithm>

namespace rvq::cpu {

namespace {

// Rows a power of two apart compete for the same places in the cache: a line more between them.
constexpr size_t kRowGap = 8;

}  // namespace

PackedProjection::PackedProjection(const ProjectionSpec& spec)
    : in_dim(spec.in_dim),
      out_dim(spec.out_dim),
      weights(panels() * spec.in_dim * kPanelOutputs),
      bias(panels() * kPanelOutputs) {
  std::fill_n(weights.data(), weights.size(), 0.0f);
  std::fill_n(bias.data(), bias.size(), 0.0);
  for (size_t output = 0; output < out_dim; output++) {
    float* panel = weights.data() + output / kPanelOutputs * in_dim * kPanelOutputs + output % kPanelOutputs;
    for (size_t i = 0; i < in_dim; i++) panel[i * kPanelOutputs] = spec.weight[output * in_dim + i];
    if (spec.bias != nullptr) bias[output] = spec.bias[output];
  }
}

double Project::work() const {
  // In float64, of which a register holds half as many.
  return 2.0 * static_cast<double>(request_.count) *
         static_cast<double>(projection_.in_dim * projection_.panels() * kPanelOutputs);
}

void Project::run(BlockFeed& feed) {
  size_t in_dim = projection_.in_dim;
  size_t row_stride = in_dim + kRowGap;
  size_t tile = kernels_.projected_rows;
  AlignedArray<double> rows(tile * row_stride);
  AlignedArray<double> sums(tile * kPanelOutputs);
  while (auto block = feed.next()) {
    size_t begin = *block * kBlockRows;
    size_t end = std::min(request_.count, begin + kBlockRows);
    if (!passes(begin, end - begin)) {
      feed.stop();
      return;
    }
    for (size_t first = begin; first < end; first += tile) {
      size_t count = std::min(tile, end - first);
      for (size_t row = 0; row < count; row++) {
        kernels_.widen(request_.vectors + (first + row) * in_dim, in_dim, rows.data() + row * row_stride);
      }
      project(rows.data(), row_stride, first, count, sums.data());
    }
  }
}

void Project::project(const double* rows, size_t row_stride, size_t first_row, size_t count, double* sums) const {
  size_t in_dim = projection_.in_dim;
  for (size_t panel = 0; panel < projection_.panels(); panel++) {
    const float* weights = projection_.weights.data() + panel * in_dim * kPanelOutputs;
    const double* bias = projection_.bias.data() + panel * kPanelOutputs;
    kernels_.project_rows({rows, count, row_stride, in_dim, weights, bias, sums});
    for (size_t row = 0; row < count; row++) write(sums + row * kPanelOutputs, first_row + row, panel);
  }
}

// Every sum is rounded to float32 before it is added or subtracted.
void Project::write(const double* sums, size_t row, size_t panel) const {
  size_t first = panel * kPanelOutputs;
  size_t count = std::min(kPanelOutputs, projection_.out_dim - first);
  float* out = request_.projected + row * projection_.out_dim + first;
  switch (request_.into) {
    case Into::kReplace:
      for (size_t o = 0; o < count; o++) out[o] = static_cast<float>(sums[o]);
      break;
    case Into::kAdd:
      for (size_t o = 0; o < count; o++) out[o] += static_cast<float>(sums[o]);
      break;
    case Into::kSubtract:
      for (size_t o = 0; o < count; o++) out[o] -= static_cast<float>(sums[o]);
      break;
  }
}

bool Project::passes(size_t first_row, size_t count) {
  size_t elements = count * projection_.in_dim;
  size_t at = kernels_.first_not_finite(request_.vectors + first_row * projection_.in_dim, elements);
  if (at == elements) return true;
  uint64_t found = first_row * projection_.in_dim + at;
  uint64_t smallest = bad_.load(std::memory_order_relaxed);
  while (found < smallest && !bad_.compare_exchange_weak(smallest, found, std::memory_order_relaxed)) {
  }
  return false;
}

std::optional<BadInput> Project::bad_input() const {
  uint64_t bad = bad_.load(std::memory_order_relaxed);
  if (bad == kNone) return std::nullopt;
  return BadInput{BadInput::Kind::kNotFinite, bad / projection_.in_dim, bad % projection_.in_dim};
}

}  // namespace rvq::cpu

// Chooses principal axes for a packed codebook, and lays out its coefficients for the screen by them.

#include "prefix_codebook.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codeword_panels.h"
#include "principal_axes.h"

namespace rvq::cpu {

namespace {

// Codewords from which the axes are found.
constexpr size_t kSampledForAxes = 96;
// Codewords that stand for rows in the estimate of the cost, and the groups that they are compared with.
constexpr size_t kSampledRows = 16;
constexpr size_t kSampledGroups = 256;
// With more directions than this of equal weight, none of the numbers of axes below leaves few codewords open.
constexpr double kLargestRank = 24;
// To begin with: half and twice as many are tried as well.
constexpr size_t kAxes = 16;
// Below this neither the projection nor a second look at the codewords can be saved again.
constexpr size_t kFewestDims = 48;
constexpr size_t kFewestCodewords = 64;
// The share of the cost without axes that is worth the preparation, and the risk that a block is searched twice.
constexpr double kWorthwhile = 0.65;

// Clock cycles of a search without axes, a row: two multiply-adds a cycle in every lane, nearly; integers take less.
double full_cost(const Kernels& kernels, const PackedCodebook& packed) {
  double products = static_cast<double>(packed.size()) * static_cast<double>(packed.view().dim);
  double share = packed.bytes() != nullptr ? kernels.bytes->costs.share : packed.integers() != nullptr ? 0.55 : 1;
  return share * products / (1.8 * static_cast<double>(kernels.lanes));
}

double axes_cost(const Kernels& kernels, const PackedCodebook& packed, size_t axes) {
  double products = static_cast<double>(axes * packed.view().dim + packed.size() * (axes + 1));
  return products / (1.7 * static_cast<double>(kernels.lanes));
}

SampleRows sample(const PackedCodebook& packed, const SearchedCodewords& searched) {
  size_t dim = packed.view().dim;
  size_t count = std::min(kSampledForAxes, packed.size());
  SampleRows rows{count, dim, std::vector<double>(count * dim)};
  for (size_t n = 0; n < count; n++) {
    const float* codeword = searched.elements + packed.code(n * packed.size() / count) * searched.padded_dim;
    for (size_t i = 0; i < dim; i++) {
      rows.elements[n * dim + i] = (static_cast<double>(codeword[i]) - packed.centre()[i]) * packed.scale()[i];
    }
  }
  return rows;
}

// |VVᵀ − I|, the Frobenius norm, of the axes as they are stored.
double departure_from_orthonormal(const std::vector<double>& axes, size_t num_axes, size_t dim) {
  double sum = 0;
  for (size_t a = 0; a < num_axes; a++) {
    for (size_t b = 0; b < num_axes; b++) {
      double product = a == b ? -1 : 0;
      product += dot(axes.data() + a * dim, axes.data() + b * dim, dim);
      sum += product * product;
    }
  }
  return std::sqrt(sum) * (1 + 0x1p-20) + 0x1p-40;
}

}  // namespace

std::unique_ptr<PrefixCodebook> PrefixCodebook::make(const Kernels& kernels, const PackedCodebook& packed,
                                                     const SearchedCodewords& searched, bool always) {
  size_t dim = packed.view().dim;
  if (!always && (dim < kFewestDims || packed.size() < kFewestCodewords)) return nullptr;
  SampleRows rows = sample(packed, searched);
  std::vector<double> gram = gram_matrix(rows);
  if (!always && effective_rank(gram, rows.count) > kLargestRank) return nullptr;

  std::vector<double> axes = principal_axes(rows, gram, std::min(2 * kAxes, dim));
  for (double& element : axes) element = static_cast<float>(element);
  size_t found = axes.size() / dim;
  auto with_axes = [&](size_t num_axes) -> std::unique_ptr<PrefixCodebook> {
    num_axes = std::min(num_axes, found);
    if (num_axes == 0) return nullptr;
    std::unique_ptr<PrefixCodebook> codebook(new PrefixCodebook(kernels, packed, searched, axes, num_axes));
    if (!codebook->bound_.usable()) return nullptr;
    if (always) codebook->allowance_ = std::numeric_limits<double>::infinity();
    codebook->estimate_cost(kernels, packed);
    return codebook;
  };

  // Twice the axes where the codewords that stay open cost more than the axes, else half of them.
  std::unique_ptr<PrefixCodebook> best = with_axes(kAxes);
  if (!best) return nullptr;
  bool more = best->cost_ > 2 * axes_cost(kernels, packed, best->axes_);
  std::unique_ptr<PrefixCodebook> other = with_axes(more ? 2 * kAxes : kAxes / 2);
  if (other && other->cost_ < best->cost_) best = std::move(other);
  return always || best->cost_ < kWorthwhile * full_cost(kernels, packed) ? std::move(best) : nullptr;
}

PrefixCodebook::PrefixCodebook(const Kernels& kernels, const PackedCodebook& packed, const SearchedCodewords& searched,
                               const std::vector<double>& axes, size_t num_axes)
    : packed_(packed.view()),
      dim_(packed_.dim),
      axes_(num_axes),
      padded_axes_((num_axes + kGroupCodewords - 1) / kGroupCodewords * kGroupCodewords),
      searched_(searched),
      bound_(dim_, num_axes, departure_from_orthonormal(axes, num_axes, dim_)),
      axis_panels_(padded_axes_ * dim_),
      axis_starts_(padded_axes_, 0.0f),
      panels_(packed.num_groups() * (num_axes + 1) * kGroupCodewords),
      allowance_(kWorthwhile * full_cost(kernels, packed) - axes_cost(kernels, packed, num_axes)),
      codeword_cost_(static_cast<double>(dim_) / static_cast<double>(kernels.lanes) + 24) {
  for (size_t axis = 0; axis < padded_axes_; axis++) {
    float* panel = axis_panels_.data() + axis / kGroupCodewords * dim_ * kGroupCodewords + axis % kGroupCodewords;
    for (size_t i = 0; i < dim_; i++) {
      panel[i * kGroupCodewords] = axis < num_axes ? static_cast<float>(axes[axis * dim_ + i]) : 0;
    }
  }
  fill_panels(kernels, packed);
}

// Codewords are projected like rows.
void PrefixCodebook::fill_panels(const Kernels& kernels, const PackedCodebook& packed) {
  CodewordPanels panels(kernels, searched_.elements, searched_.padded_dim, dim_);
  size_t stride = panels.stride();
  AlignedArray<float> coefficients(padded_axes_ * stride);
  float* into = panels_.data();
  for (size_t first = 0; first < packed.size(); first += stride) {
    size_t count = std::min(packed.size() - first, stride);
    panels.pack(packed.codes() + first, count, packed.centre(), packed.scale());
    kernels.project(projection(panels.panel(), stride, coefficients.data()));
    for (size_t from = 0; from < count; from += kGroupCodewords) {
      for (size_t c = from; c < from + kGroupCodewords; c++) {
        double squared = 0;
        for (size_t axis = 0; axis < axes_; axis++) {
          float p = c < count ? coefficients[axis * stride + c] : 0;
          into[axis * kGroupCodewords + c - from] = p;
          squared += static_cast<double>(p) * p;
        }
        float norm = c < count ? packed.norm(first + c) : 0;
        into[axes_ * kGroupCodewords + c - from] = c < count ? bound_.remainder(norm, squared) : 0;
      }
      into += (axes_ + 1) * kGroupCodewords;
    }
  }
}

// For rows as far from their codeword as a codeword is from the next; mostly they are nearer.
void PrefixCodebook::estimate_cost(const Kernels& kernels, const PackedCodebook& packed) {
  size_t rows = std::min(kSampledRows, packed.size());
  size_t step = (packed.num_groups() + kSampledGroups - 1) / kSampledGroups;
  std::vector<double> apart(packed.size());  // lower bounds of squared distances, in the screen's space
  double open = 0;
  for (size_t n = 0; n < rows; n++) {
    size_t self = n * packed.size() / rows;
    const float* row = searched_.elements + packed.code(self) * searched_.padded_dim;
    apart.clear();
    double nearest = std::numeric_limits<double>::infinity();  // in the codewords' space
    for (size_t group = n % step; group < packed.num_groups(); group += step) {
      double lower[kGroupCodewords] = {};
      for (size_t axis = 0; axis <= axes_; axis++) {
        float own = panels_[(self / kGroupCodewords * (axes_ + 1) + axis) * kGroupCodewords + self % kGroupCodewords];
        const float* others = panels_.data() + (group * (axes_ + 1) + axis) * kGroupCodewords;
        for (size_t c = 0; c < kGroupCodewords; c++)
          lower[c] += static_cast<double>(own - others[c]) * (own - others[c]);
      }
      size_t count = std::min(packed.size() - group * kGroupCodewords, kGroupCodewords);
      for (size_t c = 0; c < count; c++) {
        size_t position = group * kGroupCodewords + c;
        if (position == self || lower[c] > nearest * packed.squared_unit()) continue;
        apart.push_back(lower[c]);
        const float* other = searched_.elements + packed.code(position) * searched_.padded_dim;
        nearest = std::min(nearest, kernels.distance(row, other, searched_.weights, searched_.padded_dim, nearest));
      }
    }
    nearest *= packed.squared_unit();
    open += static_cast<double>(std::count_if(apart.begin(), apart.end(), [&](double d) { return d <= nearest; }));
  }
  open *= static_cast<double>(step) / static_cast<double>(rows);
  cost_ = axes_cost(kernels, packed, axes_) + open * (codeword_cost_ + group_cost());
}

}  // namespace rvq::cpu

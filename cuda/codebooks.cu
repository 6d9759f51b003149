// Prepares codebooks on the host and puts them on a device.

#include "codebooks.h"

#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>
#include <unordered_set>

#include "device_memory.h"
#include "failure.h"
#include "product_test.h"
#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

namespace {

// The start of the score of a place without a codeword of its own: below that of any codeword, and finite.
constexpr float kNoCodeword = -1e30f;
// log2 of the bound below which the largest element of a codeword is brought.
constexpr int kLargestExponent = 8;
constexpr size_t kAlignment = 256;

// Everything of one quantizer in one block of memory, first on the host.
class Image {
 public:
  // Returns the offset of room for so many bytes, zeroed.
  size_t reserve(size_t bytes) {
    size_t offset = bytes_.size();
    bytes_.resize((offset + bytes + kAlignment - 1) / kAlignment * kAlignment);
    return offset;
  }
  template <typename T>
  T* at(size_t offset) {
    return reinterpret_cast<T*>(bytes_.data() + offset);
  }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

// Codewords that are bitwise equal to an earlier one can never win.
std::vector<bool> find_repeated(const float* codewords, size_t count, size_t dim) {
  std::unordered_set<std::string_view> seen;
  seen.reserve(count);
  std::vector<bool> repeated(count);
  for (size_t k = 0; k < count; k++) {
    repeated[k] = !seen.emplace(reinterpret_cast<const char*>(codewords + k * dim), dim * sizeof(float)).second;
  }
  return repeated;
}

double canonical_squared_norm(const float* x, size_t dim) {
  double lanes[8] = {};
  for (size_t i = 0; i < dim; i++) lanes[i % 8] += static_cast<double>(x[i]) * x[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Where things of a stage stand in the image.
struct Offsets {
  size_t codewords;
  size_t searched;
  size_t bounds;
  size_t centre;
  size_t factors;
};

class StageBuilder {
 public:
  // `trusted`: the device's sums are what the screen needs.
  StageBuilder(const CodebookSpec& spec, size_t stage, TileShape tile, bool trusted, Image& image)
      : spec_(spec),
        dim_(spec.dim),
        count_(spec.stages[stage].num_codewords),
        tile_(tile),
        trusted_(trusted),
        image_(image) {
    const float* codewords = spec.stages[stage].codewords;
    offsets_.codewords = image.reserve(count_ * dim_ * sizeof(float));
    std::memcpy(image.at<float>(offsets_.codewords), codewords, count_ * dim_ * sizeof(float));
    offsets_.searched = offsets_.codewords;
    if (!spec.cosine) return;
    offsets_.searched = image.reserve(count_ * dim_ * sizeof(float));
    float* units = image.at<float>(offsets_.searched);
    for (size_t k = 0; k < count_; k++) {
      double root = std::sqrt(canonical_squared_norm(codewords + k * dim_, dim_));
      for (size_t i = 0; i < dim_; i++) units[k * dim_ + i] = static_cast<float>(codewords[k * dim_ + i] / root);
    }
  }

  size_t tiles() const { return (count_ + tile_.codewords - 1) / tile_.codewords; }

  // Fills the packed tiles at `packed`, which has room for tiles() of them.
  StageView build(size_t packed) {
    size_t padded_dim = static_cast<size_t>(tile_.steps) * 16;
    offsets_.bounds = image_.reserve(tiles() * tile_.codewords * sizeof(float2));
    offsets_.centre = image_.reserve(padded_dim * sizeof(float));
    if (spec_.weights != nullptr) offsets_.factors = image_.reserve(padded_dim * sizeof(float));
    StageView view{};
    view.num_codewords = static_cast<int>(count_);
    view.tiles = static_cast<int>(tiles());
    uint32_t groups = static_cast<uint32_t>(tiles() * tile_.codewords / 8);
    while (view.index_mask + 1 < groups) view.index_mask = view.index_mask * 2 + 1;

    const float* searched = image_.at<float>(offsets_.searched);
    std::vector<bool> repeated = find_repeated(searched, count_, dim_);
    choose_centre(searched, repeated);
    view.screened = choose_scale(searched, repeated, view);
    if (view.screened) pack(searched, repeated, packed, view);
    return view;
  }

  void point(StageView& view, unsigned char* base) const {
    view.codewords = reinterpret_cast<const float*>(base + offsets_.codewords);
    view.searched = reinterpret_cast<const float*>(base + offsets_.searched);
    view.bounds = reinterpret_cast<const float2*>(base + offsets_.bounds);
    view.centre = reinterpret_cast<const float*>(base + offsets_.centre);
    view.factors = spec_.weights == nullptr ? nullptr : reinterpret_cast<const float*>(base + offsets_.factors);
  }

 private:
  double root_weight(size_t i) const { return spec_.weights == nullptr ? 1 : std::sqrt(double{spec_.weights[i]}); }

  // Any centre is correct; a good one is near most codewords: those far from the mean of all are left out of a second.
  void choose_centre(const float* codewords, const std::vector<bool>& repeated) {
    constexpr double kFar = 16;  // In squared distances: four times the median distance.
    float* centre = image_.at<float>(offsets_.centre);
    std::vector<bool> chosen(count_);
    for (size_t k = 0; k < count_; k++) chosen[k] = !repeated[k];
    mean_of(codewords, chosen, centre);
    std::vector<double> distances(count_);
    std::vector<double> sorted;
    for (size_t k = 0; k < count_; k++) {
      for (size_t i = 0; i < dim_; i++) {
        double x = root_weight(i) * (double{codewords[k * dim_ + i]} - centre[i]);
        distances[k] += x * x;
      }
      if (chosen[k]) sorted.push_back(distances[k]);
    }
    auto median = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), median, sorted.end());
    bool far = false;
    for (size_t k = 0; k < count_; k++) {
      if (distances[k] <= kFar * *median) continue;
      chosen[k] = false;
      far = true;
    }
    if (far) mean_of(codewords, chosen, centre);
  }

  void mean_of(const float* codewords, const std::vector<bool>& chosen, float* centre) const {
    std::vector<double> sums(dim_);
    double number = 0;
    for (size_t k = 0; k < count_; k++) {
      if (!chosen[k]) continue;
      number++;
      for (size_t i = 0; i < dim_; i++) sums[i] += codewords[k * dim_ + i];
    }
    for (size_t i = 0; i < dim_; i++) centre[i] = static_cast<float>(sums[i] / std::max(number, 1.0));
  }

  // False where the codebook, or any on this device, cannot be screened.
  bool choose_scale(const float* codewords, const std::vector<bool>& repeated, StageView& view) {
    if (dim_ > kMostScreenedDim || !trusted_) return false;
    const float* centre = image_.at<float>(offsets_.centre);
    double largest = 0;
    for (size_t k = 0; k < count_; k++) {
      if (repeated[k]) continue;
      for (size_t i = 0; i < dim_; i++) {
        largest = std::max(largest, std::fabs(root_weight(i) * (double{codewords[k * dim_ + i]} - centre[i])));
      }
    }
    exponent_ = largest > 0 ? kLargestExponent - 1 - std::ilogb(largest) : 0;
    view.scale[0] = std::ldexp(1.0f, exponent_ / 2);
    view.scale[1] = std::ldexp(1.0f, exponent_ - exponent_ / 2);
    if (spec_.weights == nullptr) return true;
    float* factors = image_.at<float>(offsets_.factors);
    for (size_t i = 0; i < dim_; i++) {
      factors[i] = static_cast<float>(std::ldexp(root_weight(i), exponent_ / 2));
      if (!std::isfinite(factors[i])) return false;
    }
    return true;
  }

  void pack(const float* codewords, const std::vector<bool>& repeated, size_t packed, StageView& view) {
    const float* centre = image_.at<float>(offsets_.centre);
    float2* bounds = image_.at<float2>(offsets_.bounds);
    double largest_squared_norm = 0;
    for (size_t k = 0; k < tiles() * tile_.codewords; k++) {
      bounds[k] = {kNoCodeword, 0};
      if (k < count_ && !repeated[k]) {
        double squared_norm = 0;
        double squared_error = 0;
        for (size_t i = 0; i < dim_; i++) {
          double x = std::ldexp(root_weight(i) * (double{codewords[k * dim_ + i]} - centre[i]), exponent_);
          __half rounded = __float2half_rn(static_cast<float>(x));
          double error = double{__half2float(rounded)} - x;
          squared_norm += x * x;
          squared_error += error * error;
          std::memcpy(image_.at<char>(packed + tile_.offset(k, static_cast<int>(i))), &rounded, sizeof rounded);
        }
        CodewordBound bound = codeword_bound(static_cast<int>(dim_), squared_norm, squared_error);
        bounds[k] = {bound.start, bound.slope};
        largest_squared_norm = std::max(largest_squared_norm, squared_norm);
      }
      if (!tile_.has_bounds()) continue;
      size_t tile_end = (k / tile_.codewords + 1) * tile_.bytes();
      size_t place = packed + tile_end - static_cast<size_t>(tile_.codewords - k % tile_.codewords) * sizeof(float2);
      std::memcpy(image_.at<char>(place), &bounds[k], sizeof(float2));
    }
    view.largest_norm = static_cast<float>(std::sqrt(largest_squared_norm) * (1 + 0x1p-20));
  }

  const CodebookSpec& spec_;
  size_t dim_;
  size_t count_;
  TileShape tile_;
  bool trusted_;
  Image& image_;
  Offsets offsets_{};
  int exponent_ = 0;
};

}  // namespace

struct Codebooks::Content {
  size_t dim;
  bool cosine;
  int device;
  TileShape tile;
  std::vector<StageView> stages;
  std::vector<size_t> first_tiles;
  DeviceArray<unsigned char> memory;
  const unsigned char* packed;
  const StageView* views;
  const float* weights;
};

Codebooks::Codebooks(const CodebookSpec& spec, int device) : content_(std::make_unique<Content>()) {
  Content& content = *content_;
  content.dim = spec.dim;
  content.cosine = spec.cosine;
  content.device = device;
  ProductTest products = test_products(device);
  content.tile = tile_for(spec.dim, products.warpgroup);
  Image image;
  size_t weights = image.reserve(spec.weights == nullptr ? 0 : spec.dim * sizeof(float));
  if (spec.weights != nullptr) std::memcpy(image.at<float>(weights), spec.weights, spec.dim * sizeof(float));
  size_t views = image.reserve(spec.stages.size() * sizeof(StageView));
  std::vector<StageBuilder> builders;
  size_t tiles = 0;
  for (size_t s = 0; s < spec.stages.size(); s++) {
    builders.emplace_back(spec, s, content.tile, products.trusted, image);
    content.first_tiles.push_back(tiles);
    tiles += builders.back().tiles();
  }
  content.first_tiles.push_back(tiles);
  size_t tile_bytes = static_cast<size_t>(content.tile.bytes());
  // Every stage's tiles follow the one's before: the kernel reads them as one sequence.
  size_t packed = image.reserve(tiles * tile_bytes);
  for (size_t s = 0; s < builders.size(); s++) {
    content.stages.push_back(builders[s].build(packed + content.first_tiles[s] * tile_bytes));
  }

  CurrentDevice current(device);
  content.memory = DeviceArray<unsigned char>(image.bytes().size());
  unsigned char* base = content.memory.data();
  for (size_t s = 0; s < builders.size(); s++) {
    builders[s].point(content.stages[s], base);
    image.at<StageView>(views)[s] = content.stages[s];
  }
  content.packed = base + packed;
  content.views = reinterpret_cast<const StageView*>(base + views);
  content.weights = spec.weights == nullptr ? nullptr : reinterpret_cast<const float*>(base + weights);
  check(cudaMemcpy(base, image.bytes().data(), image.bytes().size(), cudaMemcpyHostToDevice), "copy of codebooks");
  // A copy from pageable memory may return before it has arrived, and the streams that search do not wait for this one.
  check(cudaStreamSynchronize(nullptr), "copy of codebooks");
}

Codebooks::~Codebooks() = default;

size_t Codebooks::dim() const { return content_->dim; }
bool Codebooks::cosine() const { return content_->cosine; }
int Codebooks::device() const { return content_->device; }
size_t Codebooks::num_stages() const { return content_->stages.size(); }
size_t Codebooks::num_codewords(size_t stage) const {
  return static_cast<size_t>(content_->stages[stage].num_codewords);
}
const float* Codebooks::codewords(size_t stage) const { return content_->stages[stage].codewords; }
const float* Codebooks::weights() const { return content_->weights; }
size_t Codebooks::size_bytes() const { return content_->memory.size_bytes(); }
size_t Codebooks::first_tile(size_t stage) const { return content_->first_tiles[stage]; }
TileShape Codebooks::tile() const { return content_->tile; }
const unsigned char* Codebooks::packed() const { return content_->packed; }
const StageView* Codebooks::views() const { return content_->views; }

}  // namespace rvq::cuda

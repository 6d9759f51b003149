// Prepares codebooks on the host and puts them on a device.

#include "codebooks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../binding/cpu/codewords.h"
#include "device_memory.h"
#include "failure.h"
#include "lane.h"
#include "limb_codewords.h"
#include "product_test.h"
#include "screen_bound.h"
#include "screen_form.h"
#include "stage.cuh"
#include "stream.h"

namespace rvq::cuda {

namespace {

// log2 of the bound below which the largest element of a codeword is brought.
constexpr int kLargestExponent = 7;
constexpr double kLeastLargestNorm = 0x1p6;
constexpr size_t kAlignment = 256;
// Codewords of an operand of the tensor cores.
constexpr size_t kGroup = 8;

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

// x rounded to float16, to nearest even, for |x| < 65504: its bits, and its value. What cuda_fp16.h has for the host
// takes several times as long, and a trainer prepares codebooks at every step.
struct Half {
  uint16_t bits;
  float value;

  explicit Half(float x) {
    uint32_t all = bits_of(x);
    uint32_t sign = all & 0x80000000u;
    uint32_t magnitude = all ^ sign;
    // Below 2^-14 float16 has steps of 2^-24, as float32 has from ½ to 1.
    bool subnormal = magnitude < (113u << 23);
    float shifted = number_of(magnitude) + 0.5f;
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    uint32_t half = subnormal ? bits_of(shifted) - bits_of(0.5f) : (rounded >> 13) - (112u << 10);
    uint32_t found = subnormal ? bits_of(shifted - 0.5f) : rounded & ~0x1fffu;
    bits = static_cast<uint16_t>(sign >> 16 | half);
    value = number_of(sign | found);
  }

  // The least that is not below x.
  static Half up(double x) {
    Half half(static_cast<float>(x));
    if (half.value >= x) return half;
    // Of what is below zero the next has the lower bits.
    half.bits = half.value < 0 ? half.bits - 1 : half.bits == 0x8000 ? 1 : half.bits + 1;
    uint32_t magnitude = half.bits & 0x7fff;
    float value =
        magnitude < 0x400 ? static_cast<float>(magnitude) * 0x1p-24f : number_of((magnitude << 13) + (112u << 23));
    half.value = half.bits < 0x8000 ? value : -value;
    return half;
  }

  static uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
  }
  static float number_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

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
  // `trusted`: the device's products, as of the tile, are what the screen needs.
  StageBuilder(const CodebookSpec& spec, size_t stage, TileShape tile, bool trusted, Image& image)
      : spec_(spec),
        dim_(spec.dim),
        count_(spec.stages[stage].num_codewords),
        tile_(tile),
        trusted_(trusted),
        image_(image) {
    if (spec.weights != nullptr) {
      for (size_t i = 0; i < dim_; i++) root_weights_.push_back(std::sqrt(double{spec.weights[i]}));
    }
    const float* codewords = spec.stages[stage].codewords;
    offsets_.codewords = image.reserve(count_ * dim_ * sizeof(float));
    std::memcpy(image.at<float>(offsets_.codewords), codewords, count_ * dim_ * sizeof(float));
    offsets_.searched = offsets_.codewords;
    if (!spec.cosine) return;
    offsets_.searched = image.reserve(count_ * dim_ * sizeof(float));
    cpu::unit_rows(codewords, count_, dim_, image.at<float>(offsets_.searched));
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
    view.tag_bits = kFewestTagBits;
    // A thread has every fourth codeword, in sets.
    while (size_t{1} << view.tag_bits < tiles() * tile_.codewords / 4 / kSets) view.tag_bits++;

    const float* searched = image_.at<float>(offsets_.searched);
    // Codewords that equal an earlier one can never win.
    std::vector<uint32_t> distinct = cpu::distinct_codes(searched, count_, dim_, dim_, spec_.weights);
    std::vector<bool> repeated(count_, true);
    for (uint32_t k : distinct) repeated[k] = false;
    cpu::choose_centre(searched, dim_, dim_, distinct, root_weights_.empty() ? nullptr : root_weights_.data(),
                       image_.at<float>(offsets_.centre));
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
  double root_weight(size_t i) const { return root_weights_.empty() ? 1 : root_weights_[i]; }

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
    limb_scale_ = largest > 0 ? static_cast<float>(double{kMostLimbs} / std::ldexp(largest, exponent_)) : 1;
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
    float2* bounds = image_.at<float2>(offsets_.bounds);
    double largest_squared_norm =
        tile_.limbs ? pack_as_limbs(codewords, repeated, packed, view) : pack_as_halves(codewords, repeated, packed);
    // Where all codewords are alike it is not zero either: the bound of places without a codeword is to be far from
    // theirs.
    double largest_norm = std::max(std::sqrt(largest_squared_norm), kLeastLargestNorm);
    view.largest_norm = static_cast<float>(largest_norm * (1 + 0x1p-20));
    CodewordBound none = bound_of_none(view.largest_norm);
    for (size_t k = 0; k < tiles() * tile_.codewords; k++) {
      if (k >= count_ || repeated[k]) bounds[k] = {none.start, none.slope};
      if (tile_.warpgroup) {
        bounds[k] = pack_slots(bounds[k], packed, k);
      } else if (tile_.has_bounds()) {
        size_t tile_end = (k / tile_.codewords + 1) * tile_.bytes();
        size_t place = packed + tile_end - static_cast<size_t>(tile_.codewords - k % tile_.codewords) * sizeof(float2);
        std::memcpy(image_.at<char>(place), &bounds[k], sizeof(float2));
      }
    }
  }

  // Element i of a codeword in the screen's space, as a function of i.
  auto elements_in_space(const float* codeword) {
    const float* centre = image_.at<float>(offsets_.centre);
    double unit = std::ldexp(1.0, exponent_);
    return
        [this, codeword, centre, unit](size_t i) { return root_weight(i) * (double{codeword[i]} - centre[i]) * unit; };
  }

  // Codewords as float16, and their bounds. Returns the largest squared norm.
  double pack_as_halves(const float* codewords, const std::vector<bool>& repeated, size_t packed) {
    float2* bounds = image_.at<float2>(offsets_.bounds);
    std::vector<size_t> places = places_in_rows();
    double largest_squared_norm = 0;
    for (size_t k = 0; k < count_; k++) {
      if (repeated[k]) continue;
      auto element = elements_in_space(codewords + k * dim_);
      double squared_norm = 0;
      double squared_error = 0;
      char* row = image_.at<char>(packed + tile_.offset(k, 0));
      const size_t* place = places.data() + k % kGroup * dim_;
      for (size_t i = 0; i < dim_; i++) {
        double x = element(i);
        Half rounded(static_cast<float>(x));
        double error = double{rounded.value} - x;
        squared_norm += x * x;
        squared_error += error * error;
        std::memcpy(row + place[i], &rounded.bits, sizeof rounded.bits);
      }
      CodewordBound bound = codeword_bound(static_cast<int>(dim_), tile_.warpgroup, squared_norm, squared_error);
      bounds[k] = {bound.start, bound.slope};
      largest_squared_norm = std::max(largest_squared_norm, squared_norm);
    }
    return largest_squared_norm;
  }

  // The same as limbs.
  double pack_as_limbs(const float* codewords, const std::vector<bool>& repeated, size_t packed, StageView& view) {
    float2* bounds = image_.at<float2>(offsets_.bounds);
    std::vector<size_t> places = places_in_rows();
    std::vector<LimbSums> sums(count_);
    double largest_squared_norm = 0;
    for (size_t k = 0; k < count_; k++) {
      if (repeated[k]) continue;
      auto element = elements_in_space(codewords + k * dim_);
      unsigned char* high = image_.at<unsigned char>(packed + tile_.offset(k, 0));
      sums[k] = pack_limbs(element, dim_, limb_scale_, places.data() + k % kGroup * dim_, high, tile_.limb_bytes());
      largest_squared_norm = std::max(largest_squared_norm, sums[k].squared_norm);
    }
    int dim = static_cast<int>(dim_);
    LimbRow row = limb_row(dim, mean_peak(sums, dim));
    view.limb_scale = limb_scale_;
    view.inverse_row_error = static_cast<float>((1 + 0x1p-20) / row.error);
    view.inverse_row_unit = static_cast<float>((1 + 0x1p-20) / row.unit);
    for (size_t k = 0; k < count_; k++) {
      CodewordBound bound = limb_codeword_bound(row, limb_scale_, sums[k]);
      bounds[k] = {bound.start, bound.slope};
    }
    return largest_squared_norm;
  }

  // Puts a codeword's bound into the slots that follow its dimensions, as screen_bound.h says; returns what they hold.
  float2 pack_slots(float2 bound, size_t packed, size_t k) {
    auto put = [&](int slot, Half value) {
      size_t place = packed + tile_.offset(k, 16 * (tile_.steps - 1) + slot);
      std::memcpy(image_.at<char>(place), &value.bits, sizeof value.bits);
      return double{value.value};
    };
    double start = 0;
    for (int limb = 0; limb < kStartLimbs; limb++) {
      double rest = (bound.x - start) / start_scale(limb);
      start += put(limb, limb + 1 < kStartLimbs ? Half(static_cast<float>(rest)) : Half::up(rest)) * start_scale(limb);
    }
    double slope = put(kStartLimbs, Half::up(double{bound.y} / kSlopeScale)) * kSlopeScale;
    return {static_cast<float>(start), static_cast<float>(slope)};
  }

  // Bytes from the first dimension of a codeword to each, [kGroup][dim]: where they stand in a tile depends on the
  // codeword's place in its group alone. A trainer prepares codebooks at every step, and an offset has divisions.
  std::vector<size_t> places_in_rows() const {
    std::vector<size_t> places;
    for (size_t k = 0; k < kGroup; k++) {
      for (size_t i = 0; i < dim_; i++) places.push_back(tile_.offset(k, static_cast<int>(i)) - tile_.offset(k, 0));
    }
    return places;
  }

  const CodebookSpec& spec_;
  size_t dim_;
  size_t count_;
  TileShape tile_;
  bool trusted_;
  Image& image_;
  Offsets offsets_{};
  std::vector<double> root_weights_;  // [dim] or empty
  int exponent_ = 0;
  float limb_scale_ = 1;
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
  if (screens_by_limbs(content.tile, device)) content.tile = limb_tile(content.tile.steps);
  Image image;
  size_t weights = image.reserve(spec.weights == nullptr ? 0 : spec.dim * sizeof(float));
  if (spec.weights != nullptr) std::memcpy(image.at<float>(weights), spec.weights, spec.dim * sizeof(float));
  size_t views = image.reserve(spec.stages.size() * sizeof(StageView));
  std::vector<StageBuilder> builders;
  size_t tiles = 0;
  for (size_t s = 0; s < spec.stages.size(); s++) {
    builders.emplace_back(spec, s, content.tile, content.tile.limbs || products.trusted, image);
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
  content.memory = DeviceArray<unsigned char>(allocate_resident(image.bytes().size()));
  unsigned char* base = content.memory.data();
  for (size_t s = 0; s < builders.size(); s++) {
    builders[s].point(content.stages[s], base);
    image.at<StageView>(views)[s] = content.stages[s];
  }
  content.packed = base + packed;
  content.views = reinterpret_cast<const StageView*>(base + views);
  content.weights = spec.weights == nullptr ? nullptr : reinterpret_cast<const float*>(base + weights);
  Stream stream;
  check(cudaMemcpyAsync(base, image.bytes().data(), image.bytes().size(), cudaMemcpyHostToDevice, stream.get()),
        "copy of codebooks");
  // A copy from pageable memory may return before it has arrived, and the streams that search do not wait for this one.
  stream.wait("copy of codebooks");
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
const char* Codebooks::screen() const {
  for (const StageView& stage : content_->stages) {
    if (!stage.screened) return "none";
  }
  return content_->tile.warpgroup ? "wgmma" : content_->tile.limbs ? "int8" : "float16";
}
size_t Codebooks::first_tile(size_t stage) const { return content_->first_tiles[stage]; }
TileShape Codebooks::tile() const { return content_->tile; }
const unsigned char* Codebooks::packed() const { return content_->packed; }
const StageView* Codebooks::views() const { return content_->views; }

}  // namespace rvq::cuda

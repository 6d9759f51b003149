// Puts codebooks on a device and has them packed there.

#include "codebooks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "array_layout.h"
#include "device_memory.h"
#include "failure.h"
#include "lane.h"
#include "pack_codebooks.h"
#include "product_test.h"
#include "screen_form.h"
#include "stage.cuh"
#include "stream.h"
#include "unit_rows.h"

namespace rvq::cuda {

namespace {

// Where things of a stage stand.
struct StagePlaces {
  size_t codewords, searched;             // [num_codewords][dim]: behind those of the stage before
  size_t bounds, centre, factors, tiles;  // as in StageView; the first tile
  size_t table, totals;                   // the others are scratch, as in PackedStage
  size_t slots, repeated, exponents, column_sums, column_counts, sums;
};

uint32_t table_size(size_t num_codewords) {
  uint32_t size = 2;
  while (size < 2 * num_codewords) size *= 2;
  return size;
}

size_t tiles_of(const CodebookSpec::Stage& stage, const TileShape& tile) {
  return (stage.num_codewords + tile.codewords - 1) / tile.codewords;
}

// Everything of one quantizer in one block of memory. First what is made on the host, and copied at once.
struct Places {
  size_t views, packed_stages, weights, root_weights, made_end;
  size_t codewords, searched, packed;
  size_t cleared, cleared_end, end;
  std::vector<StagePlaces> stages;

  // `screened`: with what the screen needs, and its packing.
  Places(const CodebookSpec& spec, const TileShape& tile, bool screened) : stages(spec.stages.size()) {
    ArrayLayout layout;
    size_t num_weights = spec.weights == nullptr ? 0 : spec.dim;
    views = layout.add(spec.stages.size() * sizeof(StageView));
    packed_stages = layout.add(spec.stages.size() * sizeof(PackedStage));
    weights = layout.add(num_weights * sizeof(float));
    root_weights = layout.add(num_weights * sizeof(double));
    made_end = layout.size();

    size_t rows = 0;
    size_t tiles = 0;
    for (const auto& stage : spec.stages) {
      rows += stage.num_codewords;
      tiles += tiles_of(stage, tile);
    }
    size_t row_bytes = spec.dim * sizeof(float);
    codewords = layout.add(rows * row_bytes);
    searched = spec.cosine ? layout.add(rows * row_bytes) : codewords;
    // Every stage's tiles follow the one's before: the kernel reads them as one sequence.
    packed = layout.add(tiles * tile.bytes());
    size_t padded_bytes = static_cast<size_t>(tile.steps) * 16 * sizeof(float);
    size_t first_row = 0;
    size_t first_tile = 0;
    for (size_t s = 0; s < stages.size(); s++) {
      StagePlaces& at = stages[s];
      at.codewords = codewords + first_row * row_bytes;
      at.searched = searched + first_row * row_bytes;
      at.tiles = packed + first_tile * tile.bytes();
      at.bounds = layout.add(tiles_of(spec.stages[s], tile) * tile.codewords * sizeof(float2));
      at.centre = layout.add(padded_bytes);
      at.factors = layout.add(spec.weights == nullptr ? 0 : padded_bytes);
      first_row += spec.stages[s].num_codewords;
      first_tile += tiles_of(spec.stages[s], tile);
    }
    cleared = layout.size();
    for (size_t s = 0; screened && s < stages.size(); s++) {
      stages[s].table = layout.add(table_size(spec.stages[s].num_codewords) * sizeof(unsigned long long));
      stages[s].totals = layout.add(sizeof(StageTotals));
    }
    cleared_end = layout.size();
    for (size_t s = 0; screened && s < stages.size(); s++) {
      size_t count = spec.stages[s].num_codewords;
      size_t chunks = chunks_of(static_cast<uint32_t>(count));
      stages[s].slots = layout.add(count * sizeof(uint32_t));
      stages[s].repeated = layout.add(count);
      stages[s].exponents = layout.add(count);
      stages[s].column_sums = layout.add(chunks * spec.dim * sizeof(double));
      stages[s].column_counts = layout.add(chunks * sizeof(uint32_t));
      stages[s].sums = layout.add(count * sizeof(CodewordSums));
    }
    end = layout.size();
  }
};

// A stage of this block of memory.
class StageMaker {
 public:
  StageMaker(const CodebookSpec& spec, size_t stage, const TileShape& tile, const StagePlaces& at, unsigned char* base)
      : num_codewords_(spec.stages[stage].num_codewords),
        tiles_(tiles_of(spec.stages[stage], tile)),
        places_(tiles_ * tile.codewords),
        shifted_(tile.is_shifted()),
        weighted_(spec.weights != nullptr),
        at_(at),
        base_(base) {}

  // What does not depend on the codewords.
  StageView view() const {
    StageView view{};
    view.codewords = pointer<float>(at_.codewords);
    view.searched = pointer<float>(at_.searched);
    view.bounds = pointer<float2>(at_.bounds);
    view.centre = pointer<float>(at_.centre);
    view.factors = weighted_ ? pointer<float>(at_.factors) : nullptr;
    view.num_codewords = static_cast<int>(num_codewords_);
    view.tiles = static_cast<int>(tiles_);
    view.tag_bits = kFewestTagBits;
    // A thread has every fourth codeword, in sets, or pieces.
    while (size_t{1} << view.tag_bits < (shifted_ ? places_ / kPieceCodewords : places_ / 4 / kSets)) view.tag_bits++;
    return view;
  }

  PackedStage packed(StageView* view) const {
    PackedStage stage{};
    stage.searched = pointer<float>(at_.searched);
    stage.num_codewords = static_cast<uint32_t>(num_codewords_);
    stage.places = static_cast<uint32_t>(places_);
    stage.view = view;
    stage.centre = pointer<float>(at_.centre);
    stage.factors = weighted_ ? pointer<float>(at_.factors) : nullptr;
    stage.bounds = pointer<float2>(at_.bounds);
    stage.tiles = pointer<unsigned char>(at_.tiles);
    stage.table = pointer<unsigned long long>(at_.table);
    stage.table_size = table_size(num_codewords_);
    stage.totals = pointer<StageTotals>(at_.totals);
    stage.slots = pointer<uint32_t>(at_.slots);
    stage.repeated = pointer<unsigned char>(at_.repeated);
    stage.exponents = pointer<unsigned char>(at_.exponents);
    stage.column_sums = pointer<double>(at_.column_sums);
    stage.column_counts = pointer<uint32_t>(at_.column_counts);
    stage.sums = pointer<CodewordSums>(at_.sums);
    return stage;
  }

 private:
  template <typename T>
  T* pointer(size_t place) const {
    return reinterpret_cast<T*>(base_ + place);
  }

  size_t num_codewords_;
  size_t tiles_;
  size_t places_;
  bool shifted_;
  bool weighted_;
  const StagePlaces& at_;
  unsigned char* base_;
};

void copy_to(void* device, const void* host, size_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copy of codebooks");
}

}  // namespace

struct Codebooks::Content {
  size_t dim;
  bool cosine;
  int device;
  TileShape tile;
  bool screened;  // as far as it does not depend on the codewords
  std::vector<size_t> first_codewords;
  std::vector<size_t> first_tiles;
  DeviceArray<unsigned char> memory;
  float* codewords;  // of all stages
  float* searched;
  const unsigned char* packed;
  const StageView* views;
  const float* weights;
  PackRequest packing;
};

Codebooks::Codebooks(const CodebookSpec& spec, int device) : content_(std::make_unique<Content>()) {
  Content& content = *content_;
  content.dim = spec.dim;
  content.cosine = spec.cosine;
  content.device = device;
  ProductTest products = test_products(device);
  content.tile = tile_for(spec.dim, products.warpgroup);
  if (screens_by_limbs(content.tile, device)) content.tile = limb_tile(content.tile.steps);
  content.screened = (content.tile.limbs || products.trusted) && spec.dim <= size_t{kMostScreenedDim};
  Places at(spec, content.tile, content.screened);

  CurrentDevice current(device);
  content.memory = DeviceArray<unsigned char>(allocate_resident(at.end));
  unsigned char* base = content.memory.data();
  std::vector<unsigned char> made(at.made_end);
  auto make = [&](auto* first, size_t place) { return reinterpret_cast<decltype(first)>(made.data() + place); };
  size_t most_codewords = 0;
  content.first_codewords = {0};
  content.first_tiles = {0};
  for (size_t s = 0; s < spec.stages.size(); s++) {
    StageMaker stage(spec, s, content.tile, at.stages[s], base);
    make(static_cast<StageView*>(nullptr), at.views)[s] = stage.view();
    make(static_cast<PackedStage*>(nullptr), at.packed_stages)[s] =
        stage.packed(reinterpret_cast<StageView*>(base + at.views) + s);
    most_codewords = std::max(most_codewords, spec.stages[s].num_codewords);
    content.first_codewords.push_back(content.first_codewords[s] + spec.stages[s].num_codewords);
    content.first_tiles.push_back(content.first_tiles[s] + tiles_of(spec.stages[s], content.tile));
  }
  double largest_root = 0;
  for (size_t i = 0; spec.weights != nullptr && i < spec.dim; i++) {
    double root = std::sqrt(double{spec.weights[i]});
    make(static_cast<float*>(nullptr), at.weights)[i] = spec.weights[i];
    make(static_cast<double*>(nullptr), at.root_weights)[i] = root;
    largest_root = std::max(largest_root, root);
  }
  bool weighted = spec.weights != nullptr;
  content.codewords = reinterpret_cast<float*>(base + at.codewords);
  content.searched = reinterpret_cast<float*>(base + at.searched);
  content.packed = base + at.packed;
  content.views = reinterpret_cast<const StageView*>(base + at.views);
  content.weights = weighted ? reinterpret_cast<const float*>(base + at.weights) : nullptr;
  content.packing = {reinterpret_cast<const PackedStage*>(base + at.packed_stages),
                     spec.stages.size(),
                     most_codewords,
                     static_cast<int>(spec.dim),
                     content.tile,
                     content.weights,
                     weighted ? reinterpret_cast<const double*>(base + at.root_weights) : nullptr,
                     largest_root,
                     base + at.cleared,
                     at.cleared_end - at.cleared};

  Stream stream;
  check(cudaMemsetAsync(base, 0, at.end, stream.get()), "copy of codebooks");
  copy_to(base, made.data(), made.size(), stream.get());
  replace(spec.stages, stream.get());
  // The streams that search do not wait for this one.
  stream.wait("packing of codebooks");
}

Codebooks::~Codebooks() = default;

void Codebooks::replace(const std::vector<CodebookSpec::Stage>& stages, CUstream_st* stream) {
  CurrentDevice current(content_->device);
  for (size_t s = 0; s < stages.size(); s++) {
    copy_to(codewords(s), stages[s].codewords, num_codewords(s) * dim() * sizeof(float), stream);
  }
  pack(stream);
}

void Codebooks::pack(CUstream_st* stream) {
  const Content& content = *content_;
  CurrentDevice current(content.device);
  if (content.cosine) {
    make_unit_rows(content.codewords, content.first_codewords.back(), content.dim, content.searched, nullptr, stream);
  }
  if (content.screened) pack_codebooks(content.packing, stream);
}

size_t Codebooks::dim() const { return content_->dim; }
bool Codebooks::cosine() const { return content_->cosine; }
int Codebooks::device() const { return content_->device; }
size_t Codebooks::num_stages() const { return content_->first_tiles.size() - 1; }
size_t Codebooks::num_codewords(size_t stage) const {
  return content_->first_codewords[stage + 1] - content_->first_codewords[stage];
}
float* Codebooks::codewords(size_t stage) {
  return content_->codewords + content_->first_codewords[stage] * content_->dim;
}
const float* Codebooks::codewords(size_t stage) const {
  return content_->codewords + content_->first_codewords[stage] * content_->dim;
}
const float* Codebooks::weights() const { return content_->weights; }
size_t Codebooks::size_bytes() const { return content_->memory.size_bytes(); }
const char* Codebooks::screen() const {
  CurrentDevice current(content_->device);
  std::vector<StageView> views(num_stages());
  Stream stream;
  check(cudaMemcpyAsync(views.data(), content_->views, views.size() * sizeof(StageView), cudaMemcpyDeviceToHost,
                        stream.get()),
        "copy of views");
  stream.wait("copy of views");
  for (const StageView& view : views) {
    if (!view.screened) return "none";
  }
  return content_->tile.warpgroup ? "wgmma" : content_->tile.limbs ? "int8" : "float16";
}
size_t Codebooks::first_tile(size_t stage) const { return content_->first_tiles[stage]; }
TileShape Codebooks::tile() const { return content_->tile; }
const unsigned char* Codebooks::packed() const { return content_->packed; }
const StageView* Codebooks::views() const { return content_->views; }

}  // namespace rvq::cuda

// Beam search of a block of vectors, stage by stage: the rows of a stage are the hypotheses of all of them.

#include "beam.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "aligned_array.h"
#include "beam_screen.h"

namespace rvq::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// As in search.cpp: several tiles of rows pass a stage before the next one.
constexpr size_t kMostElements = size_t{1} << 15;
constexpr size_t kMostTiles = 8;

}  // namespace

// In the order of the contract: distance, then the parent's place, then code. Parents are numbered by their rows.
struct BeamEncode::Child {
  double distance;
  uint32_t row;
  uint32_t code;

  bool operator<(const Child& other) const {
    if (distance != other.distance) return distance < other.distance;
    return row != other.row ? row < other.row : code < other.code;
  }
};

// A thread's memory for the time of a call.
struct BeamEncode::Scratch {
  Scratch(const Kernels& kernels, const Codebooks& codebooks, size_t vectors, size_t beam, size_t stages)
      : nearest(kernels, codebooks, kernels.tile_rows),
        screen(kernels, vectors, std::max(kernels.tile_rows, beam), beam, codebooks.padded_dim, codebooks.max_groups()),
        residuals(vectors * beam * codebooks.padded_dim),
        next_residuals(vectors * beam * codebooks.padded_dim),
        first_rows(vectors + 1),
        next_first_rows(vectors + 1),
        parents(stages, std::vector<uint32_t>(vectors * beam)),
        codes(stages, std::vector<uint32_t>(vectors * beam)),
        greedy(vectors * stages),
        path(stages),
        vector(codebooks.padded_dim),
        reconstruction(codebooks.padded_dim) {}

  StageSearch nearest;
  BeamScreen screen;
  // Hypotheses, those of a vector one after the other: vector v's are first_rows[v] … first_rows[v + 1] − 1.
  AlignedArray<float> residuals;  // [rows][padded_dim]
  AlignedArray<float> next_residuals;
  std::vector<uint32_t> first_rows;
  std::vector<uint32_t> next_first_rows;
  std::vector<std::vector<uint32_t>> parents;  // [stages][rows], the row of the stage before
  std::vector<std::vector<uint32_t>> codes;    // [stages][rows]
  std::vector<uint32_t> greedy;                // [vectors][stages]
  std::vector<Child> children;                 // of the vector at hand, at most n, in order
  std::vector<uint32_t> screened_rows;
  std::vector<uint32_t> path;
  AlignedArray<float> vector;  // [padded_dim]
  AlignedArray<float> reconstruction;
};

BeamEncode::BeamEncode(const Kernels& kernels, const Codebooks& codebooks, const EncodeRequest& request, size_t beam,
                       size_t threads)
    : kernels_(kernels),
      codebooks_(codebooks),
      request_(request),
      beam_(beam),
      check_(kernels, codebooks, request.vectors) {
  size_t tile = std::max<size_t>(1, kernels.tile_rows / beam);
  size_t share = (request.count + threads - 1) / std::max<size_t>(threads, 1);
  size_t most = std::clamp(kMostElements / (beam * codebooks.padded_dim), tile, kMostTiles * tile);
  block_vectors_ = std::clamp<size_t>(share, 1, most / tile * tile);
}

double BeamEncode::work() const {
  double codewords = 0;
  for (size_t s = 0; s < request_.stages; s++) codewords += static_cast<double>(codebooks_.stages[s].num_codewords);
  return codewords * static_cast<double>(beam_ * request_.count) * static_cast<double>(codebooks_.dim);
}

void BeamEncode::run(BlockFeed& feed) {
  Scratch scratch(kernels_, codebooks_, std::min(block_vectors_, request_.count), beam_, request_.stages);
  while (auto block = feed.next()) {
    size_t first_vector = *block * block_vectors_;
    size_t count = std::min(block_vectors_, request_.count - first_vector);
    if (!check_.passes(first_vector, count)) {
      feed.stop();
      return;
    }
    encode_block(first_vector, count, scratch);
  }
}

void BeamEncode::encode_block(size_t first_vector, size_t count, Scratch& scratch) const {
  size_t dim = codebooks_.dim;
  size_t padded_dim = codebooks_.padded_dim;
  search_greedily(first_vector, count, scratch);

  for (size_t v = 0; v < count; v++) {
    const float* vector = request_.vectors + (first_vector + v) * dim;
    copy_padded(vector, dim, padded_dim, scratch.residuals.data() + v * padded_dim);
    scratch.first_rows[v] = static_cast<uint32_t>(v);
  }
  scratch.first_rows[count] = static_cast<uint32_t>(count);
  for (size_t s = 0; s + 1 < request_.stages; s++) search_stage(s, count, scratch);
  search_last_stage(request_.stages - 1, count, scratch);

  for (size_t v = 0; v < count; v++) write(first_vector + v, v, scratch);
}

// scratch.greedy = the codes of Encode.
void BeamEncode::search_greedily(size_t first_vector, size_t count, Scratch& scratch) const {
  size_t dim = codebooks_.dim;
  size_t padded_dim = codebooks_.padded_dim;
  for (size_t first = 0; first < count; first += kernels_.tile_rows) {
    size_t rows = std::min(kernels_.tile_rows, count - first);
    float* residuals = scratch.nearest.rows();
    for (size_t r = 0; r < rows; r++) {
      const float* vector = request_.vectors + (first_vector + first + r) * dim;
      copy_padded(vector, dim, padded_dim, residuals + r * padded_dim);
    }
    for (size_t s = 0; s < request_.stages; s++) {
      const Stage& stage = codebooks_.stages[s];
      const uint32_t* codes = scratch.nearest.run(stage, rows);
      for (size_t r = 0; r < rows; r++) {
        scratch.greedy[(first + r) * request_.stages + s] = codes[r];
        kernels_.subtract(residuals + r * padded_dim, stage.codewords.data() + codes[r] * padded_dim, padded_dim);
      }
    }
  }
}

// From the hypotheses of a stage to those of the next.
void BeamEncode::search_stage(size_t s, size_t count, Scratch& scratch) const {
  const Stage& stage = codebooks_.stages[s];
  size_t padded_dim = codebooks_.padded_dim;
  scratch.next_first_rows[0] = 0;
  for (size_t v = 0; v < count;) {
    // As many whole vectors as fill a tile.
    uint32_t first_row = scratch.first_rows[v];
    size_t end = v + 1;
    while (end < count && scratch.first_rows[end + 1] - first_row <= kernels_.tile_rows) end++;
    if (stage.packed) {
      scratch.screened_rows.clear();
      for (size_t u = v; u <= end; u++) scratch.screened_rows.push_back(scratch.first_rows[u] - first_row);
      scratch.screen.run(*stage.packed, scratch.residuals.data() + first_row * padded_dim, padded_dim,
                         scratch.screened_rows.data(), end - v);
    }

    for (size_t u = v; u < end; u++) {
      choose_children(stage, u, u - v, scratch);
      uint32_t next = scratch.next_first_rows[u];
      for (const Child& child : scratch.children) {
        scratch.parents[s][next] = child.row;
        scratch.codes[s][next] = child.code;
        float* residual = scratch.next_residuals.data() + next * padded_dim;
        std::memcpy(residual, scratch.residuals.data() + child.row * padded_dim, padded_dim * sizeof(float));
        kernels_.subtract(residual, stage.codewords.data() + child.code * padded_dim, padded_dim);
        next++;
      }
      scratch.next_first_rows[u + 1] = next;
    }
    v = end;
  }
  std::swap(scratch.residuals, scratch.next_residuals);
  std::swap(scratch.first_rows, scratch.next_first_rows);
}

// scratch.children = the n best of a vector, its rows being screened as those of vector_of_screen.
void BeamEncode::choose_children(const Stage& stage, size_t vector, size_t vector_of_screen, Scratch& scratch) const {
  scratch.children.clear();
  uint32_t first_row = scratch.first_rows[vector];
  uint32_t end = scratch.first_rows[vector + 1];
  auto* candidates = stage.packed ? scratch.screen.candidates(vector_of_screen) : nullptr;
  if (candidates != nullptr) {
    uint32_t first_screened = scratch.screened_rows[vector_of_screen];
    for (const auto& candidate : *candidates) {
      keep(stage, first_row + candidate.row - first_screened, candidate.code, scratch);
    }
  }
  for (uint32_t row = first_row; row < end; row++) {
    if (!is_finite(scratch.residuals.data() + row * codebooks_.padded_dim)) {
      keep(stage, row, 0, scratch);
    } else if (candidates == nullptr) {
      for (uint32_t code : stage.distinct) keep(stage, row, code, scratch);
    }
  }
}

// The only child of a row that is not finite is at an infinite distance.
void BeamEncode::keep(const Stage& stage, size_t row, uint32_t code, Scratch& scratch) const {
  std::vector<Child>& children = scratch.children;
  bool full = children.size() == beam_;
  double limit = full ? children.back().distance : kInfinity;
  size_t padded_dim = codebooks_.padded_dim;
  double distance =
      kernels_.distance(scratch.residuals.data() + row * padded_dim, stage.codewords.data() + code * padded_dim,
                        codebooks_.weights_or_null(), padded_dim, limit);
  Child child{distance < kInfinity ? distance : kInfinity, static_cast<uint32_t>(row), code};
  if (full) {
    if (!(child < children.back())) return;
    children.pop_back();
  }
  children.insert(std::upper_bound(children.begin(), children.end(), child), child);
}

// Only the best child of all is wanted, which is the nearest codeword of some hypothesis.
void BeamEncode::search_last_stage(size_t s, size_t count, Scratch& scratch) const {
  const Stage& stage = codebooks_.stages[s];
  size_t padded_dim = codebooks_.padded_dim;
  std::vector<uint32_t>& codes = scratch.codes[s];
  size_t all = scratch.first_rows[count];
  for (size_t first = 0; first < all; first += kernels_.tile_rows) {
    size_t rows = std::min(kernels_.tile_rows, all - first);
    std::memcpy(scratch.nearest.rows(), scratch.residuals.data() + first * padded_dim,
                rows * padded_dim * sizeof(float));
    std::copy_n(scratch.nearest.run(stage, rows), rows, codes.data() + first);
  }

  for (size_t v = 0; v < count; v++) {
    Child best{kInfinity, scratch.first_rows[v], codes[scratch.first_rows[v]]};
    for (uint32_t row = scratch.first_rows[v]; row < scratch.first_rows[v + 1]; row++) {
      double distance = kernels_.distance(scratch.residuals.data() + row * padded_dim,
                                          stage.codewords.data() + codes[row] * padded_dim,
                                          codebooks_.weights_or_null(), padded_dim, best.distance);
      if (distance < best.distance) best = {distance, row, codes[row]};
    }
    // Vector v's answer takes the place of its first row: those before it have been read.
    scratch.parents[s][scratch.first_rows[v]] = best.row;
    codes[scratch.first_rows[v]] = best.code;
  }
}

// The better of a vector's best and its greedy path.
void BeamEncode::write(size_t vector, size_t v, Scratch& scratch) const {
  size_t dim = codebooks_.dim;
  size_t padded_dim = codebooks_.padded_dim;
  size_t stages = request_.stages;
  uint32_t row = scratch.first_rows[v];
  for (size_t s = stages; s-- > 0;) {
    scratch.path[s] = scratch.codes[s][row];
    row = scratch.parents[s][row];
  }
  float* x = scratch.vector.data();
  copy_padded(request_.vectors + vector * dim, dim, padded_dim, x);
  const uint32_t* path = scratch.path.data();
  const uint32_t* greedy = scratch.greedy.data() + v * stages;
  if (!std::equal(path, path + stages, greedy) && !(error(x, path, scratch) < error(x, greedy, scratch))) path = greedy;
  for (size_t s = 0; s < stages; s++) request_.codes.set(vector * stages + s, path[s]);

  if (request_.residuals == nullptr) return;
  for (size_t s = 0; s < stages; s++) {
    kernels_.subtract(x, codebooks_.stages[s].codewords.data() + path[s] * padded_dim, padded_dim);
  }
  std::memcpy(request_.residuals + vector * dim, x, dim * sizeof(float));
}

double BeamEncode::error(const float* vector, const uint32_t* path, Scratch& scratch) const {
  size_t padded_dim = codebooks_.padded_dim;
  float* sum = scratch.reconstruction.data();
  std::fill_n(sum, padded_dim, 0.0f);
  for (size_t s = 0; s < request_.stages; s++) {
    const float* codeword = codebooks_.stages[s].codewords.data() + path[s] * padded_dim;
    for (size_t i = 0; i < padded_dim; i++) sum[i] += codeword[i];
  }
  return kernels_.distance(vector, sum, codebooks_.weights_or_null(), padded_dim, kInfinity);
}

bool BeamEncode::is_finite(const float* row) const {
  return kernels_.first_not_finite(row, codebooks_.dim) == codebooks_.dim;
}

}  // namespace rvq::cpu

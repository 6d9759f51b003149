// Assignment of rows to codewords: rows are sorted into those to search in full and those to compare with few
// codewords.

#include "assign.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "aligned_array.h"
#include "search.h"

namespace rvq::cpu {

namespace {

// Rows that wait to be searched together.
struct Queue {
  Queue(const Kernels& kernels, const Codebooks& codebooks) : search(kernels, codebooks, kernels.tile_rows) {
    rows.reserve(kernels.tile_rows);
    own_codes.reserve(kernels.tile_rows);
    own_distances.reserve(kernels.tile_rows);
  }

  bool full(const Kernels& kernels) const { return rows.size() == kernels.tile_rows; }
  void clear() {
    rows.clear();
    own_codes.clear();
    own_distances.clear();
  }

  StageSearch search;
  std::vector<size_t> rows;           // of the request
  std::vector<uint32_t> own_codes;    // of the rows on entry, where those are looked at; distances may overwrite codes
  std::vector<double> own_distances;  // to their codewords
};

}  // namespace

// A thread's memory for the time of a call.
struct Assign::Scratch {
  Scratch(const Kernels& kernels, const Codebooks& codebooks, bool reduced)
      : all(kernels, codebooks), unit(codebooks.padded_dim) {
    if (reduced) few.emplace(kernels, codebooks);
  }

  Queue all;                 // to be compared with all codewords
  std::optional<Queue> few;  // only with those that moved
  AlignedArray<float> unit;  // [padded_dim]
};

double Assign::work() const {
  return static_cast<double>(request_.count) * static_cast<double>(codebooks_.dim * stage_.num_codewords);
}

void Assign::run(BlockFeed& feed) {
  Scratch scratch(kernels_, codebooks_, moved_ != nullptr);
  while (auto block = feed.next()) {
    size_t end = std::min(request_.count, (*block + 1) * kBlockRows);
    for (size_t row = *block * kBlockRows; row < end; row++) {
      if (queue(row, scratch)) continue;
      out_of_range_.store(true, std::memory_order_relaxed);
      return feed.stop();
    }
  }
  search_in_full(scratch);
  if (moved_ != nullptr) search_moved(scratch);
}

// False where the row's code has no codeword.
bool Assign::queue(size_t row, Scratch& scratch) const {
  size_t dim = codebooks_.dim;
  size_t padded_dim = codebooks_.padded_dim;
  Queue& first = scratch.few ? *scratch.few : scratch.all;
  float* elements = first.search.rows() + first.rows.size() * padded_dim;
  copy_padded(request_.vectors + row * dim, dim, padded_dim, elements);

  if (scratch.few) {
    uint32_t own = request_.codes.get(row);
    if (own >= stage_.num_codewords) return false;
    const float* from = query(elements, scratch);
    bool near = from != nullptr;
    double own_distance = near ? distance(from, stage_.searched() + own * padded_dim) : 0;
    if (near && moved_->moved[own]) near = own_distance <= distance(from, moved_->before.data() + own * padded_dim);
    if (near) {
      scratch.few->rows.push_back(row);
      scratch.few->own_codes.push_back(own);
      scratch.few->own_distances.push_back(own_distance);
      if (scratch.few->full(kernels_)) search_moved(scratch);
      return true;
    }
    std::memcpy(scratch.all.search.rows() + scratch.all.rows.size() * padded_dim, elements, padded_dim * sizeof(float));
  }
  scratch.all.rows.push_back(row);
  if (scratch.all.full(kernels_)) search_in_full(scratch);
  return true;
}

void Assign::search_in_full(Scratch& scratch) const {
  Queue& queue = scratch.all;
  if (queue.rows.empty()) return;
  const uint32_t* codes = queue.search.run(stage_, queue.rows.size());
  for (size_t r = 0; r < queue.rows.size(); r++) {
    write(queue.rows[r], queue.search.rows() + r * codebooks_.padded_dim, codes[r]);
  }
  queue.clear();
}

void Assign::search_moved(Scratch& scratch) const {
  Queue& queue = *scratch.few;
  if (queue.rows.empty()) return;
  bool any = !moved_->stage.distinct.empty();
  const uint32_t* codes = any ? queue.search.run(moved_->stage, queue.rows.size()) : nullptr;
  for (size_t r = 0; r < queue.rows.size(); r++) {
    const float* elements = queue.search.rows() + r * codebooks_.padded_dim;
    uint32_t own = queue.own_codes[r];
    uint32_t code = any ? codes[r] : own;
    if (code != own) {
      double own_distance = queue.own_distances[r];
      double other = distance(query(elements, scratch), stage_.searched() + code * codebooks_.padded_dim);
      if (other > own_distance || (other == own_distance && own < code)) code = own;
    }
    write(queue.rows[r], elements, code);
  }
  queue.clear();
}

const float* Assign::query(const float* row, Scratch& scratch) const {
  if (codebooks_.metric != Metric::kCosine) return row;
  return kernels_.unit_row(row, codebooks_.padded_dim, scratch.unit.data()) ? scratch.unit.data() : nullptr;
}

double Assign::distance(const float* query, const float* codeword) const {
  return kernels_.distance(query, codeword, codebooks_.weights_or_null(), codebooks_.padded_dim,
                           std::numeric_limits<double>::infinity());
}

void Assign::write(size_t row, const float* elements, uint32_t code) const {
  const float* codeword = stage_.codewords.data() + code * codebooks_.padded_dim;
  request_.codes.set(row, code);
  request_.distances[row] = distance(elements, codeword);
  if (request_.plain_distances == nullptr) return;
  request_.plain_distances[row] =
      kernels_.distance(elements, codeword, nullptr, codebooks_.padded_dim, std::numeric_limits<double>::infinity());
}

}  // namespace rvq::cpu

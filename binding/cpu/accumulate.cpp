// Counts and sums of the vectors of every codeword: a counting sort, then one codeword after the other.

#include "accumulate.h"

#include <algorithm>
#include <cmath>

namespace rvq::cpu {

namespace {

// Enough for the threads to share out evenly, few enough to hide the hand-over.
constexpr size_t kMostBlocks = 64;

// Rows of a codeword lie anywhere in memory: each is fetched this many rows before its turn.
constexpr size_t kRowsAhead = 6;

void prefetch(const float* row, size_t dim) {
  constexpr size_t kLine = 16;  // elements
  for (size_t i = 0; i < dim; i += kLine) __builtin_prefetch(row + i);
}

// A compiler may not read it again, whoever writes to it: what is checked is what is used.
template <typename Code>
size_t read_once(const Code* code) {
  return __atomic_load_n(code, __ATOMIC_RELAXED);
}

template <typename Visitor>
bool visit(const Codes& codes, const Visitor& visitor) {
  return codes.wide ? visitor(static_cast<const uint32_t*>(codes.data))
                    : visitor(static_cast<const uint16_t*>(codes.data));
}

}  // namespace

size_t Accumulate::blocks() const { return request_.count == 0 ? 0 : std::min(kMostBlocks, request_.num_codewords); }

void Accumulate::run(BlockFeed& feed) {
  std::call_once(sorted_, [this] {
    if (!sort_rows()) return out_of_range_.store(true, std::memory_order_relaxed);
    cut_blocks();
    for (size_t i = 0; i < request_.dim; i++) {
      inverse_grids_.push_back(std::ldexp(1.0, -request_.grid_exponents[i]));
      negated_grids_.push_back(-inverse_grids_[i]);
    }
  });
  if (code_out_of_range()) return feed.stop();

  while (auto block = feed.next()) {
    for (size_t k = block_begins_[*block]; k < block_begins_[*block + 1]; k++) {
      double arriving = static_cast<double>(arriving_.first[k + 1] - arriving_.first[k]);
      double leaving = static_cast<double>(leaving_.first[k + 1] - leaving_.first[k]);
      request_.counts[k] += arriving - leaving;
      add(k, arriving_, inverse_grids_);
      add(k, leaving_, negated_grids_);
    }
  }
}

void Accumulate::add(size_t codeword, const Members& members, const std::vector<double>& inverse_grids) const {
  double* sums = request_.sums + codeword * request_.dim;
  for (size_t at = members.first[codeword]; at < members.first[codeword + 1]; at++) {
    if (at + kRowsAhead < members.rows.size()) {
      prefetch(request_.vectors + members.rows[at + kRowsAhead] * request_.dim, request_.dim);
    }
    kernels_.add_rounded(sums, request_.vectors + members.rows[at] * request_.dim, request_.dim, inverse_grids.data());
  }
}

// False where a code has no codeword.
bool Accumulate::sort_rows() {
  leaving_.first.assign(request_.num_codewords + 1, 0);
  return visit(request_.codes, [this](auto* codes) {
    if (!request_.previous) return sort(codes, static_cast<const uint16_t*>(nullptr), arriving_);
    return visit(*request_.previous, [this, codes](auto* previous) {
      return sort(codes, previous, arriving_) && sort(previous, codes, leaving_);
    });
  });
}

// All rows, or those that have another code in `others`. Codes are read once to be counted and once to be sorted; where
// the caller writes to them in between, rows are in wrong places, but none outside.
template <typename Code, typename Other>
bool Accumulate::sort(const Code* codes, const Other* others, Members& members) const {
  const size_t count = request_.count;
  const size_t num_codewords = request_.num_codewords;
  auto stays = [others](size_t row, size_t code) { return others != nullptr && read_once(others + row) == code; };

  members.first.assign(num_codewords + 1, 0);
  size_t* counts = members.first.data() + 1;
  for (size_t n = 0; n < count; n++) {
    size_t code = read_once(codes + n);
    if (code >= num_codewords) return false;
    if (!stays(n, code)) counts[code]++;
  }
  for (size_t k = 0; k < num_codewords; k++) members.first[k + 1] += members.first[k];

  const size_t size = members.first.back();
  members.rows.resize(size);
  uint32_t* rows = members.rows.data();
  std::vector<size_t> ends(members.first.begin(), members.first.end() - 1);
  size_t* next = ends.data();
  for (size_t n = 0; n < count; n++) {
    size_t code = read_once(codes + n);
    if (code >= num_codewords) return false;
    if (stays(n, code)) continue;
    size_t at = next[code]++;
    if (at < size) rows[at] = static_cast<uint32_t>(n);
  }
  return true;
}

// Ranges of codewords with about as many rows each.
void Accumulate::cut_blocks() {
  size_t wanted = blocks();
  std::vector<size_t> before(request_.num_codewords);
  for (size_t k = 0; k < before.size(); k++) before[k] = arriving_.first[k] + leaving_.first[k];
  size_t total = arriving_.rows.size() + leaving_.rows.size();
  block_begins_.assign(1, 0);
  for (size_t block = 1; block < wanted; block++) {
    auto begin = std::lower_bound(before.begin(), before.end(), total * block / wanted);
    block_begins_.push_back(std::max(block_begins_.back(), static_cast<size_t>(begin - before.begin())));
  }
  block_begins_.push_back(request_.num_codewords);
}

}  // namespace rvq::cpu

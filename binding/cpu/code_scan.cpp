// Search on codes: fills lookup tables and adds them up, a cache's worth of vectors at a time.

#include "code_scan.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace rvq::cpu {

namespace {

// Vectors whose sums stay in the first-level cache: 8 KB.
constexpr size_t kBlockVectors = 1024;
// Enough to be worth a thread's while, few enough for all threads of a machine.
constexpr size_t kRangeVectors = 65'536;
constexpr size_t kByteCodes = 256;
constexpr size_t kSumLanes = 8;

// Eight partial sums, lane i mod 8, and their tree (docs/search.md).
double inner_product(const double* x, const float* y, size_t dim) {
  double s[kSumLanes] = {};
  size_t whole = dim - dim % kSumLanes;
  for (size_t i = 0; i < whole; i += kSumLanes) {
    for (size_t lane = 0; lane < kSumLanes; lane++) s[lane] += x[i + lane] * static_cast<double>(y[i + lane]);
  }
  for (size_t i = whole; i < dim; i++) s[i - whole] += x[i] * static_cast<double>(y[i]);
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

void add_words(const uint32_t* words, size_t count, const double* table, double* sums) {
  for (size_t i = 0; i < count; i++) {
    uint32_t word = words[i];
    double sum = sums[i] + table[word & 255];
    sum += table[kByteCodes + ((word >> 8) & 255)];
    sum += table[2 * kByteCodes + ((word >> 16) & 255)];
    sums[i] = sum + table[3 * kByteCodes + (word >> 24)];
  }
}

// Codes of bytes have tables for all values; others are kept inside by force.
template <typename Code>
void add_codes(const void* codes, size_t first, size_t count, const double* table, size_t size, double* sums) {
  const Code* column = static_cast<const Code*>(codes) + first;
  for (size_t i = 0; i < count; i++) {
    size_t code = column[i];
    sums[i] += table[sizeof(Code) == 1 ? code : std::min(code, size - 1)];
  }
}

}  // namespace

CodeScan::CodeScan(CodeScanRequest request)
    : request_(std::move(request)),
      ranges_((request_.columns.vectors + kRangeVectors - 1) / kRangeVectors),
      queries_(request_.count) {}

double CodeScan::work() const {
  double of_query = static_cast<double>(request_.columns.vectors) * static_cast<double>(request_.codebooks.size());
  for (const auto& codebook : request_.codebooks) {
    of_query += static_cast<double>(codebook.num_codewords) * static_cast<double>(request_.dim);
  }
  return of_query * static_cast<double>(request_.count);
}

void CodeScan::run(BlockFeed& feed) {
  while (auto block = feed.next()) scan_range(*block / ranges_, *block % ranges_, query(*block / ranges_));
}

double CodeScan::Ranking::bound() const {
  return heap_.size() < capacity_ ? std::numeric_limits<double>::infinity() : heap_.front().key;
}

void CodeScan::Ranking::offer(const Candidate& candidate) {
  if (heap_.size() == capacity_) {
    if (!(candidate < heap_.front())) return;
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.back() = candidate;
  } else {
    heap_.push_back(candidate);
  }
  std::push_heap(heap_.begin(), heap_.end());
}

size_t CodeScan::table_size(size_t stage) const {
  const CodeColumns& columns = request_.columns;
  bool bytes = stage < 4 * columns.num_words || columns.single_bytes == 1;
  return bytes ? kByteCodes : request_.codebooks[stage].num_codewords;
}

CodeScan::Query& CodeScan::query(size_t q) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (queries_[q] == nullptr) queries_[q] = std::make_unique<Query>(request_.candidates);
  return *queries_[q];
}

void CodeScan::fill_tables(const double* query, std::vector<double>& tables) const {
  for (size_t stage = 0; stage < request_.codebooks.size(); stage++) {
    const auto& codebook = request_.codebooks[stage];
    size_t start = tables.size();
    tables.resize(start + table_size(stage));
    for (size_t k = 0; k < codebook.num_codewords; k++) {
      tables[start + k] = request_.factor * inner_product(query, codebook.codewords + k * request_.dim, request_.dim);
    }
  }
}

void CodeScan::add_tables(const double* tables, size_t first, size_t count, double* sums) const {
  const CodeColumns& columns = request_.columns;
  for (size_t word = 0; word < columns.num_words; word++, tables += 4 * kByteCodes) {
    add_words(columns.words + word * columns.vectors + first, count, tables, sums);
  }
  for (size_t single = 0; single < columns.num_singles; single++) {
    size_t start = single * columns.vectors + first;
    size_t size = table_size(4 * columns.num_words + single);
    if (columns.single_bytes == 1) add_codes<uint8_t>(columns.singles, start, count, tables, size, sums);
    if (columns.single_bytes == 2) add_codes<uint16_t>(columns.singles, start, count, tables, size, sums);
    if (columns.single_bytes == 4) add_codes<uint32_t>(columns.singles, start, count, tables, size, sums);
    tables += size;
  }
}

void CodeScan::scan_range(size_t q, size_t range, Query& query) {
  std::call_once(query.filled, [&] { fill_tables(request_.queries + q * request_.dim, query.tables); });
  Ranking nearest(request_.candidates);
  double bound = nearest.bound();
  {
    // What other ranges have found already need not be found again. Of equal keys the lower id wins: not below, but at
    // most the bound.
    std::lock_guard<std::mutex> lock(query.mutex);
    bound = query.best.bound();
  }
  size_t end = std::min(request_.columns.vectors, (range + 1) * kRangeVectors);
  double sums[kBlockVectors];
  for (size_t first = range * kRangeVectors; first < end; first += kBlockVectors) {
    size_t count = std::min(kBlockVectors, end - first);
    if (request_.norms != nullptr) {
      std::copy_n(request_.norms + first, count, sums);
    } else {
      std::fill_n(sums, count, 0.0);
    }
    add_tables(query.tables.data(), first, count, sums);
    for (size_t i = 0; i < count; i++) {
      if (!(sums[i] <= bound)) continue;
      nearest.offer({sums[i], static_cast<uint32_t>(first + i)});
      bound = std::min(bound, nearest.bound());
    }
  }

  std::lock_guard<std::mutex> lock(query.mutex);
  for (const Candidate& candidate : nearest.heap()) query.best.offer(candidate);
  if (++query.finished < ranges_) return;
  auto& best = query.best.heap();
  std::sort_heap(best.begin(), best.end());
  for (size_t i = 0; i < best.size(); i++) {
    request_.keys[q * request_.candidates + i] = best[i].key;
    request_.ids[q * request_.candidates + i] = best[i].id;
  }
  // No other block of this query will come.
  query.tables = {};
  best = {};
}

}  // namespace rvq::cpu

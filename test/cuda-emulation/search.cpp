// Codebooks and residual search of the emulated device, by the definition (docs/exactness.md), in place of
// cuda/search.cu and cuda/codebooks.cu, whose tensor-core kernels only a GPU can run.

#include "../../cuda/search.h"

#include <cuda_runtime.h>

#include <limits>

#include "../../cuda/codebooks.h"
#include "../../cuda/device_memory.h"
#include "../../cuda/failure.h"

namespace rvq::cuda {

struct StageView {
  DeviceArray<float> codewords;
  size_t num_codewords;
};

struct Codebooks::Content {
  size_t dim;
  bool cosine;
  int device;
  DeviceArray<float> weights;
  std::vector<StageView> stages;
};

namespace {

DeviceArray<float> uploaded(const float* from, size_t length) {
  DeviceArray<float> array(length);
  check(cudaMemcpy(array.data(), from, length * sizeof(float), cudaMemcpyHostToDevice), "upload");
  return array;
}

double tree(const double (&s)[8]) { return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])); }

double distance(const float* x, const float* c, const float* weights, size_t dim) {
  double sums[8] = {};
  for (size_t i = 0; i < dim; i++) {
    double t = static_cast<double>(x[i]) - static_cast<double>(c[i]);
    t = t * t;
    if (weights != nullptr) t = weights[i] * t;
    sums[i % 8] += t;
  }
  return tree(sums);
}

// False for a row of zeros.
bool to_unit(const float* x, size_t dim, float* unit) {
  double sums[8] = {};
  for (size_t i = 0; i < dim; i++) sums[i % 8] += static_cast<double>(x[i]) * x[i];
  double norm = tree(sums);
  for (size_t i = 0; i < dim; i++) unit[i] = static_cast<float>(x[i] / std::sqrt(norm));
  return norm != 0;
}

uint32_t nearest(const Codebooks& codebooks, size_t stage, const float* row) {
  size_t dim = codebooks.dim();
  std::vector<float> query(row, row + dim);
  std::vector<float> unit(dim);
  if (codebooks.cosine() && !to_unit(row, dim, query.data())) return 0;
  double best = std::numeric_limits<double>::infinity();
  uint32_t code = 0;
  for (size_t k = 0; k < codebooks.num_codewords(stage); k++) {
    const float* codeword = codebooks.codewords(stage) + k * dim;
    if (codebooks.cosine()) {
      to_unit(codeword, dim, unit.data());
      codeword = unit.data();
    }
    double d = distance(query.data(), codeword, codebooks.weights(), dim);
    if (!(d < best)) continue;
    best = d;
    code = static_cast<uint32_t>(k);
  }
  return code;
}

void check_row(const Codebooks& codebooks, const EncodeRequest& request, size_t row) {
  size_t dim = codebooks.dim();
  bool zero = codebooks.cosine();
  auto lower = [&](unsigned long long to) { *request.bad = std::min(*request.bad, to); };
  for (size_t i = row * dim; i < (row + 1) * dim; i++) {
    if (!std::isfinite(request.vectors[i])) return lower(2 * i);
    if (request.vectors[i] != 0) zero = false;
  }
  if (zero) lower(2 * row * dim + 1);
}

void encode_row(const Codebooks& codebooks, const EncodeRequest& request, size_t row) {
  size_t dim = codebooks.dim();
  float* residual = request.residuals + row * dim;
  std::memmove(residual, request.vectors + row * dim, dim * sizeof(float));
  for (size_t s = 0; s < request.stages; s++) {
    uint32_t code = nearest(codebooks, s, residual);
    size_t at = row * request.stages + s;
    if (request.codes.wide) {
      static_cast<uint32_t*>(request.codes.data)[at] = code;
    } else {
      static_cast<uint16_t*>(request.codes.data)[at] = static_cast<uint16_t>(code);
    }
    for (size_t i = 0; i < dim; i++) residual[i] -= codebooks.codewords(s)[code * dim + i];
  }
}

}  // namespace

Codebooks::Codebooks(const CodebookSpec& spec, int device)
    : content_(std::make_unique<Content>(Content{spec.dim, spec.cosine, device, {}, {}})) {
  if (spec.weights != nullptr) content_->weights = uploaded(spec.weights, spec.dim);
  for (const auto& stage : spec.stages) {
    content_->stages.push_back({uploaded(stage.codewords, stage.num_codewords * spec.dim), stage.num_codewords});
  }
}

Codebooks::~Codebooks() = default;
size_t Codebooks::dim() const { return content_->dim; }
bool Codebooks::cosine() const { return content_->cosine; }
int Codebooks::device() const { return content_->device; }
size_t Codebooks::num_stages() const { return content_->stages.size(); }
size_t Codebooks::num_codewords(size_t stage) const { return content_->stages[stage].num_codewords; }
const float* Codebooks::codewords(size_t stage) const { return content_->stages[stage].codewords.data(); }
const float* Codebooks::weights() const { return content_->weights.data(); }
size_t Codebooks::size_bytes() const {
  size_t bytes = content_->weights.size_bytes();
  for (const StageView& stage : content_->stages) bytes += stage.codewords.size_bytes();
  return bytes;
}

size_t encode_workspace_bytes(const Codebooks&, size_t count) { return count * 16; }

void encode(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, CUstream_st* stream) {
  emulation::enqueue(stream, [&codebooks, request, workspace] {
    std::memset(workspace, 0, encode_workspace_bytes(codebooks, request.count));
    for (size_t row = 0; row < request.count; row++) check_row(codebooks, request, row);
    if (*request.bad != UINT64_MAX) return;
    for (size_t row = 0; row < request.count; row++) encode_row(codebooks, request, row);
  });
}

}  // namespace rvq::cuda

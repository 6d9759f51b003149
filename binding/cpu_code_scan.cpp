// Reads what is to be searched, and searches it on the pool.

#include "cpu_code_scan.h"

#include <memory>
#include <utility>
#include <vector>

#include "arguments.h"
#include "core_call.h"
#include "cpu/code_scan.h"
#include "cpu_options.h"
#include "job.h"

namespace rvq {

namespace {

constexpr size_t kMostStages = 1 << 16;
constexpr size_t kByteCodewords = 256;

cpu::CodeColumns read_columns(Napi::Env env, Arguments& arguments, size_t stages) {
  cpu::CodeColumns columns{};
  columns.vectors = arguments.size_between("vectors", 1, UINT32_MAX);
  columns.num_words = arguments.size_between("numWords", 0, stages / 4);
  columns.num_singles = stages - 4 * columns.num_words;
  size_t num_words = product(env, columns.num_words, columns.vectors);
  columns.words = reinterpret_cast<const uint32_t*>(arguments.integers("words", num_words));
  size_t num_singles = product(env, columns.num_singles, columns.vectors);
  Napi::Value singles = arguments.value("singles");
  if (singles.IsTypedArray() && singles.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    columns.singles = arguments.bytes("singles", num_singles);
    columns.single_bytes = 1;
  } else {
    cpu::Codes codes = arguments.codes("singles", num_singles);
    columns.singles = codes.data;
    columns.single_bytes = codes.wide ? 4 : 2;
  }
  return columns;
}

}  // namespace

Napi::Value scan_codes(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(Arguments(info[1]));
  cpu::CodeScanRequest request{};
  size_t stages = arguments.size_between("stages", 1, kMostStages);
  request.columns = read_columns(env, arguments, stages);
  request.norms = arguments.has("norms") && arguments.value("norms").IsNull()
                      ? nullptr
                      : arguments.doubles("norms", request.columns.vectors);
  request.dim = arguments.size_between("dim", 1, 1u << 24);
  request.count = arguments.size("count");
  request.queries = arguments.doubles("queries", product(env, request.count, request.dim));
  request.factor = arguments.integer("factor");
  request.candidates = arguments.size_between("candidates", 1, request.columns.vectors);
  size_t found = product(env, request.count, request.candidates);
  request.keys = arguments.doubles("keys", found);
  request.ids = arguments.words("ids", found);

  std::vector<Arguments::Floats> codebooks = arguments.float_arrays("codebooks");
  if (codebooks.size() != stages) throw arguments.error("codebooks", "one for each stage");
  for (const auto& [codewords, length] : codebooks) {
    bool bytes = request.codebooks.size() < 4 * request.columns.num_words || request.columns.single_bytes == 1;
    size_t size = length / request.dim;
    if (size == 0 || length % request.dim != 0 || (bytes && size > kByteCodewords)) {
      throw arguments.error("codebooks", "codewords of dim elements, at most 256 where codes are bytes");
    }
    request.codebooks.push_back({codewords, size});
  }
  auto call = std::make_unique<CoreCall<cpu::CodeScan>>(nullptr, std::move(request));
  return Jobs::run_later(env, std::move(call), options.threads, arguments.arrays());
}

}  // namespace rvq

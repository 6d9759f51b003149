// The codebooks of a quantizer on one device: searched by any number of streams, and packed again where a kernel has
// changed codewords.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

struct CUstream_st;

namespace rvq::cuda {

// What a quantizer is made of, borrowed for the time of the preparation.
struct CodebookSpec {
  struct Stage {
    const float* codewords;  // host [num_codewords][dim], finite; with the cosine metric none is zero
    size_t num_codewords;
  };
  size_t dim;
  bool cosine;
  const float* weights;  // host [dim] or null
  std::vector<Stage> stages;
};

// A stage as the kernels see it, and how codewords are packed (stage.cuh).
struct StageView;
struct TileShape;

class Codebooks {
 public:
  // On device number `device`.
  Codebooks(const CodebookSpec& spec, int device);
  ~Codebooks();
  Codebooks(const Codebooks&) = delete;
  Codebooks& operator=(const Codebooks&) = delete;

  // Enqueues that all stages are made ready for searches again, after codewords(…) have been changed in the stream's
  // order. Allocates nothing and waits for nothing. Meanwhile, and until the work before it has been done, nobody else
  // uses the object's memory: no other stream searches or packs it. Codewords are to be finite, and with the cosine
  // metric none zero; with others searches give codes without meaning, but codes of these codebooks.
  void pack(CUstream_st* stream);
  // The same after other codewords, as many in each stage, have come from the host: they stay until that has been done.
  void replace(const std::vector<CodebookSpec::Stage>& stages, CUstream_st* stream);

  size_t dim() const;
  bool cosine() const;
  int device() const;
  size_t num_stages() const;
  size_t num_codewords(size_t stage) const;
  // Device [num_codewords][dim], as given: dense, no padding.
  const float* codewords(size_t stage) const;
  float* codewords(size_t stage);
  // Device [dim] or null.
  const float* weights() const;
  // Bytes of device memory.
  size_t size_bytes() const;
  // How the search screens rows on the device: "wgmma", "float16" or "int8"; "none" where a stage of them, or all of
  // the device, has no screen that is right. Waits for the device: for tests.
  const char* screen() const;

  // For the search kernels: views of all stages, the packed tiles of all of them, and the place of a stage's first tile
  // (of `num_stages()`: the number of tiles).
  TileShape tile() const;
  const StageView* views() const;
  const unsigned char* packed() const;
  size_t first_tile(size_t stage) const;

 private:
  struct Content;
  std::unique_ptr<Content> content_;
};

}  // namespace rvq::cuda

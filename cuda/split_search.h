// Residual encoding of few rows: the codewords of a stage are split among blocks of the whole device.

#pragma once

#include <cstddef>

#include "codebooks.h"
#include "search.h"

namespace rvq::cuda {

// Whether encode() searches so many rows and stages this way.
bool is_split(const Codebooks& codebooks, size_t count, size_t stages);

// As encode() of search.h, for what is_split.
size_t split_workspace_bytes(const Codebooks& codebooks, size_t count);
void encode_split(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, CUstream_st* stream);

}  // namespace rvq::cuda

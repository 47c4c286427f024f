// What dcnv3_fused.cu offers to its binding.
#pragma once

#include "../dcnv3.h"
#include "kind.h"

namespace cascadezoo {

constexpr int kFusedPoints = 9;  // of a kernel of 3 x 3, the only one it is for

// Launches on ``stream``, a cudaStream_t.  A row of offset_mask has ``row`` numbers, an even number; all tensors are of
// one type.  Returns what went wrong, or nullptr.
const char* dcnv3_fused_cuda(
    Kind kind, const void* input, const void* offset_mask, void* output, int row, const Dcnv3Shape32& p, void* stream);

}  // namespace cascadezoo

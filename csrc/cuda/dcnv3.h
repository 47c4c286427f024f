// What dcnv3.cu offers to its binding: raw pointers, so that neither needs the other's headers.
#pragma once

#include "../dcnv3.h"
#include "kind.h"

namespace cascadezoo {

// Launch on ``stream``, a cudaStream_t.  ``float_points``: offset and mask are float32 whatever the input is.  Return
// what went wrong, or nullptr.
const char* dcnv3_cuda_forward(
    Kind kind, bool float_points, const void* input, const void* offset, const void* mask, void* output,
    const Dcnv3Shape32& p, void* stream);

// grad_input is zero, of float32 for half types, and begins at a multiple of 16 bytes
const char* dcnv3_cuda_backward(
    Kind kind, bool float_points, const void* grad, const void* input, const void* offset, const void* mask,
    void* grad_input, void* grad_offset, void* grad_mask, const Dcnv3Shape32& p, void* stream);

}  // namespace cascadezoo

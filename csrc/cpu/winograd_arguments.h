// What the operators of Winograd's way in float32 take; kChunk is product.h's.
#pragma once

#include "../stable.h"

namespace cascadezoo {
namespace {

inline void check_channels(const char* name, int64_t in, int64_t out) {
  STD_TORCH_CHECK(
      in > 0 && out > 0 && in % 16 == 0 && out % kChunk == 0, name,
      ": it takes multiples of 16 channels and gives multiples of ", kChunk, ", not ", in, " and ", out);
}

inline void check_floats(const char* name, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors)
    STD_TORCH_CHECK(
        tensor->scalar_type() == ScalarType::Float && tensor->is_cpu(), name, ": tensors must be float32, on a CPU");
}

inline void check_lanes(const char* name, int64_t lanes) {
  STD_TORCH_CHECK(lanes == 4 || lanes == 8 || lanes == 16, name, ": lanes must be 4, 8 or 16, not ", lanes);
}

}  // namespace
}  // namespace cascadezoo

// What the bindings of CUDA kernels share.  Compiled by the C++ compiler, without a CUDA header.
#pragma once

#include "../stable.h"
#include "kind.h"

namespace cascadezoo {

// called only with types that the operator's checks let through
inline Kind kind_of(ScalarType type) {
  switch (type) {
    case ScalarType::Double:
      return Kind::Double;
    case ScalarType::Half:
      return Kind::Half;
    case ScalarType::BFloat16:
      return Kind::BFloat16;
    default:
      return Kind::Float;
  }
}

inline void check_launch(const char* operation, const char* error) {
  STD_TORCH_CHECK(
      error == nullptr, operation, ": ", error ? error : "",
      " (a library built for another GPU? `cascadezoo build-ops --cuda` builds for this one)");
}

}  // namespace cascadezoo

#if defined(CZ_EMULATED)  // tests/cuda_emulation: the same operators for tensors on the CPU, under a name of their own

#define CZ_CUDA_OPERATORS(m) STABLE_TORCH_LIBRARY_IMPL(cascadezoo_emulated, CPU, m)

namespace cascadezoo {

struct OnDevice {
  explicit OnDevice(const Tensor&) {}
  void* stream = nullptr;
};

}  // namespace cascadezoo

#else

#include <torch/csrc/stable/accelerator.h>
#include <torch/headeronly/util/shim_utils.h>

// the stable headers declare it only where CUDA's own are included
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

#define CZ_CUDA_OPERATORS(m) STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CUDA, m)

namespace cascadezoo {

// Makes a tensor's device the current one while this lives.
struct OnDevice {
  explicit OnDevice(const Tensor& tensor) : guard(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  }

  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;  // the current cudaStream_t
};

}  // namespace cascadezoo

#endif

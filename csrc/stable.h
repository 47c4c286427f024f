// What the bindings share.  LibTorch's stable ABI: a library built once runs in every later torch.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <initializer_list>
#include <tuple>

namespace cascadezoo {

using torch::stable::Tensor;
using ScalarType = torch::headeronly::ScalarType;

inline bool has_shape(const Tensor& tensor, std::initializer_list<int64_t> shape) {
  if (tensor.dim() != static_cast<int64_t>(shape.size())) return false;
  int64_t axis = 0;
  for (int64_t size : shape)
    if (tensor.size(axis++) != size) return false;
  return true;
}

inline bool is_half(ScalarType type) { return type == ScalarType::Half || type == ScalarType::BFloat16; }

inline bool is_floating(const Tensor& tensor) {
  const ScalarType type = tensor.scalar_type();
  return type == ScalarType::Float || type == ScalarType::Double || is_half(type);
}

// the type in which sums are kept
inline ScalarType accumulating(ScalarType type) { return is_half(type) ? ScalarType::Float : type; }

inline Tensor cast(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

// Views of (n, h, w, channels) as (n, channels, h, w), and back; torch 2.11 has no stable permute.
inline Tensor seen_channels_first(const Tensor& tensor) {
  return torch::stable::transpose(torch::stable::transpose(tensor, 2, 3), 1, 2);
}
inline Tensor seen_channels_last(const Tensor& tensor) {
  return torch::stable::transpose(torch::stable::transpose(tensor, 1, 2), 2, 3);
}

}  // namespace cascadezoo

// Images to a batch on CUDA as an operator.
#include <algorithm>
#include <cmath>
#include <vector>

#include "binding.h"
#include "preprocess.h"

namespace cascadezoo {
namespace {

constexpr int64_t kMostSide = 1 << 19;  // rows of a launch, eight a block; float32 counts further
constexpr int64_t kMostLevels = 2147483647;

PreprocessBatch::Image placed(
    const Tensor& image, const int64_t* size, const double* step, int64_t height, int64_t width) {
  STD_TORCH_CHECK(
      size[0] >= 1 && size[1] >= 1 && size[0] <= height && size[1] <= width,
      "preprocess: a resized image of ", size[0], " x ", size[1], " in a batch of ", height, " x ", width);
  for (int axis = 0; axis < 2; ++axis)
    STD_TORCH_CHECK(
        std::isfinite(step[axis]) && step[axis] > 0 && step[axis] * static_cast<double>(size[axis]) <= 1 << 30,
        "preprocess: steps must be positive, and end near the image");
  return {
      image.const_data_ptr<uint8_t>(), static_cast<int>(image.size(0)), static_cast<int>(image.size(1)),
      static_cast<int>(size[0]), static_cast<int>(size[1]), step[0], step[1]};
}

Tensor preprocess(
    const std::vector<Tensor>& images, const std::vector<int64_t>& sizes, const std::vector<double>& steps,
    const std::vector<double>& mean, const std::vector<double>& std, int64_t height, int64_t width, bool float32,
    ScalarType dtype) {
  STD_TORCH_CHECK(!images.empty(), "preprocess: no images");
  STD_TORCH_CHECK(
      sizes.size() == 2 * images.size() && steps.size() == 2 * images.size(),
      "preprocess: two sides and two steps for each image");
  STD_TORCH_CHECK(mean.size() == 3 && std.size() == 3, "preprocess: mean and std have three numbers each");
  STD_TORCH_CHECK(
      dtype == ScalarType::Float || dtype == ScalarType::Double || is_half(dtype),
      "preprocess: dtype must be floating point");
  STD_TORCH_CHECK(
      height >= 1 && width >= 1 && height <= kMostSide && width <= kMostSide,
      "preprocess: a batch of ", height, " x ", width, " pixels: sides must lie in 1..", kMostSide);
  for (const Tensor& image : images) {
    STD_TORCH_CHECK(
        image.dim() == 3 && image.size(2) == 3 && image.scalar_type() == ScalarType::Byte,
        "preprocess: images must be (h, w, 3), of uint8");
    STD_TORCH_CHECK(
        image.numel() >= 1 && image.numel() <= kMostLevels && std::max(image.size(0), image.size(1)) <= kMostSide,
        "preprocess: an image of ", image.size(0), " x ", image.size(1), ": sides must lie in 1..", kMostSide,
        ", and at most 2^31 - 1 levels are counted");
    STD_TORCH_CHECK(image.device() == images[0].device(), "preprocess: images on different devices");
  }
  const OnDevice device(images[0]);
  const auto count = static_cast<int64_t>(images.size());
  Tensor pixels = torch::stable::new_empty(images[0], {count, height, width, 3}, dtype);
  PreprocessBatch batch{};
  batch.height = static_cast<int>(height), batch.width = static_cast<int>(width);
  std::copy(mean.begin(), mean.end(), batch.mean);
  std::copy(std.begin(), std.end(), batch.std);
  std::vector<Tensor> sources;
  for (const Tensor& image : images) sources.push_back(torch::stable::contiguous(image));
  for (int64_t start = 0; start < count; start += kMostImages) {
    batch.images = static_cast<int>(std::min<int64_t>(kMostImages, count - start));
    for (int64_t i = 0; i < batch.images; ++i) {
      const int64_t at = start + i;
      batch.image[i] = placed(sources[at], &sizes[2 * at], &steps[2 * at], height, width);
    }
    auto* out = static_cast<char*>(pixels.mutable_data_ptr()) + start * height * width * 3 * pixels.element_size();
    check_launch("preprocess", preprocess_cuda(kind_of(dtype), float32, batch, out, device.stream));
  }
  return seen_channels_first(pixels);
}

}  // namespace
}  // namespace cascadezoo

CZ_CUDA_OPERATORS(m) { m.impl("preprocess", TORCH_BOX(&cascadezoo::preprocess)); }

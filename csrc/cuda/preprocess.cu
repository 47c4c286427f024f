// nvcc: --fmad=false
// Images to a batch in one launch: each thread resizes, normalises and writes a few neighbouring pixels of a row.
#include "preprocess.h"

#include "launch.h"

#include "../preprocess.h"

namespace cascadezoo {
namespace {

constexpr int kAcross = 32, kDown = 8, kThreads = kAcross * kDown;
constexpr int kPixels = 4;    // of a thread: three packs of four numbers
constexpr int kHalfFull = 4;  // blocks that a multiprocessor shall hold at least: half of its threads

// grid (packs of pixels in a row / kAcross, rows of the batch / kDown, images)
template <class T, class Method>
__global__ void __launch_bounds__(kThreads, kHalfFull) preprocess_kernel(
    const __grid_constant__ PreprocessBatch batch, T* __restrict__ pixels) {
  const PreprocessBatch::Image& image = batch.image[blockIdx.z];
  const int row = blockIdx.y * kDown + threadIdx.x / kAcross;
  const int first = (blockIdx.x * kAcross + threadIdx.x % kAcross) * kPixels;
  if (row >= batch.height || first >= batch.width) return;

  float found[3 * kPixels] = {};
  if (row < image.rows && first < image.columns) {
    const auto y = Method::row(image.step_y, row, image.height);
    CZ_UNROLL
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      const int column = min(first + pixel, image.columns - 1);  // no branch: beyond the image are zeros, below
      const auto x = Method::column(image.step_x, column, image.width);
      CZ_UNROLL
      for (int colour = 0; colour < 3; ++colour) {
        const auto above = Method::across(x, image.levels + y.at[0] * image.width * 3 + colour);
        const auto below = Method::across(x, image.levels + y.at[1] * image.width * 3 + colour);
        found[3 * pixel + colour] = Method::down(y, above, below);
      }
    }
    CZ_UNROLL
    for (int i = 0; i < 3 * kPixels; ++i)
      found[i] = first + i / 3 < image.columns ? (found[i] - batch.mean[i % 3]) / batch.std[i % 3] : 0;
  }

  T* out = pixels + ((static_cast<int64_t>(blockIdx.z) * batch.height + row) * batch.width + first) * 3;
  if (batch.width % kPixels == 0) {
    using Numbers = Pack<T, kPixels>;
    CZ_UNROLL
    for (int i = 0; i < 3; ++i) {
      Numbers numbers;
      for (int k = 0; k < kPixels; ++k) numbers.value[k] = T(found[kPixels * i + k]);
      reinterpret_cast<Numbers*>(out)[i] = numbers;
    }
  } else {
    CZ_UNROLL
    for (int i = 0; i < 3 * kPixels; ++i)
      if (first + i / 3 < batch.width) out[i] = T(found[i]);
  }
}

template <class Method, class T>
const char* run(const PreprocessBatch& batch, T* pixels, void* stream) {
  const unsigned across = (batch.width + kPixels * kAcross - 1) / (kPixels * kAcross);
  const dim3 grid(across, (batch.height + kDown - 1) / kDown, batch.images);
  CZ_LAUNCH((preprocess_kernel<T, Method>), grid, dim3(kThreads), 0, stream, batch, pixels);
  return launched();
}

}  // namespace

const char* preprocess_cuda(Kind kind, bool float32, const PreprocessBatch& batch, void* pixels, void* stream) {
  return by_kind(kind, [&](auto t) {
    auto* out = static_cast<decltype(t)*>(pixels);
    return float32 ? run<FloatLinear>(batch, out, stream) : run<FixedLinear>(batch, out, stream);
  });
}

}  // namespace cascadezoo

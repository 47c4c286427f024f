// nvcc: --fmad=false
// Images to a batch in one launch: each thread resizes, normalises and writes a few neighbouring pixels of a row.
#include "preprocess.h"

#include "launch.h"

#include "../preprocess.h"

namespace cascadezoo {
namespace {

// neighbours in a row that a thread writes, as three packs of so many numbers: as many as its registers suffice for
template <class Method>
constexpr int kPixels = 8 / Method::kTaps;

constexpr int kAcross = 32, kDown = 8, kThreads = kAcross * kDown;
constexpr int kHalfFull = 4;  // blocks that a multiprocessor shall hold at least: half of its threads

// grid (packs of pixels in a row / kAcross, rows of the batch / kDown, images)
template <class T, class Method>
__global__ void __launch_bounds__(kThreads, kHalfFull) preprocess_kernel(
    const __grid_constant__ PreprocessBatch batch, bool whole, T* __restrict__ pixels) {
  const PreprocessBatch::Image& image = batch.image[blockIdx.z];
  const int row = blockIdx.y * kDown + threadIdx.x / kAcross;
  const int first = (blockIdx.x * kAcross + threadIdx.x % kAcross) * kPixels<Method>;
  if (row >= batch.height || first >= batch.width) return;

  float found[3 * kPixels<Method>] = {};
  if (row < image.rows && first < image.columns) {
    const auto y = Method::row(image.step_y, row, image.height);
    CZ_UNROLL
    for (int pixel = 0; pixel < kPixels<Method>; ++pixel) {
      const int column = min(first + pixel, image.columns - 1);  // no branch: beyond the image it is not written
      const auto x = Method::column(image.step_x, column, image.width);
      CZ_UNROLL
      for (int colour = 0; colour < 3; ++colour) {
        typename Method::Sum sums[Method::kTaps];
        for (int k = 0; k < Method::kTaps; ++k)
          sums[k] = Method::across(x, image.levels + y.at[k] * image.width * 3 + colour);
        found[3 * pixel + colour] = Method::down(y, sums, whole);
      }
    }
    CZ_UNROLL
    for (int i = 0; i < 3 * kPixels<Method>; ++i)
      found[i] = first + i / 3 < image.columns ? (found[i] - batch.mean[i % 3]) / batch.std[i % 3] : 0;
  }

  T* out = pixels + ((static_cast<int64_t>(blockIdx.z) * batch.height + row) * batch.width + first) * 3;
  if (batch.width % kPixels<Method> == 0) {
    using Numbers = Pack<T, kPixels<Method>>;
    CZ_UNROLL
    for (int i = 0; i < 3; ++i) {
      Numbers numbers;
      for (int k = 0; k < kPixels<Method>; ++k) numbers.value[k] = T(found[kPixels<Method> * i + k]);
      reinterpret_cast<Numbers*>(out)[i] = numbers;
    }
  } else {
    CZ_UNROLL
    for (int i = 0; i < 3 * kPixels<Method>; ++i)
      if (first + i / 3 < batch.width) out[i] = T(found[i]);
  }
}

template <class T, class Method>
const char* run(const PreprocessBatch& batch, bool whole, T* pixels, void* stream) {
  constexpr int of_block = kPixels<Method> * kAcross;
  const unsigned across = (batch.width + of_block - 1) / of_block;
  const dim3 grid(across, (batch.height + kDown - 1) / kDown, batch.images);
  CZ_LAUNCH((preprocess_kernel<T, Method>), grid, dim3(kThreads), 0, stream, batch, whole, pixels);
  return launched();
}

}  // namespace

const char* preprocess_cuda(Kind kind, ResizeMethod method, const PreprocessBatch& batch, void* pixels, void* stream) {
  return by_kind(kind, [&](auto t) {
    using T = decltype(t);
    T* out = static_cast<T*>(pixels);
    switch (method) {
      case ResizeMethod::FixedLinear:
        return run<T, FixedLinear>(batch, true, out, stream);
      case ResizeMethod::FloatLinear:
        return run<T, FloatLinear>(batch, false, out, stream);
      default:
        return run<T, Cubic>(batch, method == ResizeMethod::WholeCubic, out, stream);
    }
  });
}

}  // namespace cascadezoo

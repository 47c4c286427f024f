// What Winograd's F(4 x 4, 3 x 3) and its gradient share: the tiles of a convolution.
#pragma once

#include "../stable.h"

namespace cascadezoo {
namespace {

constexpr int kSide = 4;    // of a tile of the output
constexpr int kApart = 16;  // floats between the points of a block, or all would fall into the same lines of a cache

// Two rows or columns of pixels at the end of an image are a short tile, F(2, 3) along that axis: it has no points 3 and 4
struct Tile {
  int64_t image, y, x;
  bool low, narrow;
};

struct Convolution {
  const float *x, *weight, *bias;  // (n, h, w, in), (out / kChunk, 36, in, kChunk), (out,)
  float* y;                        // (n, h, w, out)
  int64_t n, h, w, in, out;
  bool relu;

  int64_t rows() const { return (h + kSide - 1) / kSide; }
  int64_t columns() const { return (w + kSide - 1) / kSide; }
  int64_t tiles() const { return n * rows() * columns(); }
  Tile tile(int64_t t) const {
    const int64_t y = t / columns() % rows() * kSide, x = t % columns() * kSide;
    return {t / columns() / rows(), y, x, h - y <= kSide / 2, w - x <= kSide / 2};
  }
};

}  // namespace
}  // namespace cascadezoo

// DCNv3's sampling (InternImage, Wang et al. 2023), the maths once: the CPU kernels use Taps, the CUDA kernels run the
// functors below.  Names and layouts are those of cascadezoo/ops/dcnv3.py.
//
// Formulas ported from (licences in NOTICE):
// - OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT: detection/ops_dcnv3/src
#pragma once

#include "numbers.h"

namespace cascadezoo {

struct Dcnv3Shape {
  int64_t n, h, w, ho, wo;  // images, input and output size
  int64_t groups, width;    // channels = groups * width
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  double scale;  // multiplies the kernel's grid as well as the offsets

  CZ_HD int64_t channels() const { return groups * width; }
  CZ_HD int64_t points() const { return kernel_h * kernel_w; }
  CZ_HD int64_t pixels() const { return n * ho * wo; }
};

// The four pixels around a sampling position, and how much each one counts.  Corners: 0 top left, 1 top right, 2 bottom
// left, 3 bottom right.  A corner outside the image has inside == false and must not be read.
template <class A>
struct Taps {
  bool inside[4];
  int64_t pixel[4];                       // y * w + x
  A weight[4], along_x[4], along_y[4];    // and its derivatives

  // false where the point contributes nothing; also where its offset is not a number
  CZ_HD bool place(
      const Dcnv3Shape& p, int64_t out_y, int64_t out_x, int64_t iy, int64_t ix, A off_x, A off_y) {
    const int64_t half_x = p.dilation_w * (p.kernel_w - 1) / 2, half_y = p.dilation_h * (p.kernel_h - 1) / 2;
    const A scale = static_cast<A>(p.scale);
    const A x = static_cast<A>(out_x * p.stride_w - p.pad_w + half_x) +
                (static_cast<A>(ix * p.dilation_w - half_x) + off_x) * scale;
    const A y = static_cast<A>(out_y * p.stride_h - p.pad_h + half_y) +
                (static_cast<A>(iy * p.dilation_h - half_y) + off_y) * scale;
    if (!(x > -1 && y > -1 && x < static_cast<A>(p.w) && y < static_cast<A>(p.h))) return false;
    int64_t left = static_cast<int64_t>(x), top = static_cast<int64_t>(y);
    left -= x < static_cast<A>(left);  // floor, without a call into libm
    top -= y < static_cast<A>(top);
    const A fx = x - static_cast<A>(left), fy = y - static_cast<A>(top);
    const bool in_left = left >= 0, in_right = left + 1 < p.w, in_top = top >= 0, in_bottom = top + 1 < p.h;
    const int64_t corner = top * p.w + left;
    set(0, in_top && in_left, corner, (1 - fx) * (1 - fy), fy - 1, fx - 1);
    set(1, in_top && in_right, corner + 1, fx * (1 - fy), 1 - fy, -fx);
    set(2, in_bottom && in_left, corner + p.w, (1 - fx) * fy, -fy, 1 - fx);
    set(3, in_bottom && in_right, corner + p.w + 1, fx * fy, fy, fx);
    return true;
  }

  CZ_HD void set(int c, bool in, int64_t where, A value, A dx, A dy) {
    inside[c] = in;
    pixel[c] = where;
    weight[c] = value;
    along_x[c] = dx;
    along_y[c] = dy;
  }
};

// a / b and a % b; 64-bit division is slow on a GPU, and few maps need it
CZ_HD int64_t split(int64_t a, int64_t b, int64_t& rest) {
  if (((a | b) >> 32) == 0) {
    const uint32_t quotient = static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
    rest = static_cast<int64_t>(static_cast<uint32_t>(a) - quotient * static_cast<uint32_t>(b));
    return quotient;
  }
  rest = a % b;
  return a / b;
}

// Item: V channels of one group of one output pixel.  V > 1 asks for width % V == 0 and aligned pointers.
template <class T, class S, int V>
struct Dcnv3Forward {
  using A = typename Accumulate<T>::type;
  const T* input;
  const S* offset;
  const S* mask;
  T* output;
  Dcnv3Shape p;

  CZ_HD int64_t items() const { return p.pixels() * p.channels() / V; }

  CZ_HD void operator()(int64_t item) const {
    int64_t part, g, x, y;
    int64_t rest = split(item, p.width / V, part);
    rest = split(rest, p.groups, g);
    const int64_t sampled = rest * p.groups + g;  // group of an output pixel
    rest = split(rest, p.wo, x);
    const int64_t image = split(rest, p.ho, y);
    const int64_t channel = g * p.width + part * V;
    const T* from = input + image * p.h * p.w * p.channels() + channel;
    A sum[V] = {};
    Taps<A> taps;
    for (int64_t k = 0, at = sampled * p.points(); k < p.points(); ++k, ++at) {
      int64_t iy;
      const int64_t ix = split(k, p.kernel_h, iy);  // x is the slow index
      if (!taps.place(p, y, x, iy, ix, static_cast<A>(offset[2 * at]), static_cast<A>(offset[2 * at + 1]))) continue;
      const A m = static_cast<A>(mask[at]);
      for (int c = 0; c < 4; ++c) {
        if (!taps.inside[c]) continue;
        const Pack<T, V> row = *reinterpret_cast<const Pack<T, V>*>(from + taps.pixel[c] * p.channels());
        for (int v = 0; v < V; ++v) sum[v] += m * taps.weight[c] * static_cast<A>(row.value[v]);
      }
    }
    Pack<T, V> result;
    for (int v = 0; v < V; ++v) result.value[v] = static_cast<T>(sum[v]);
    *reinterpret_cast<Pack<T, V>*>(output + item * V) = result;
  }
};

// Item: one point of one group of one output pixel.  ``add(address, value)`` adds to grad_input, which other items share
// and which is of the accumulating type, zero at the start.
template <class T, class S, int V, class Add>
struct Dcnv3Backward {
  using A = typename Accumulate<T>::type;
  const T* grad;
  const T* input;
  const S* offset;
  const S* mask;
  A* grad_input;
  S* grad_offset;
  S* grad_mask;
  Dcnv3Shape p;
  Add add;

  CZ_HD int64_t items() const { return p.pixels() * p.groups * p.points(); }

  CZ_HD void operator()(int64_t item) const {
    int64_t k, iy, g, x, y;
    int64_t rest = split(item, p.points(), k);
    const int64_t ix = split(k, p.kernel_h, iy);  // x is the slow index
    rest = split(rest, p.groups, g);
    const T* above = grad + rest * p.channels() + g * p.width;
    rest = split(rest, p.wo, x);
    const int64_t image = split(rest, p.ho, y);
    const int64_t base = image * p.h * p.w * p.channels() + g * p.width;
    A to_mask = 0, to_x = 0, to_y = 0;
    const A m = static_cast<A>(mask[item]);
    Taps<A> taps;
    if (taps.place(p, y, x, iy, ix, static_cast<A>(offset[2 * item]), static_cast<A>(offset[2 * item + 1]))) {
      for (int c = 0; c < 4; ++c) {
        if (!taps.inside[c]) continue;
        const int64_t at = base + taps.pixel[c] * p.channels();
        A dot = 0;
        CZ_NO_UNROLL
        for (int64_t i = 0; i < p.width; i += V) {
          const Pack<T, V> row = *reinterpret_cast<const Pack<T, V>*>(input + at + i);
          const Pack<T, V> up = *reinterpret_cast<const Pack<T, V>*>(above + i);
          for (int v = 0; v < V; ++v) {
            dot += static_cast<A>(up.value[v]) * static_cast<A>(row.value[v]);
            add(grad_input + at + i + v, m * taps.weight[c] * static_cast<A>(up.value[v]));
          }
        }
        to_mask += taps.weight[c] * dot;
        to_x += taps.along_x[c] * dot;
        to_y += taps.along_y[c] * dot;
      }
    }
    const A scale = static_cast<A>(p.scale);
    grad_mask[item] = static_cast<S>(to_mask);
    grad_offset[2 * item] = static_cast<S>(scale * m * to_x);
    grad_offset[2 * item + 1] = static_cast<S>(scale * m * to_y);
  }
};

}  // namespace cascadezoo

// DCNv3's sampling (InternImage, Wang et al. 2023), the maths once: where a point lies, and which pixels it is made of,
// which is the same for any deformable convolution.
// Names and layouts are those of cascadezoo/ops/dcnv3.py.  I is the type of sizes and of indices.
//
// Formulas ported from (licences in NOTICE):
// - OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT: detection/ops_dcnv3/src
#pragma once

#include "numbers.h"

namespace cascadezoo {

template <class I>
struct Dcnv3ShapeOf {
  I n, h, w, ho, wo;  // images, input and output size
  I groups, width;    // channels = groups * width
  I kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  double scale;  // multiplies the kernel's grid as well as the offsets

  CZ_HD I channels() const { return groups * width; }
  CZ_HD I points() const { return kernel_h * kernel_w; }
  CZ_HD I pixels() const { return n * ho * wo; }
};
using Dcnv3Shape = Dcnv3ShapeOf<int64_t>;
using Dcnv3Shape32 = Dcnv3ShapeOf<int32_t>;  // on a GPU, where divisions of 64 bits are slow

// The four pixels around a sampling position, and how much each one counts.  Corners: 0 top left, 1 top right, 2 bottom
// left, 3 bottom right.  A corner outside the image has inside == false and must not be read.
template <class A, class I>
struct Taps {
  bool inside[4];
  I pixel[4];                           // y * w + x
  A weight[4], along_x[4], along_y[4];  // and its derivatives

  // false where the point contributes nothing; also where its offset is not a number
  CZ_HD bool place(const Dcnv3ShapeOf<I>& p, I out_y, I out_x, I iy, I ix, A off_x, A off_y) {
    const I half_x = p.dilation_w * (p.kernel_w - 1) / 2, half_y = p.dilation_h * (p.kernel_h - 1) / 2;
    const A scale = static_cast<A>(p.scale);
    const A x = static_cast<A>(out_x * p.stride_w - p.pad_w + half_x) +
                product(static_cast<A>(ix * p.dilation_w - half_x) + off_x, scale);
    const A y = static_cast<A>(out_y * p.stride_h - p.pad_h + half_y) +
                product(static_cast<A>(iy * p.dilation_h - half_y) + off_y, scale);
    return at(p.h, p.w, y, x);
  }

  // the same of a position in an image of h x w pixels
  CZ_HD bool at(I h, I w, A y, A x) {
    if (!(x > -1 && y > -1 && x < static_cast<A>(w) && y < static_cast<A>(h))) return false;
    I left = static_cast<I>(x), top = static_cast<I>(y);
    left -= x < static_cast<A>(left);  // floor, without a call into libm
    top -= y < static_cast<A>(top);
    const A fx = x - static_cast<A>(left), fy = y - static_cast<A>(top);
    const bool in_left = left >= 0, in_right = left + 1 < w, in_top = top >= 0, in_bottom = top + 1 < h;
    const I corner = top * w + left;
    set(0, in_top && in_left, corner, (1 - fx) * (1 - fy), fy - 1, fx - 1);
    set(1, in_top && in_right, corner + 1, fx * (1 - fy), 1 - fy, -fx);
    set(2, in_bottom && in_left, corner + w, (1 - fx) * fy, -fy, 1 - fx);
    set(3, in_bottom && in_right, corner + w + 1, fx * fy, fy, fx);
    return true;
  }

  CZ_HD void set(int c, bool in, I where, A value, A dx, A dy) {
    inside[c] = in;
    pixel[c] = where;
    weight[c] = value;
    along_x[c] = dx;
    along_y[c] = dy;
  }
};

}  // namespace cascadezoo

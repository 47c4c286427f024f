// The end of a mask head (Mask R-CNN, https://arxiv.org/abs/1703.06870): a 2 x 2 transposed convolution of stride 2, a ReLU, and the
// 1 x 1 convolution to the mask of one class.  What lies between them is never written to memory: of 100 RoIs of
// 14 x 14 cells it would be 80 MB.
#include "one_class_masks_arguments.h"

#include <numeric>

namespace cascadezoo {
namespace {

struct MaskHead {
  const float *x, *weight, *bias;          // (rois, height, width, in), (4 * out / kChunk, in, kChunk), (out,)
  const float *class_weight, *class_bias;  // (classes, out), (classes,)
  const int64_t* labels;                   // (rois,)
  float* y;                                // (rois, 2 * height, 2 * width)
  int64_t height, width, in, out;
};

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "one_class_masks_block.h"
#include "instruction_sets.h"

namespace cascadezoo {
namespace {

// the cells of a RoI, their products with a chunk of weights, and the sums of at most 16 lanes
int64_t room_of(const MaskHead& p) { return p.height * p.width * (p.in + kChunk + kLine); }

Tensor one_class_masks(
    const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& class_weight, const Tensor& class_bias,
    const Tensor& labels, int64_t lanes) {
  STD_TORCH_CHECK(x.dim() == 4, "one_class_masks: x must be (R, P, P, C)");
  const int64_t rois = x.size(0), in = x.size(3), out = bias.numel();
  STD_TORCH_CHECK(
      in > 0 && out > 0 && in % kLine == 0 && out % kChunk == 0, "one_class_masks: it takes multiples of ", kLine,
      " channels and makes multiples of ", kChunk, " of them, not ", in, " and ", out);
  STD_TORCH_CHECK(
      has_shape(weight, {4 * out / kChunk, in, kChunk}), "one_class_masks: weight must be as pack_deconvolution makes it");
  check_mask_end("one_class_masks", ScalarType::Float, x, weight, bias, class_weight, class_bias, labels);
  STD_TORCH_CHECK(lanes == 4 || lanes == 8 || lanes == 16, "one_class_masks: lanes must be 4, 8 or 16, not ", lanes);
  const Tensor from = torch::stable::contiguous(x), w = torch::stable::contiguous(weight),
               b = torch::stable::contiguous(bias), cw = torch::stable::contiguous(class_weight),
               cb = torch::stable::contiguous(class_bias), of = torch::stable::contiguous(labels);
  Tensor to = torch::stable::new_empty(x, {rois, 2 * x.size(1), 2 * x.size(2)});
  const MaskHead p{
      from.const_data_ptr<float>(), w.const_data_ptr<float>(), b.const_data_ptr<float>(), cw.const_data_ptr<float>(),
      cb.const_data_ptr<float>(), of.const_data_ptr<int64_t>(), to.mutable_data_ptr<float>(), x.size(1), x.size(2), in, out};
  const auto run_roi = CZ_WIDEST(lanes, run_roi);
  torch::stable::parallel_for(0, rois, 1, [&](int64_t begin, int64_t end) {
    const Room room(room_of(p));
    for (int64_t r = begin; r < end; ++r) run_roi(p, r, room.begin());
  });
  return to;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) { m.impl("one_class_masks", TORCH_BOX(&cascadezoo::one_class_masks)); }

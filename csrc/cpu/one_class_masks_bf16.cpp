// The end of a mask head in bfloat16 (Mask R-CNN, https://arxiv.org/abs/1703.06870): a 2 x 2 transposed convolution of stride
// 2, a ReLU, and the 1 x 1 convolution to the mask of one class.  What lies between them, of 100 RoIs of 14 x 14 cells
// 40 MB, stays in float32 and in a core's cache.
#include "bfloat16.h"
#include "one_class_masks_arguments.h"

#include <numeric>

namespace cascadezoo {
namespace {

struct MaskHead {
  const Bits *x, *weight;                         // (rois, height, width, in), (4 * out / kChunk, in / 2, kChunk, 2)
  const float *bias, *class_weight, *class_bias;  // (out,), (classes, out), (classes,)
  const int64_t* labels;                          // (rois,)
  Bits* y;                                        // (rois, 2 * height, 2 * width)
  int64_t height, width, in, out;
};

}  // namespace
}  // namespace cascadezoo

#define CZ_BLOCK "one_class_masks_bf16_block.h"
#include "instruction_sets_bf16.h"

namespace cascadezoo {
namespace {

Tensor one_class_masks_bf16(
    const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& class_weight, const Tensor& class_bias,
    const Tensor& labels, int64_t lanes) {
  STD_TORCH_CHECK(x.dim() == 4, "one_class_masks_bf16: x must be (R, P, P, C)");
  const int64_t rois = x.size(0), in = x.size(3), out = bias.numel();
  STD_TORCH_CHECK(
      in > 0 && out > 0 && in % kLine == 0 && out % kChunk == 0, "one_class_masks_bf16: it takes and makes multiples of ",
      kChunk, " channels, not ", in, " and ", out);
  STD_TORCH_CHECK(
      has_shape(weight, {4 * out / kChunk, in / 2, kChunk, 2}),
      "one_class_masks_bf16: weight must be as pack_deconvolution makes it");
  check_mask_end("one_class_masks_bf16", ScalarType::BFloat16, x, weight, bias, class_weight, class_bias, labels);
  const auto run_cells = CZ_OF_LANES(lanes, run_cells);
  const auto wide = [](const Tensor& each) { return torch::stable::contiguous(cast(each, ScalarType::Float)); };
  const Tensor from = torch::stable::contiguous(x), w = torch::stable::contiguous(weight), b = wide(bias),
               cw = wide(class_weight), cb = wide(class_bias), of = torch::stable::contiguous(labels);
  Tensor to = torch::stable::new_empty(x, {rois, 2 * x.size(1), 2 * x.size(2)});
  const MaskHead p{
      bits(from), bits(w), b.const_data_ptr<float>(), cw.const_data_ptr<float>(), cb.const_data_ptr<float>(),
      of.const_data_ptr<int64_t>(), mutable_bits(to), x.size(1), x.size(2), in, out};
  const int64_t cells = p.height * p.width;
  torch::stable::parallel_for(0, rois, 1, [&](int64_t begin, int64_t end) {
    Lines<Bits> rows(kRows * p.in);
    for (int64_t roi = begin; roi < end; ++roi)
      for (int64_t cell = 0; cell < cells; cell += kRows)
        run_cells(p, roi, cell, std::min<int64_t>(kRows, cells - cell), rows.begin());
  });
  return to;
}

}  // namespace
}  // namespace cascadezoo

STABLE_TORCH_LIBRARY_IMPL(cascadezoo, CPU, m) {
  m.impl("one_class_masks_bf16", TORCH_BOX(&cascadezoo::one_class_masks_bf16));
}

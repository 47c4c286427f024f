// The operators' schemas, for programs that load them without Python: cascadezoo/ops has the same in Python, where this
// library is not loaded.
#include <torch/csrc/stable/library.h>

#define CZ_DCNV3_NUMBERS "int[2] kernel, int[2] stride, int[2] pad, int[2] dilation, int groups, float offset_scale"

STABLE_TORCH_LIBRARY_FRAGMENT(cascadezoo, m) {
  m.def(
      "class_nms(Tensor boxes, Tensor scores, Tensor valid, float score_thresh, float iou, int extent, "
      "bool rounded_shift, SymInt max_keep) -> (Tensor, Tensor)");
  m.def("dcnv3(Tensor input, Tensor offset, Tensor mask, " CZ_DCNV3_NUMBERS ") -> Tensor");
  m.def(
      "dcnv3_backward(Tensor grad, Tensor input, Tensor offset, Tensor mask, " CZ_DCNV3_NUMBERS
      ") -> (Tensor, Tensor, Tensor)");
  m.def(
      "dcnv3_fused(Tensor input, Tensor offset_mask, int[2] stride, int[2] pad, int[2] dilation, int groups, "
      "float offset_scale) -> Tensor");
  m.def(
      "deform_conv2d(Tensor x, Tensor offset, Tensor weight, Tensor? bias, int stride, int pad, int groups) -> Tensor");
  m.def(
      "grouped_nms(Tensor boxes, Tensor scores, Tensor groups, Tensor valid, float iou, int extent, "
      "bool rounded_shift, SymInt group_count, SymInt group_size, SymInt max_keep) -> (Tensor, Tensor)");
  m.def(
      "one_class_masks(Tensor x, Tensor weight, Tensor bias, Tensor class_weight, Tensor class_bias, Tensor labels, "
      "int lanes) -> Tensor");
  m.def(
      "one_class_masks_bf16(Tensor x, Tensor weight, Tensor bias, Tensor class_weight, Tensor class_bias, Tensor labels, "
      "int lanes) -> Tensor");
  m.def(
      "paste_rle(Tensor probabilities, Tensor boxes, SymInt height, SymInt width, bool integer_box, SymInt cap) -> "
      "(Tensor, Tensor)");
  m.def(
      "preprocess(Tensor[] images, SymInt[] sizes, float[] steps, float[] mean, float[] std, SymInt height, SymInt width, "
      "bool float32, ScalarType dtype) -> Tensor");
  m.def(
      "pyramid_roi_align(Tensor[] features, Tensor boxes, Tensor levels, float[] scales, SymInt resolution, "
      "int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "pyramid_roi_align_backward(Tensor grad, Tensor boxes, Tensor levels, float[] scales, int sampling_ratio, "
      "bool aligned, SymInt[] heights, SymInt[] widths) -> Tensor[]");
  m.def(
      "rpn_select(Tensor[] logits, Tensor[] deltas, Tensor sizes, SymInt[] widths, int[] strides, float[] firsts, "
      "float[] halves, bool probability, float[] stds, float[] log_scale, int extent, float min_size, SymInt top) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def("winograd6_conv3x3(Tensor x, Tensor weight, Tensor bias, bool relu, int lanes) -> Tensor");
  m.def("winograd_conv3x3(Tensor x, Tensor weight, Tensor bias, bool relu, int lanes) -> Tensor");
  m.def("winograd_weight_gradient(Tensor x, Tensor grad, int lanes) -> Tensor");
  m.def(
      "winograd_conv3x3_bf16(Tensor x, Tensor weight, Tensor bias, Tensor? onto, bool relu, int lanes) -> Tensor");
}

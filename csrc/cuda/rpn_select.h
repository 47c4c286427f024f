// What rpn_select.cu offers to its binding.
#pragma once

#include <cstddef>

#include "../rpn_select.h"
#include "kind.h"

namespace cascadezoo {

constexpr int kMostRpnLevels = 8;
constexpr int kMostAnchors = 256;  // of a cell, of all levels together

// The anchors of all levels
struct RpnLevels {
  RpnLevel level[kMostRpnLevels];
  float half[kMostAnchors][2];  // half the width and height of an anchor: ``cell`` of each level, one level after another
  int levels, cell;
};

struct RpnSize {
  int images, top;  // top: rows of each level
};

// The results, each (images, levels * top)
struct RpnSelected {
  Box* boxes;
  float* scores;
  int64_t* levels;
  bool* valid;
};

// bytes that a call needs for itself
size_t rpn_select_scratch(const RpnLevels& levels, const RpnSize& size);

// ``deltas``: the type of all levels' deltas, float32 or a half type.  ``sizes`` (images, 2): height and width.  Returns
// what went wrong, or nullptr.
const char* rpn_select_cuda(
    Kind deltas, const RpnLevels& levels, const RpnSize& size, const RpnRule& rule, const float* sizes, void* scratch,
    const RpnSelected& selected, void* stream);

}  // namespace cascadezoo

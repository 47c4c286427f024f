// What pyramid_roi_align.cu offers to its binding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kind.h"

namespace cascadezoo {

constexpr int kMostLevels = 8;

// Maps of (images, h, w, channels), and how boxes are pooled from them
struct Pyramid {
  struct Level {
    void* cells;
    int h, w;
    double scale;
  };

  Level level[kMostLevels];
  int levels;
  int channels;
  int boxes;     // of an image
  int bins;      // along a side
  int sampling;  // points per bin and axis; 0: as many as cells that the bin spans
  bool aligned;
};

// bytes of shared memory that a launch takes: the binding refuses what a block cannot have without asking
size_t pyramid_roi_align_shared(Kind kind, const Pyramid& p);

// ``boxes`` (rois, 4) of the accumulating type, ``level`` (rois) where each is pooled, ``pooled`` (rois, bins, bins,
// channels).  Returns what went wrong, or nullptr.
const char* pyramid_roi_align_cuda_forward(
    Kind kind, const Pyramid& p, int64_t rois, const void* boxes, const int64_t* level, void* pooled, void* stream);

// ``grad`` like ``pooled``; adds to the levels' cells, which are of the accumulating type
const char* pyramid_roi_align_cuda_backward(
    Kind kind, const Pyramid& p, int64_t rois, const void* boxes, const int64_t* level, const void* grad, void* stream);

}  // namespace cascadezoo

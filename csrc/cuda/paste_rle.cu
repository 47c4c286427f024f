// nvcc: --fmad=false
// Masks pasted into the image straight to run lengths: one launch in which a warp pastes a column, 32 pixels a step, to
// bits, and one in which a block finds where a detection's bits change.
#include "paste_rle.h"

#include "launch.h"

namespace cascadezoo {
namespace {

constexpr int kWarp = 32;
constexpr int kColumns = 8;        // of a block that pastes, a warp each
constexpr int kRunThreads = 512;   // of a block that finds the changes
constexpr int kRunWarps = kRunThreads / kWarp;

CZ_HD int words_of(int rows) { return rows / kWarp + (rows % kWarp != 0); }

// grid (columns of the image / kColumns, detections): a window's columns, one after another, in words of 32 rows
template <class Paste>
__global__ void __launch_bounds__(kColumns * kWarp) paste_kernel(
    PasteSize size, const float* __restrict__ masks, const float* __restrict__ boxes, unsigned* __restrict__ words) {
  const int64_t detection = blockIdx.y;
  const Paste paste(boxes + 4 * detection, size);
  const int lane = threadIdx.x % kWarp;
  const unsigned column = blockIdx.x * kColumns + threadIdx.x / kWarp;
  if (paste.by_host || column >= static_cast<unsigned>(paste.window.columns())) return;  // the same for the whole warp
  const float* cells = masks + detection * size.cells * size.cells;
  const int rows = paste.window.rows(), of_column = words_of(rows);
  unsigned* own = words + detection * paste_words(size) + static_cast<int64_t>(column) * of_column;
  const Tap x = paste.column(paste.window.left + static_cast<int>(column));
  for (int i = 0; i < of_column; ++i) {
    const int row = i * kWarp + lane;
    const bool set = row < rows && paste.set(cells, x, paste.row(paste.window.top + row));
    const unsigned word = __ballot_sync(~0u, set);
    if (lane == 0) own[i] = word;
  }
}

// Where the bits of a window change, going down the image's columns
struct Changes {
  PasteWindow window;
  int height;
  int rows, columns, of_column;
  bool joined;  // from the bottom of one column the image goes on at the top of the next
  const unsigned* words;

  __device__ Changes(const PasteWindow& window, const PasteSize& size, const unsigned* words)
      : window(window), height(size.height), rows(window.rows()), columns(window.columns()),
        of_column(words_of(rows)), joined(rows == size.height), words(words) {}

  __device__ int count() const { return rows > 0 ? columns * of_column : 0; }
  // whether the last row of the column is set whose last word this is
  __device__ bool ends_set(int word) const { return words[word] >> ((rows - 1) % kWarp) & 1; }

  // of a word: bits that differ from the pixel before
  __device__ unsigned inside(int word) const {
    const int part = word % of_column, left = rows - part * kWarp;
    unsigned before = 0;
    if (part > 0)
      before = words[word - 1] >> (kWarp - 1);
    else if (joined && word > 0)
      before = ends_set(word - 1);
    const unsigned changed = words[word] ^ (words[word] << 1 | before);
    return left < kWarp ? changed & ((1u << left) - 1) : changed;
  }

  // whether a run ends below the word
  __device__ bool below(int word) const {
    const bool last = word % of_column == of_column - 1;
    return last && (!joined || word == count() - 1) && ends_set(word);
  }

  // the pixel of a word's first bit, and the one below its column in the window
  __device__ int first(int word) const { return top(word) + word % of_column * kWarp; }
  __device__ int after(int word) const { return top(word) + rows; }
  __device__ int top(int word) const { return (window.left + word / of_column) * height + window.top; }
};

// grid (detections)
template <class Paste>
__global__ void __launch_bounds__(kRunThreads) runs_kernel(
    PasteSize size, const float* __restrict__ boxes, const unsigned* __restrict__ words, int cap,
    int* __restrict__ ends, int* __restrict__ counts) {
  __shared__ int of_warp[kRunWarps];
  const int64_t detection = blockIdx.x;
  const Paste paste(boxes + 4 * detection, size);
  const Changes changes(paste.window, size, words + detection * paste_words(size));
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int count = paste.by_host ? 0 : changes.count();
  ends += detection * cap;

  int found = 0;  // the same in all threads
  for (int64_t base = 0; base < count && found <= cap; base += kRunThreads) {
    const bool there = base + threadIdx.x < count;
    const int word = there ? static_cast<int>(base + threadIdx.x) : 0;
    unsigned bits = there ? changes.inside(word) : 0;
    const bool below = there && changes.below(word);
    const int own = __popc(bits) + below;
    int through = own;  // of the warp's lanes up to this one
    for (int step = 1; step < kWarp; step *= 2) {
      const int other = __shfl_up_sync(~0u, through, step);
      if (lane >= step) through += other;
    }
    if (lane == kWarp - 1) of_warp[warp] = through;
    __syncthreads();
    int place = found + through - own;
    for (int i = 0; i < kRunWarps; ++i) {
      if (i < warp) place += of_warp[i];
      found += of_warp[i];
    }
    __syncthreads();
    for (; bits != 0 && place < cap; bits &= bits - 1) ends[place++] = changes.first(word) + __ffs(bits) - 1;
    if (below && place < cap) ends[place] = changes.after(word);
  }

  const int pixels = size.height * size.width;
  const bool full = count > 0 && changes.below(count - 1) && changes.after(count - 1) == pixels;  // to the last pixel
  const int runs = found + !full;
  const bool fits = !paste.by_host && runs <= cap;
  __syncthreads();
  for (int i = (fits ? runs : 0) + threadIdx.x; i < cap; i += kRunThreads) ends[i] = 0;
  if (threadIdx.x != 0) return;
  if (fits && !full) ends[found] = pixels;
  counts[detection] = fits ? runs : -1;
}

template <class Paste>
const char* run(
    const PasteSize& size, int detections, const float* masks, const float* boxes, int cap, unsigned* words,
    int* ends, int* counts, void* stream) {
  const dim3 blocks(static_cast<unsigned>(size.width / kColumns + 1), static_cast<unsigned>(detections));
  CZ_LAUNCH(paste_kernel<Paste>, blocks, dim3(kColumns * kWarp), 0, stream, size, masks, boxes, words);
  if (const char* error = launched()) return error;
  const dim3 each(static_cast<unsigned>(detections));
  CZ_LAUNCH(runs_kernel<Paste>, each, dim3(kRunThreads), 0, stream, size, boxes, words, cap, ends, counts);
  return launched();
}

}  // namespace

const char* paste_rle_cuda(
    PasteMethod method, const PasteSize& size, int detections, const float* masks, const float* boxes, int cap,
    unsigned* words, int* ends, int* counts, void* stream) {
  const auto chosen = method == PasteMethod::Bilinear ? &run<BilinearPaste> : &run<IntegerBoxPaste>;
  return chosen(size, detections, masks, boxes, cap, words, ends, counts, stream);
}

}  // namespace cascadezoo

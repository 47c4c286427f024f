// nvcc: --fmad=false
// The best anchors of each level of a pyramid, best first, as boxes, in one launch and without a wait for the host.  A block
// takes a level of an image: it finds the last rank that is among the best, some bits at a time, sorts what is before it,
// and makes boxes of that alone.
#include "rpn_select.h"

#include "launch.h"
#include "sort.h"

#include <algorithm>

namespace cascadezoo {
namespace {

constexpr int kWarp = 32, kThreads = 1024;
constexpr int kDigit = 11, kBins = 1 << kDigit;  // bits that are told apart at once
constexpr int kAtOnce = 4;                       // logits that a thread has under way

// Where the ranks of a block lie: in its shared memory, over what has been counted, or in the scratch memory.
struct Plan {
  int ranks;  // of a level, a power of two, as sorting needs
  bool shared_ranks;
  size_t shared, bytes;  // of the launch, and of the scratch memory

  Plan(const RpnLevels& levels, const RpnSize& size, size_t limit) {
    int most = 0;
    for (int i = 0; i < levels.levels; ++i) most = std::max(most, std::min(levels.level[i].count, size.top));
    ranks = power_of_two(most);
    shared_ranks = rank_bytes() <= limit;
    shared = std::max(kBins * sizeof(int), shared_ranks ? rank_bytes() : 0);
    bytes = shared_ranks ? 0 : size_t(size.images) * levels.levels * rank_bytes();
  }

  CZ_HD size_t rank_bytes() const { return ranks * sizeof(uint64_t); }
};

// A level of an image, all of whose anchors have different ranks
struct Anchors {
  const float* logits;
  int count;
  int index_bits;  // that an anchor's number takes

  __device__ Anchors(const RpnLevel& level, int64_t image) : logits(level.logits + image * level.count) {
    count = level.count;
    index_bits = 0;
    while (count > int64_t(1) << index_bits) ++index_bits;
  }

  // Rank without the bits that no anchor's number has
  __device__ uint64_t packed(uint64_t rank) const { return rank >> 32 << index_bits | candidate_of(rank); }

  // f(rank) for this thread's share
  template <class F>
  __device__ void each(const RpnRule& rule, const F& f) const {
    for (int base = threadIdx.x; base < count; base += kAtOnce * kThreads) {
      float logit[kAtOnce];
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = base + k * kThreads;
        logit[k] = i < count ? logits[i] : 0;
      }
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = base + k * kThreads;
        if (i < count) f(rank_of(rpn_score(logit[k], rule), static_cast<uint32_t>(i)));
      }
    }
  }
};

struct Bin {
  int at, before, count;  // how many are in the bins before, and in this
};

// By one warp: the bin in which the count of ``wanted`` is reached.
__device__ void find_bin(const int* counts, int wanted, Bin* bin) {
  constexpr int kOwn = kBins / kWarp;
  const int lane = threadIdx.x % kWarp;
  int own = 0;
  for (int k = 0; k < kOwn; ++k) own += counts[lane * kOwn + (k + lane) % kOwn];  // each lane in a bank of its own
  int up_to = own;
  for (int step = 1; step < kWarp; step *= 2) {
    const int below = __shfl_up_sync(~0u, up_to, step);
    if (lane >= step) up_to += below;
  }
  int sum = up_to - own;
  if (sum >= wanted || up_to < wanted) return;  // in another lane's bins
  int at = lane * kOwn;
  while (sum + counts[at] < wanted) sum += counts[at++];
  *bin = {at, sum, counts[at]};
}

// The last packed rank of the best ``wanted``, of more: the bits above are known, and the next are what the ranks with
// those bits have where the wanted count is reached.  No two ranks are equal, so the last bits end it at the latest.
__device__ uint64_t last_of_best(const Anchors& anchors, const RpnRule& rule, int wanted, int* counts) {
  __shared__ Bin bin;
  uint64_t known = 0;
  for (int left = 32 + anchors.index_bits;;) {
    const int digit = min(kDigit, left), low = left - digit;
    for (int i = threadIdx.x; i < kBins; i += kThreads) counts[i] = 0;
    __syncthreads();
    anchors.each(rule, [&](uint64_t rank) {
      const uint64_t packed = anchors.packed(rank);
      if (packed >> left == known) atomicAdd(&counts[packed >> low & ((1u << digit) - 1)], 1);
    });
    __syncthreads();
    if (threadIdx.x < kWarp) find_bin(counts, wanted, &bin);
    __syncthreads();
    known = known << digit | static_cast<uint64_t>(bin.at);
    wanted -= bin.before;
    left = low;
    if (bin.count == wanted) return ((known + 1) << left) - 1;  // whatever the bits below are
  }
}

template <class D>
__device__ Box widened(const Pack<D, 4>& deltas) {
  Box box;
  for (int i = 0; i < 4; ++i) box.value[i] = static_cast<float>(deltas.value[i]);
  return box;
}

// grid (levels, images); D: the type of the deltas
template <class D>
__global__ void __launch_bounds__(kThreads, 1) rpn_select_kernel(
    const __grid_constant__ RpnLevels levels, Plan plan, int top, RpnRule rule, const float* sizes, uint64_t* scratch,
    RpnSelected selected) {
  CZ_DYNAMIC_SHARED(memory);
  __shared__ int found;
  const RpnLevel& level = levels.level[blockIdx.x];
  const int64_t image = blockIdx.y, block = image * levels.levels + blockIdx.x;
  const Anchors anchors(level, image);
  const int total = min(top, anchors.count);
  uint64_t* ranks = plan.shared_ranks ? reinterpret_cast<uint64_t*>(memory) : scratch + block * plan.ranks;

  uint64_t last = kLastRank;
  if (total < anchors.count) last = last_of_best(anchors, rule, total, reinterpret_cast<int*>(memory));
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  anchors.each(rule, [&](uint64_t rank) {
    if (anchors.packed(rank) <= last) ranks[atomicAdd(&found, 1)] = rank;
  });
  sort_some(ranks, total);  // once all are there

  const auto* deltas = static_cast<const Pack<D, 4>*>(level.deltas) + image * level.count;
  for (int row = threadIdx.x; row < top; row += kThreads) {
    const int i = static_cast<int>(candidate_of(ranks[min(row, total - 1)]));  // too few: the last again
    const Pack<D, 4> moves = deltas[i];  // all four at once
    const Box move = widened(moves);
    const float growth[2] = {expf(log_growth(move, 0, rule)), expf(log_growth(move, 1, rule))};
    const Box anchor = anchor_of(level, levels.half + blockIdx.x * levels.cell, levels.cell, i);
    const Box box = clipped(decoded(move, growth, anchor, rule), sizes + 2 * image, rule);
    const int64_t to = block * top + row;
    selected.boxes[to] = box;
    selected.scores[to] = rpn_score(anchors.logits[i], rule);
    selected.levels[to] = blockIdx.x;
    selected.valid[to] = row < total && large_enough(box, rule);
  }
}

}  // namespace

size_t rpn_select_scratch(const RpnLevels& levels, const RpnSize& size) {
  return Plan(levels, size, most_shared()).bytes;
}

const char* rpn_select_cuda(
    Kind deltas, const RpnLevels& levels, const RpnSize& size, const RpnRule& rule, const float* sizes, void* memory,
    const RpnSelected& selected, void* stream) {
  const Plan plan(levels, size, most_shared());
  const dim3 grid(static_cast<unsigned>(levels.levels), static_cast<unsigned>(size.images));
  const int top = size.top;
  auto* scratch = static_cast<uint64_t*>(memory);
  const auto run = [&](auto kernel) {
    allow_shared(kernel, plan.shared);
    CZ_LAUNCH(kernel, grid, dim3(kThreads), plan.shared, stream, levels, plan, top, rule, sizes, scratch, selected);
    return launched();
  };
  if (deltas == Kind::Half) return run(&rpn_select_kernel<__half>);
  if (deltas == Kind::BFloat16) return run(&rpn_select_kernel<__nv_bfloat16>);
  return run(&rpn_select_kernel<float>);
}

}  // namespace cascadezoo

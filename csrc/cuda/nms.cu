// nvcc: --fmad=false
// Greedy suppression by groups, with results of a fixed size and no wait for the host: one launch in which a block takes
// a group of an image, and one in which a block merges an image's groups.
#include "nms.h"

#include "launch.h"
#include "sort.h"

#include <algorithm>

namespace cascadezoo {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 512;        // of a group
constexpr int kMergeThreads = 1024;  // of an image

// Where everything lies.  What a block works on is in its shared memory if there is enough, else in the scratch memory.
struct Plan {
  int groups, most, keep;    // keep: of one group
  int ranks, merged_ranks;   // powers of two, as sorting needs: of one group's, and of one image's kept candidates
  bool shared_ranks, shared_boxes, shared_merge;
  size_t box_bytes;
  size_t shared, merge_shared;                        // bytes of the launches
  size_t kept, kept_count, of_group, of_image, bytes;  // offsets into the scratch memory, and its end

  Plan(const NmsSize& size, const NmsRule& rule, size_t limit) {
    groups = size.groups, most = std::min(size.most, size.count), keep = std::min(rule.keep, most);
    ranks = power_of_two(most);
    merged_ranks = power_of_two(std::min<int64_t>(int64_t(groups) * keep, size.count));
    box_bytes = rule.rounded_shift ? sizeof(Shifted<float>) : sizeof(Shifted<double>);
    const size_t least = rank_bytes() + most;
    shared_ranks = least <= limit;
    shared_boxes = least + most * box_bytes <= limit;
    shared_merge = merged_ranks * sizeof(uint64_t) <= limit;
    shared = (shared_ranks ? least : 0) + (shared_boxes ? most * box_bytes : 0);
    merge_shared = shared_merge ? merged_ranks * sizeof(uint64_t) : 0;
    const size_t blocks = size_t(size.images) * groups;
    kept = 0;
    of_group = kept + blocks * keep * sizeof(uint64_t);
    of_image = of_group + blocks * group_bytes();
    kept_count = of_image + (shared_merge ? 0 : size_t(size.images) * merged_ranks * sizeof(uint64_t));
    bytes = kept_count + blocks * sizeof(int);
  }

  CZ_HD size_t rank_bytes() const { return ranks * sizeof(uint64_t); }
  // of what a block has in the scratch memory: ranks, boxes and, rounded up, which of them are gone
  CZ_HD size_t group_bytes() const {
    return (shared_ranks ? 0 : rank_bytes() + (most + 7) / 8 * 8) + (shared_boxes ? 0 : most * box_bytes);
  }
};

// grid (groups, images): the best of each group into the scratch memory
template <class T, class Candidates>
__global__ void __launch_bounds__(kThreads) group_kernel(
    Candidates all, Plan plan, NmsRule rule, unsigned char* scratch) {
  CZ_DYNAMIC_SHARED(memory);
  __shared__ unsigned largest, alive, hits[kWarp];
  __shared__ int count, found;
  const int lane = threadIdx.x % kWarp, group = blockIdx.x;
  const int64_t block = static_cast<int64_t>(blockIdx.y) * plan.groups + group;
  const Candidates candidates = all.at(blockIdx.y);

  unsigned char* own = scratch + plan.of_group + block * plan.group_bytes();
  unsigned char* after = plan.shared_ranks ? memory : own;
  uint64_t* ranks = reinterpret_cast<uint64_t*>(after);
  after += plan.rank_bytes();
  if (plan.shared_ranks && !plan.shared_boxes) after = own;
  auto* boxes = reinterpret_cast<Shifted<T>*>(after);
  unsigned char* gone = plan.shared_ranks && !plan.shared_boxes
                            ? memory + plan.rank_bytes()
                            : after + plan.most * sizeof(Shifted<T>);

  // this group's candidates, and the largest coordinate of all groups'
  if (threadIdx.x == 0) count = found = 0, largest = 0;
  __syncthreads();
  unsigned mine = 0;
  for (int i = threadIdx.x; i < candidates.count; i += kThreads) {
    if (!candidates.is_valid(i)) continue;
    const float* box = candidates.box(i);
    for (int side = 0; side < 4; ++side) mine = max(mine, ordered(box[side] - box[side] == 0 ? box[side] : 0.0f));
    if (candidates.group(i) != group) continue;
    const int at = atomicAdd(&count, 1);
    if (at < plan.most) ranks[at] = rank_of(candidates.score(i), i);
  }
  atomicMax(&largest, mine);
  __syncthreads();
  const int total = min(count, plan.most);
  sort_some(ranks, total);
  const T shift = group_shift<T>(group, unordered(largest), rule.extent);
  for (int i = threadIdx.x; i < total; i += kThreads) {
    boxes[i] = Shifted<T>(candidates.box(candidate_of(ranks[i])), shift, rule.extent);
    gone[i] = 0;
  }
  __syncthreads();

  uint64_t* kept = reinterpret_cast<uint64_t*>(scratch + plan.kept) + block * plan.keep;
  for (int base = 0; base < total; base += kWarp) {
    // which of 32 boxes suppress which of them: a thread for each pair, a warp for each suppressing box
    for (int pair = threadIdx.x; pair < kWarp * kWarp; pair += kThreads) {
      const int better = base + pair / kWarp, other = base + lane;
      const bool hit = better < other && other < total && suppresses(boxes[better], boxes[other], rule.threshold);
      const unsigned hit_by_better = __ballot_sync(~0u, hit);
      if (lane == 0) hits[pair / kWarp] = hit_by_better;
    }
    __syncthreads();
    if (threadIdx.x < kWarp) {  // one warp settles which of them stay
      const int i = base + lane;
      unsigned left = __ballot_sync(~0u, i < total && !gone[i]);
      for (int k = 0; k < kWarp; ++k)
        if (left >> k & 1) left &= ~hits[k];
      const int before = found, place = before + __popc(left & ((1u << lane) - 1));
      if ((left >> lane & 1) && place < plan.keep) kept[place] = ranks[i];
      __syncwarp();
      if (lane == 0) alive = left, found = min(plan.keep, before + __popc(left));
    }
    __syncthreads();
    if (found == plan.keep) break;  // the same for all threads
    for (int i = base + kWarp + threadIdx.x; i < total; i += kThreads)
      for (unsigned left = alive; left != 0 && !gone[i]; left &= left - 1)
        gone[i] = suppresses(boxes[base + __ffs(left) - 1], boxes[i], rule.threshold);
  }
  if (threadIdx.x == 0) reinterpret_cast<int*>(scratch + plan.kept_count)[block] = found;
}

// grid (images): the best of all groups
__global__ void __launch_bounds__(kMergeThreads) merge_kernel(
    Plan plan, int keep, unsigned char* scratch, int64_t* index, int64_t* total_kept) {
  CZ_DYNAMIC_SHARED(memory);
  __shared__ int count;
  const int64_t image = blockIdx.x;
  const int slots = plan.groups * plan.keep;
  const int* of_group = reinterpret_cast<const int*>(scratch + plan.kept_count) + image * plan.groups;
  const uint64_t* kept = reinterpret_cast<const uint64_t*>(scratch + plan.kept) + image * slots;
  uint64_t* ranks = reinterpret_cast<uint64_t*>(
      plan.shared_merge ? memory : scratch + plan.of_image + image * plan.merged_ranks * sizeof(uint64_t));
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < slots; i += kMergeThreads)
    if (i % plan.keep < of_group[i / plan.keep]) ranks[atomicAdd(&count, 1)] = kept[i];
  __syncthreads();
  const int total = min(count, keep);
  sort_some(ranks, count);
  for (int i = threadIdx.x; i < keep; i += kMergeThreads)
    index[image * keep + i] = i < total ? static_cast<int64_t>(candidate_of(ranks[i])) : 0;
  if (threadIdx.x == 0) total_kept[image] = total;
}

template <class Candidates>
const char* nms(
    const Candidates& candidates, const NmsSize& size, const NmsRule& rule, void* memory, int64_t* index,
    int64_t* kept, void* stream) {
  const Plan plan(size, rule, most_shared());
  auto* scratch = static_cast<unsigned char*>(memory);
  const dim3 groups(static_cast<unsigned>(size.groups), static_cast<unsigned>(size.images));
  const auto run = [&](auto kernel) {
    allow_shared(kernel, plan.shared);
    CZ_LAUNCH(kernel, groups, dim3(kThreads), plan.shared, stream, candidates, plan, rule, scratch);
  };
  if (rule.rounded_shift)
    run(&group_kernel<float, Candidates>);
  else
    run(&group_kernel<double, Candidates>);
  if (const char* error = launched()) return error;
  allow_shared(&merge_kernel, plan.merge_shared);
  const dim3 images(static_cast<unsigned>(size.images));
  const int keep = rule.keep;
  CZ_LAUNCH(merge_kernel, images, dim3(kMergeThreads), plan.merge_shared, stream, plan, keep, scratch, index, kept);
  return launched();
}

}  // namespace

size_t nms_scratch(const NmsSize& size, const NmsRule& rule) { return Plan(size, rule, most_shared()).bytes; }

const char* grouped_nms_cuda(
    const GroupedCandidates& candidates, const NmsSize& size, const NmsRule& rule, void* scratch, int64_t* index,
    int64_t* kept, void* stream) {
  return nms(candidates, size, rule, scratch, index, kept, stream);
}

const char* class_nms_cuda(
    const ClassCandidates& candidates, const NmsSize& size, const NmsRule& rule, void* scratch, int64_t* index,
    int64_t* kept, void* stream) {
  return nms(candidates, size, rule, scratch, index, kept, stream);
}

}  // namespace cascadezoo

// Threads run one at a time, each until it waits: for its block, or for lanes of its warp.  Which one runs next is
// drawn, so code that counts on an order fails.  A misuse that a GPU answers with a hang or with numbers of no meaning
// ends the program with a sentence.
#include "scheduler.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "fibre.h"
#include "sanitizers.h"

#if defined(CZ_TSAN)
// one race says enough: a barrier that 1,000 threads miss makes thousands, and each is slow to tell
extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; }
#endif

size_t cuda_emulated_most_shared = 227 << 10;
int cuda_emulated_error = 0;

namespace cuda_emulated {

Index thread_index, block_index;
dim3 block_size, grid_size;

namespace {

constexpr int kWarp = 32;
constexpr unsigned kMostThreads = 1024;          // of a block
constexpr unsigned kMostColumns = 2147483647;    // of grid.x
constexpr unsigned kMostRows = 65535;            // of grid.y and grid.z
constexpr size_t kFreeShared = 48 << 10;         // bytes a block may have without asking
constexpr size_t kStack = 256 << 10;             // bytes of a thread's
constexpr char kUnset = '\xCD';                  // shared memory before anything was written to it
constexpr char kGuarded = '\x5A';                // what lies behind it

enum class State { Ready, AtBarrier, InWarp, Returned };
enum class Kind { Sync, Exchange, Ballot };
const char* const kNames[] = {"__syncwarp", "a shuffle", "a vote"};

// what a lane brings to an operation of its warp
struct Offer {
  Kind kind;
  unsigned mask;
  uint64_t value;
  int source;
};

struct Thread {
  State state;
  Context context;
  std::unique_ptr<char[]> stack;
  Index index;
  Place place;  // where it waits
  Offer offer;
  uint64_t result;
  AddressNotes address;
  ThreadNotes notes;
  std::map<unsigned, unsigned> met;  // how often it has synchronised its warp, by mask
};

std::vector<Thread> threads;   // of the block that runs; its stacks serve the next one
std::vector<int> ready;
int count, current, returned, at_barrier;
Context host;
AddressNotes host_address;
ThreadNotes host_notes;
Order between_blocks;
// of a barrier and of the next, which some threads reach before others have left the first; warps' by their masks
using Orders = std::array<Order, 2>;
Orders barriers;
std::map<unsigned, Orders> warps[kMostThreads / kWarp];
unsigned passed;  // barriers of the block
std::unique_ptr<char[]> shared;
size_t shared_size;
void (*body)(void*);
void* argument;
std::map<const void*, size_t> allowed;

unsigned first_seed() {
  const char* given = std::getenv("CUDA_EMULATED_SEED");
  return given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 0;
}
std::mt19937 random_numbers{first_seed()};

int below(size_t limit) { return static_cast<int>(random_numbers() % limit); }

template <class... Words>
[[noreturn]] void stop(const char* format, Words... words) {
  std::fprintf(stderr, "cuda_emulated: ");
  std::fprintf(stderr, format, words...);
  std::fprintf(stderr, " [block %u,%u,%u]\n", block_index.x, block_index.y, block_index.z);
  std::abort();
}

void wait(bool last = false) {
  Thread& me = threads[current];
  me.address.leave(host_address, last);
  host_notes.run();
  switch_context(me.context, host);
  me.address.arrive(&host_address);
}

void thread_main() {
  threads[current].address.arrive(&host_address);
  between_blocks.acquire();
  body(argument);
  between_blocks.release();
  threads[current].state = State::Returned;
  ++returned;
  wait(true);
  std::abort();  // nobody runs a thread that has returned
}

void resume(int thread) {
  Thread& next = threads[thread];
  current = thread;
  thread_index = next.index;
  host_address.leave(next.address);
  next.notes.run();
  switch_context(host, next.context);
  host_address.arrive();
}

void release(int thread) {
  threads[thread].state = State::Ready;
  ready.push_back(thread);
}

// f(lane, thread) for the lanes of ``mask`` in the warp of the thread that runs
template <class F>
void each_lane(unsigned mask, const F& f) {
  const int first = current / kWarp * kWarp;
  for (int k = 0; k < kWarp; ++k)
    if (mask >> k & 1) f(k, first + k);
}

bool same(const Offer& one, const Offer& other) { return one.kind == other.kind && one.mask == other.mask; }

// all lanes of the mask have come: gives each its result and lets it run
void finish(const Offer& mine, Place place) {
  const int first = current / kWarp * kWarp;
  uint64_t votes = 0;
  each_lane(mine.mask, [&](int k, int t) { votes |= (threads[t].offer.value & 1) << k; });
  each_lane(mine.mask, [&](int k, int t) {
    const int source = threads[t].offer.source;
    if (mine.kind == Kind::Ballot) threads[t].result = votes;
    if (mine.kind == Kind::Exchange) {
      if (source < 0 || source >= kWarp || !(mine.mask >> source & 1))
        stop("lane %d shuffles from lane %d, which its mask %08x lacks, at %s:%d", k, source, mine.mask, place.file,
             place.line);
      threads[t].result = threads[first + source].offer.value;
    }
    if (t != current) release(t);
  });
}

uint64_t meet(Offer offer, Place place) {
  Thread& me = threads[current];
  me.offer = offer, me.place = place;
  const char* name = kNames[static_cast<int>(offer.kind)];
  if (!(offer.mask >> lane() & 1))
    stop("lane %d calls %s with mask %08x, which lacks it, at %s:%d", lane(), name, offer.mask, place.file, place.line);
  bool complete = true;
  each_lane(offer.mask, [&](int k, int t) {
    if (t >= count)
      stop("mask %08x of %s names lane %d, which the block does not have, at %s:%d", offer.mask, name, k, place.file,
           place.line);
    complete &= t == current || (threads[t].state == State::InWarp && same(threads[t].offer, offer));
  });
  if (complete) {
    finish(offer, place);
  } else {
    me.state = State::InWarp;
    wait();
  }
  return me.result;
}

const char* doing(const Thread& thread) {
  if (thread.state == State::Returned) return "has returned";
  if (thread.state == State::AtBarrier) return "waits at __syncthreads";
  return "waits in another warp operation or with another mask";
}

// Nobody can run and not all have returned: says why.
[[noreturn]] void explain() {
  for (current = 0; current < count; ++current) {
    const Thread& me = threads[current];
    if (me.state != State::InWarp) continue;
    each_lane(me.offer.mask, [&](int k, int t) {
      const Thread& other = threads[t];
      if (other.state == State::InWarp && same(other.offer, me.offer)) return;
      stop("lane %d of mask %08x does not come to %s at %s:%d: it %s", k, me.offer.mask,
           kNames[static_cast<int>(me.offer.kind)], me.place.file, me.place.line, doing(other));
    });
  }
  for (current = 0; threads[current].state != State::AtBarrier;) ++current;
  const Place place = threads[current].place;
  stop("divergent barrier: thread %d waits at __syncthreads at %s:%d, and %d of %d threads have returned", current,
       place.file, place.line, returned, count);
}

void prepare(int thread) {
  Thread& t = threads[thread];
  if (!t.stack) {
    t.stack.reset(new char[kStack]);
    t.address.bottom = t.stack.get(), t.address.size = kStack;
  }
  const unsigned i = static_cast<unsigned>(thread);
  t.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
  t.address.fake_stack = nullptr;
  t.notes.begin();
  begin(t.context, t.stack.get(), kStack, thread_main);
  release(thread);
}

// AddressSanitizer guards what it gives; without it these bytes do
#if defined(CZ_ASAN)
constexpr size_t kGuard = 0;
#else
constexpr size_t kGuard = 64;
#endif

void run_block() {
  between_blocks.acquire();
  std::memset(shared.get(), kUnset, shared_size);
  std::memset(shared.get() + shared_size, kGuarded, kGuard);
  between_blocks.release();
  returned = at_barrier = 0;
  for (int i = 0; i < count; ++i) prepare(i);
  while (!ready.empty()) {
    std::swap(ready[below(ready.size())], ready.back());
    const int next = ready.back();
    ready.pop_back();
    resume(next);
  }
  if (returned < count) explain();
  for (int i = 0; i < count; ++i) threads[i].notes.end();
  const char* guard = shared.get() + shared_size;
  if (std::any_of(guard, guard + kGuard, [](char c) { return c != kGuarded; }))
    stop("overrun: something was written behind the %zu bytes of dynamic shared memory", shared_size);
}

void check(const void* kernel, dim3 grid, dim3 block, size_t bytes) {
  const uint64_t size = uint64_t(block.x) * block.y * block.z;
  if (size < 1 || size > kMostThreads)
    stop("a block of %u x %u x %u threads: 1 to %u are possible", block.x, block.y, block.z, kMostThreads);
  if (uint64_t(grid.x) * grid.y * grid.z < 1 || grid.x > kMostColumns || grid.y > kMostRows || grid.z > kMostRows)
    stop("a grid of %u x %u x %u blocks: 1 to %u x %u x %u are possible", grid.x, grid.y, grid.z, kMostColumns,
         kMostRows, kMostRows);
  if (bytes > cuda_emulated_most_shared)
    stop("%zu bytes of dynamic shared memory: a block can have %zu", bytes, cuda_emulated_most_shared);
  const auto found = allowed.find(kernel);
  if (bytes > std::max(kFreeShared, found == allowed.end() ? 0 : found->second))
    stop("%zu bytes of dynamic shared memory: more than %zu need cudaFuncSetAttribute first", bytes, kFreeShared);
}

}  // namespace

int lane() { return current % kWarp; }

void* dynamic_shared() { return shared.get(); }

void seed(unsigned value) { random_numbers.seed(value); }

void allow_shared(const void* kernel, size_t bytes) { allowed[kernel] = bytes; }

void sync_block(Place place) {
  Thread& me = threads[current];
  me.place = place;
  Order& order = barriers[passed % 2];
  order.release();
  if (++at_barrier < count) {
    me.state = State::AtBarrier;
    wait();
  } else {
    at_barrier = 0;
    ++passed;
    for (int i = 0; i < count; ++i) {
      if (i == current) continue;
      const Place other = threads[i].place;
      if (std::strcmp(other.file, place.file) != 0 || other.line != place.line)
        stop("divergent barrier: thread %d waits at __syncthreads at %s:%d, thread %d at %s:%d", current, place.file,
             place.line, i, other.file, other.line);
      release(i);
    }
  }
  order.acquire();
}

// Only this one orders memory: shuffles and votes do not.
void sync_warp(unsigned mask, Place place) {
  Order& order = warps[current / kWarp][mask][threads[current].met[mask]++ % 2];
  order.release();
  meet({Kind::Sync, mask, 0, 0}, place);
  order.acquire();
}

uint64_t exchange(unsigned mask, uint64_t value, int source, Place place) {
  return meet({Kind::Exchange, mask, value, source}, place);
}

unsigned ballot(unsigned mask, bool vote, Place place) {
  return static_cast<unsigned>(meet({Kind::Ballot, mask, vote, 0}, place));
}

void launch(const void* kernel, dim3 grid, dim3 block, size_t bytes, void (*of_thread)(void*), void* with) {
  block_index = {0, 0, 0};
  check(kernel, grid, block, bytes);
  grid_size = grid, block_size = block, body = of_thread, argument = with;
  count = static_cast<int>(block.x * block.y * block.z);
  if (threads.size() < static_cast<size_t>(count)) threads.resize(count);
  shared_size = bytes;
  shared.reset(new char[bytes + kGuard]);
  host_notes.current();
  std::vector<uint64_t> order(uint64_t(grid.x) * grid.y * grid.z);
  static const bool told = std::getenv("CUDA_EMULATED_LAUNCHES") != nullptr;
  if (told) std::printf("%zu threads\n", order.size() * count);
  for (uint64_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random_numbers);
  for (uint64_t i : order) {
    block_index = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
    run_block();
  }
  between_blocks.acquire();  // what the kernel wrote
}

}  // namespace cuda_emulated

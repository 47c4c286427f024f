// What gcc's sanitizers must be told about fibres.  CZ_ASAN or CZ_TSAN says which of them the kernels are built with;
// the emulator itself is built with neither, or its own reads would count as the kernels'.
#pragma once

#include <cstddef>

#if defined(CZ_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
}
#endif
#if defined(CZ_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace cuda_emulated {

// AddressSanitizer: which stack is in use
struct AddressNotes {
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;

  // before a switch from this stack; ``last``: nobody will come back to it
  void leave(const AddressNotes& to, bool last = false) {
#if defined(CZ_ASAN)
    __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack, to.bottom, to.size);
#else
    (void)to, (void)last;
#endif
  }

  // after a switch to this stack from ``from``
  void arrive(AddressNotes* from = nullptr) {
#if defined(CZ_ASAN)
    __sanitizer_finish_switch_fiber(fake_stack, from ? &from->bottom : nullptr, from ? &from->size : nullptr);
#else
    (void)from;
#endif
  }
};

// ThreadSanitizer: which thread runs.  Every thread of a block is one to it, so that two of them race unless a barrier
// stands between.
struct ThreadNotes {
  void* fiber = nullptr;

#if defined(CZ_TSAN)
  static constexpr unsigned kNoOrder = 1;  // a switch alone orders nothing
  void begin() { fiber = __tsan_create_fiber(0); }
  void end() { __tsan_destroy_fiber(fiber); }
  void current() { fiber = __tsan_get_current_fiber(); }
  void run() { __tsan_switch_to_fiber(fiber, kNoOrder); }
#else
  void begin() {}
  void end() {}
  void current() {}
  void run() {}
#endif
};

// Something that threads wait for each other at: what happened before a release is seen after a later acquire.
struct Order {
  char address = 0;

#if defined(CZ_TSAN)
  void release() { __tsan_release(&address); }
  void acquire() { __tsan_acquire(&address); }
#else
  void release() {}
  void acquire() {}
#endif
};

}  // namespace cuda_emulated

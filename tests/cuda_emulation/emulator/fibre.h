// A fibre: a stack of its own that is switched to, and back from, by hand.  One source file implements it for each kind
// of machine; the scheduler knows no more than this.
#pragma once

#include <cstddef>

#if defined(CZ_FIBRES_BY_UCONTEXT)
#include <ucontext.h>
#endif

namespace cuda_emulated {

// where a fibre that does not run goes on
struct Context {
#if defined(CZ_FIBRES_BY_UCONTEXT)
  ucontext_t saved;
#else
  void* stack_pointer;
#endif
};

// ``to``: begins with ``entry``, which must never return, on the stack of ``size`` bytes from ``stack`` up.
void begin(Context& to, char* stack, size_t size, void (*entry)());

// Leaves ``from``, and returns when somebody switches back to it.
void switch_context(Context& from, Context& to);

}  // namespace cuda_emulated

// Fibres for every POSIX machine.  swapcontext asks the kernel for the signal mask each time, so this is some ten times
// slower than fibre_x86_64.cpp.
#include "fibre.h"

namespace cuda_emulated {

void begin(Context& to, char* stack, size_t size, void (*entry)()) {
  getcontext(&to.saved);
  to.saved.uc_stack.ss_sp = stack;
  to.saved.uc_stack.ss_size = size;
  to.saved.uc_link = nullptr;
  makecontext(&to.saved, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }

}  // namespace cuda_emulated

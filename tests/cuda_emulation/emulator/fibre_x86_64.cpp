// Fibres for x86-64 and the System V calling convention: six registers are the callee's to keep, all others were saved
// by whoever called the switch.
#include "fibre.h"

#include <algorithm>
#include <cstdint>

asm(R"(
  .text
  .globl cuda_emulated_switch
  .type cuda_emulated_switch, @function
cuda_emulated_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
  .size cuda_emulated_switch, .-cuda_emulated_switch
)");
extern "C" void cuda_emulated_switch(void** saved, void* loaded);

namespace cuda_emulated {

void begin(Context& to, char* stack, size_t size, void (*entry)()) {
  constexpr int kept = 6;
  void** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack) + size) & ~uintptr_t(15));
  top -= 2;  // after the switch has returned into it, a function's stack pointer is 8 above a multiple of 16
  *top = reinterpret_cast<void*>(entry);
  std::fill(top - kept, top, nullptr);
  to.stack_pointer = top - kept;
}

void switch_context(Context& from, Context& to) { cuda_emulated_switch(&from.stack_pointer, to.stack_pointer); }

}  // namespace cuda_emulated

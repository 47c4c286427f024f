// Types of numbers, by a name that both sides of a kernel's interface know: neither has the other's headers.
#pragma once

namespace cascadezoo {

enum class Kind : int { Float, Double, Half, BFloat16 };

}  // namespace cascadezoo

// Vectors of floats, for one instruction set (instruction_sets.h).

namespace cascadezoo {
namespace {
namespace CZ_SET {

typedef float Vector __attribute__((vector_size(4 * CZ_LANES)));
typedef float InMemory __attribute__((vector_size(4 * CZ_LANES), aligned(4), may_alias));

CZ_INLINE Vector load(const float* from) { return *reinterpret_cast<const InMemory*>(from); }
CZ_INLINE Vector all(float value) { return value - Vector{}; }  // plus zero would be a sum, for the sake of -0
CZ_INLINE void store(float* to, Vector value) { *reinterpret_cast<InMemory*>(to) = value; }

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo

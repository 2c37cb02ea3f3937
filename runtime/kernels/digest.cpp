// Digests of memory, which show changes that nobody reports.

#include <cstdint>
#include <cstring>

namespace {

// Lines of 16 numbers are spread over 16 independent chains, which the processor computes in parallel.
constexpr int64_t LANES = 16, CHAINS = 16;
typedef uint32_t Line __attribute__((vector_size(LANES * sizeof(uint32_t))));

// Invertible in both arguments, so that a single number that differs changes the state for certain.
inline void absorb(Line& state, const uint32_t* from) {
    Line x;
    std::memcpy(&x, from, sizeof x);
    const Line v = (state ^ x) * 0x9e3779b1u;
    state = v ^ (v >> 15);
}

}  // namespace

// Whether the numbers x [count] have the digest `table` [16, 16]. Writes the digest there if `store`.
PUBLIC int digest(const uint32_t* x, int64_t count, uint32_t* table, int store) {
    Line found[CHAINS] = {};
    const int64_t lines = count / LANES, rest = count % LANES;
    for (int64_t line = 0; line < lines; ++line) absorb(found[line % CHAINS], x + line * LANES);
    uint32_t last[LANES] = {};
    std::memcpy(last, x + lines * LANES, rest * sizeof(uint32_t));
    absorb(found[lines % CHAINS], last);
    if (store) std::memcpy(table, found, sizeof found);
    return !std::memcmp(table, found, sizeof found);
}

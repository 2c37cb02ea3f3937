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

// Whether the numbers x [count] have the digest `table` [16, 16]. Writes the digest there if `store`. One line of each
// `page` lines is read, all of them for the places 0 .. page - 1 together.
PUBLIC int digest(const uint32_t* x, int64_t count, int page, int place, uint32_t* table, int store) {
    Line found[CHAINS] = {};
    const int64_t lines = count / LANES, rest = count % LANES;
    for (int64_t at = 0; at * page < lines; ++at) {
        // Multiples of the golden ratio, so that changes at equal distances do not fall between the lines.
        const uint32_t turn = static_cast<uint32_t>(at) * 0x9e3779b1u;
        const int64_t spread = (static_cast<uint64_t>(turn) * page) >> 32;
        const int64_t line = at * page + (place + spread) % page;
        if (line < lines) absorb(found[at % CHAINS], x + line * LANES);
    }
    uint32_t last[LANES] = {};
    std::memcpy(last, x + lines * LANES, rest * sizeof(uint32_t));
    absorb(found[lines % CHAINS], last);
    if (store) std::memcpy(table, found, sizeof found);
    return !std::memcmp(table, found, sizeof found);
}

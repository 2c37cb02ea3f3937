// Digests of memory, by which a change is noticed that nobody announces.

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

// Windows take 256 lines of 16 numbers in turn. The lines of a window are spread over 16 chains, so that the
// processor need not wait for one before it takes the next.
constexpr int64_t LANES = 16, CHAINS = 16, LINES = 256, WINDOWS = 16;
typedef uint32_t Line __attribute__((vector_size(LANES * sizeof(uint32_t))));

// Each step is invertible in both arguments: one number that differs changes the state for certain.
inline void absorb(Line& state, const uint32_t* from) {
    Line x;
    std::memcpy(&x, from, sizeof x);
    const Line v = (state ^ x) * 0x9e3779b1u;
    state = v ^ (v >> 15);
}

}  // namespace

// Whether the numbers x [count] have the digests of `table` [16, 16, 16], of the `windows` from `first` on. Writes
// the digests there if `store`.
PUBLIC int digest(const uint32_t* x, int64_t count, uint32_t* table, int64_t first, int64_t windows,
                      int store) {
    Line found[WINDOWS * CHAINS];
    const size_t bytes = windows * CHAINS * sizeof(Line);
    std::memset(found, 0, bytes);
    const int64_t lines = count / LANES, rest = count % LANES;
    for (int64_t begin = 0; begin < lines; begin += WINDOWS * LINES)
        for (int64_t w = 0; w < windows; ++w) {
            const int64_t from = begin + (first + w) * LINES, to = std::min(from + LINES, lines);
            for (int64_t line = from; line < to; ++line)
                absorb(found[w * CHAINS + line % CHAINS], x + line * LANES);
        }
    const int64_t last = lines / LINES % WINDOWS - first;
    if (rest && last >= 0 && last < windows) {
        uint32_t line[LANES] = {};
        std::memcpy(line, x + lines * LANES, rest * sizeof(uint32_t));
        absorb(found[last * CHAINS + lines % CHAINS], line);
    }
    uint32_t* const place = table + first * CHAINS * LANES;
    if (store) std::memcpy(place, found, bytes);
    return !std::memcmp(place, found, bytes);
}

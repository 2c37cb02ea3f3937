// Digests of memory, by which a change is noticed that nobody announces.

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t LANES = 16, CLASSES = 256;  // lines of 16 numbers belong to the classes in turn
typedef uint32_t Line __attribute__((vector_size(LANES * sizeof(uint32_t))));

// Each step is invertible in both arguments: one number that differs changes the state for certain.
inline void absorb(Line& state, const uint32_t* from) {
    Line x;
    std::memcpy(&x, from, sizeof x);
    const Line v = (state ^ x) * 0x9e3779b1u;
    state = v ^ (v >> 15);
}

}  // namespace

// Whether the numbers x [count] have the digests of `table` [256, 16], of the `classes` from `first` on. Writes
// the digests there if `store`.
extern "C" int digest(const uint32_t* x, int64_t count, uint32_t* table, int64_t first, int64_t classes,
                      int store) {
    Line found[CLASSES];
    std::memset(found + first, 0, classes * sizeof(Line));
    const int64_t lines = count / LANES, rest = count % LANES, end = first + classes;
    int64_t begin = 0;
    for (; begin + CLASSES <= lines; begin += CLASSES)
        for (int64_t c = first; c < end; ++c) absorb(found[c], x + (begin + c) * LANES);
    for (int64_t c = first; c < end && begin + c < lines; ++c) absorb(found[c], x + (begin + c) * LANES);
    const int64_t last = lines % CLASSES;
    if (rest && first <= last && last < end) {
        uint32_t line[LANES] = {};
        std::memcpy(line, x + lines * LANES, rest * sizeof(uint32_t));
        absorb(found[last], line);
    }
    const size_t bytes = classes * sizeof(Line);
    if (store) std::memcpy(table + first * LANES, found + first, bytes);
    return !std::memcmp(table + first * LANES, found + first, bytes);
}

// Packing of whole numbers in float32 or bfloat16 into bits, and unpacking, in the format of `bit_packing.py`: values
// are eight streams along memory, and a field of w bits of eight numbers, one of each stream, is w bytes.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t STREAMS = 8, CHUNK = 1 << 12;

struct BFloat16 {
    uint16_t upper;
};

inline uint32_t word(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline uint32_t word(BFloat16 x) { return static_cast<uint32_t>(x.upper) << 16; }
inline float read(float x) { return x; }
inline float read(BFloat16 x) {
    const uint32_t bits = word(x);
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}
inline void write(float* to, float x) { *to = x; }
inline void write(BFloat16* to, float x) {  // exact: the values of a kind have few bits
    const uint32_t bits = word(x);
    to->upper = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// f(row, shift, field, mask, begin) for each stream of each field: the row of bytes that holds it, its shift in a
// byte, the field's first bit and mask, and where the stream begins.
template <class F>
void each_stream(int64_t bits, int64_t length, F f) {
    int64_t above = 0, low = 0;
    for (int64_t width : {8, 4, 2, 1}) {
        if (!(bits & width)) continue;
        const int64_t together = 8 / width;
        for (int64_t s = 0; s < STREAMS; ++s)
            f(above + s / together, s % together * width, low, (1 << width) - 1, s * length);
        above += width;
        low += width;
    }
}

template <class F>
void in_chunks(int64_t length, int64_t threads, F f) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && length > CHUNK)
    for (int64_t begin = 0; begin < length; begin += CHUNK) f(begin, std::min(begin + CHUNK, length));
}

// True if all values from `begin` to `end` of each stream are of the kind, up to rounding.
template <class Value>
bool are_near(const Value* x, int64_t begin, int64_t end, int64_t length, int64_t count, int above, float factor,
              float low, float rounding) {
    int wrong = 0;
    for (int64_t s = 0; s < STREAMS; ++s) {
        const Value* from = x + s * length;
        for (int64_t j = begin; j < std::min(end, count - s * length); ++j) {
            const float units = read(from[j]) * factor - low;
            const int number = static_cast<int>(units + 0.5f);
            const float whole = static_cast<float>(number);
            wrong |= (number & above) | !(std::fabs(units - whole) <= rounding * (1.0f + whole));
        }
    }
    return !wrong;
}

// Packs spikes, reading each value once as an integer. Returns false, with undefined bytes, if a value is not 0 or 1.
template <class Value>
bool pack_spikes(const Value* x, uint8_t* out, int64_t begin, int64_t end, int64_t length) {
    const uint32_t one = word(1.0f);
    uint32_t differs = 0;
    for (int64_t j = begin; j < end; ++j) {
        uint32_t byte = 0;
        for (int64_t s = 0; s < STREAMS; ++s) {
            const uint32_t bits = word(x[s * length + j]), spike = bits >> 29 & 1;  // the highest bit that is set in 1.0
            differs |= bits ^ (spike * one);
            byte |= spike << s;
        }
        out[j] = static_cast<uint8_t>(byte);
    }
    return !differs;
}

template <class Value>
int pack_values(const Value* x, uint8_t* out, int64_t count, int64_t bits, float unit, float low,
                int64_t threads, float rounding) {
    const int64_t length = (count + STREAMS - 1) / STREAMS;
    const float factor = 1.0f / unit, start = 0.5f - low;
    const int valid = (1 << bits) - 1;
    const bool are_spikes = bits == 1 && unit == 1.0f && low == 0.0f;
    std::atomic<bool> all{true};
    in_chunks(length, threads, [&](int64_t begin, int64_t end) {
        const bool is_full = (STREAMS - 1) * length + end <= count;
        if (are_spikes && is_full && pack_spikes(x, out, begin, end, length)) return;
        int inexact = 0;
        each_stream(bits, length, [&](int64_t row, int64_t shift, int64_t field, int64_t mask, int64_t at) {
            const Value* from = x + at;
            uint8_t* to = out + row * length;
            const int64_t there = std::max(begin, std::min(end, count - at));
            const int by = static_cast<int>(field), up = static_cast<int>(shift);
            const int of = static_cast<int>(mask);
            int differs = 0;  // a local variable, so that the loops are vectorized
            const auto bits_at = [&](int64_t j) {
                const float units = read(from[j]) * factor;
                const int number = static_cast<int>(units + start) & valid;
                differs |= static_cast<float>(number) + low != units;
                return static_cast<uint8_t>((number >> by & of) << up);
            };
            if (shift == 0) {
                for (int64_t j = begin; j < there; ++j) to[j] = bits_at(j);
                for (int64_t j = there; j < end; ++j) to[j] = 0;
            } else {
                for (int64_t j = begin; j < there; ++j) to[j] |= bits_at(j);
            }
            inexact |= differs;
        });
        if (inexact && !are_near(x, begin, end, length, count, ~valid, factor, low, rounding)) all = false;
    });
    return all;
}

template <class Value>
void unpack_values(const uint8_t* packed, Value* out, int64_t count, int64_t bits, float unit, float low,
                   int64_t threads) {
    const int64_t length = (count + STREAMS - 1) / STREAMS;
    in_chunks(length, threads, [&](int64_t begin, int64_t end) {
        each_stream(bits, length, [&](int64_t row, int64_t shift, int64_t field, int64_t mask, int64_t at) {
            const uint8_t* from = packed + row * length;
            Value* to = out + at;
            const int64_t there = std::max(begin, std::min(end, count - at));
            const int up = static_cast<int>(shift), of = static_cast<int>(mask);
            const float weight = unit * static_cast<float>(1 << field), start = low * unit;
            if (field == 0)
                for (int64_t j = begin; j < there; ++j)
                    write(to + j, static_cast<float>(from[j] >> up & of) * weight + start);
            else
                for (int64_t j = begin; j < there; ++j)
                    write(to + j, read(to[j]) + static_cast<float>(from[j] >> up & of) * weight);
        });
    });
}

}  // namespace

// x [count] to out [bits, ceil(count / 8)]: the number of units by which each value exceeds `low` units. Returns 1
// if all values are of the kind, up to rounding, else 0. x is bfloat16 if `half`, else float32.
PUBLIC int pack(const void* x, uint8_t* out, int64_t count, int64_t bits, float unit, float low,
                int64_t threads, int half) {
    if (half)
        return pack_values(static_cast<const BFloat16*>(x), out, count, bits, unit, low, threads, 0x1p-6f);
    return pack_values(static_cast<const float*>(x), out, count, bits, unit, low, threads, 1e-5f);
}

// The inverse.
PUBLIC void unpack(const uint8_t* packed, void* out, int64_t count, int64_t bits, float unit, float low,
                   int64_t threads, int half) {
    if (half)
        unpack_values(packed, static_cast<BFloat16*>(out), count, bits, unit, low, threads);
    else
        unpack_values(packed, static_cast<float*>(out), count, bits, unit, low, threads);
}

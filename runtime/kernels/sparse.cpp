// Convolutions of spikes: one that reads the weights of those of its inputs alone that are not 0, and the
// bytes that another takes.

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t TOGETHER = 4;  // rows of weights that are added in one pass over the outputs

void add(float* __restrict__ out, const float* const* rows, const float* values, int64_t outputs) {
    const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const float p = values[0], q = values[1], r = values[2], s = values[3];
    for (int64_t o = 0; o < outputs; ++o)
        out[o] += (p * a[o] + q * b[o]) + (r * c[o] + s * d[o]);
}

void add_one(float* __restrict__ out, const float* row, float value, int64_t outputs) {
    for (int64_t o = 0; o < outputs; ++o) out[o] += value * row[o];
}

}  // namespace

// Writes x / unit [values] as bytes. Gives 1 if these are whole numbers from 0 to 255, up to rounding, else 0.
PUBLIC int as_bytes(const float* x, uint8_t* bytes, int64_t values, float unit) {
    int32_t strange = 0;
    for (int64_t i = 0; i < values; ++i) {
        const float real = x[i] / unit;
        const float known = real > -0.5f && real < 255.5f ? real : 0.0f;  // no NaN
        const int32_t whole = static_cast<int32_t>(known + 0.5f);
        const float gap = real - static_cast<float>(whole), most = 1e-5f + 1e-5f * static_cast<float>(whole);
        strange |= !(gap <= most && gap >= -most);
        bytes[i] = static_cast<uint8_t>(whole);
    }
    return !strange;
}

// x [pixels, channels], weight [places, channels, outputs], bias [outputs] or null, out [positions,
// outputs]. reads [places, positions] says which pixel each place of the kernel reads for each position
// of the output; one more than the last is the border. found has room for pixels * channels + 1 numbers,
// begins for pixels + 2. Does nothing and gives 0 where more than `most` rows of weights are to be added;
// else 1.
PUBLIC int convolve(const float* x, const float* weight, const float* bias, const int64_t* reads,
                        float* out, int32_t* found, int32_t* begins, int64_t pixels,
                        int64_t channels, int64_t outputs, int64_t places, int64_t positions,
                        int64_t most) {
    begins[0] = 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        int32_t count = 0;
        for (int64_t c = 0; c < channels; ++c) count += x[pixel * channels + c] != 0.0f;
        begins[pixel + 1] = begins[pixel] + count;
    }
    begins[pixels + 1] = begins[pixels];
    int64_t rows = 0;
    for (int64_t i = 0; i < places * positions; ++i) rows += begins[reads[i] + 1] - begins[reads[i]];
    if (rows > most) return 0;

    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        int32_t* next = found + begins[pixel];
        for (int64_t c = 0; c < channels; ++c) {
            *next = static_cast<int32_t>(c);
            next += x[pixel * channels + c] != 0.0f;
        }
    }
    for (int64_t position = 0; position < positions; ++position) {
        float* sum = out + position * outputs;
        if (bias)
            std::memcpy(sum, bias, outputs * sizeof(float));
        else
            std::memset(sum, 0, outputs * sizeof(float));
        const float* waiting[TOGETHER];
        float values[TOGETHER];
        int64_t number = 0;
        for (int64_t place = 0; place < places; ++place) {
            const int64_t pixel = reads[place * positions + position];
            for (int32_t i = begins[pixel]; i < begins[pixel + 1]; ++i) {
                waiting[number] = weight + (place * channels + found[i]) * outputs;
                __builtin_prefetch(waiting[number]);
                values[number] = x[pixel * channels + found[i]];
                if (++number == TOGETHER) {
                    add(sum, waiting, values, outputs);
                    number = 0;
                }
            }
        }
        for (int64_t i = 0; i < number; ++i) add_one(sum, waiting[i], values[i], outputs);
    }
    return 1;
}

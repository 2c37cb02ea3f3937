// A fusion group on a CPU, channel by channel: the statistics of its norms, the sum, the neuron over all its
// steps, and all gradients, each in one pass over memory. Values are float32 or bfloat16 (`Value`); everything
// else, and all arithmetic, is float32.
//
// `native_group.py` replaces the lines with %% by constants and by the struct Neuron (`kernel_cpp.py`).

#include <cstdint>
#include <cstring>

#define INLINE inline __attribute__((always_inline))

namespace {

// A bfloat16: the upper half of a float32.
struct BFloat16 {
    uint16_t upper;
};

}  // namespace

//%% group

namespace {

#if defined(__AVX512F__)
constexpr int V = 16;
#elif defined(__AVX2__)
constexpr int V = 8;
#else
constexpr int V = 4;
#endif

typedef float vec __attribute__((vector_size(V * 4)));
typedef int32_t mask __attribute__((vector_size(V * 4)));
typedef uint32_t bits __attribute__((vector_size(V * 4)));
typedef uint16_t half_bits __attribute__((vector_size(V * 2)));
typedef double wide __attribute__((vector_size(V * 8)));

// -- functions of vectors ----------------------------------------------------------------------------

INLINE vec spread(float a) { return a - vec{}; }
INLINE vec spread(vec a) { return a; }

template <class A, class B>
INLINE vec select(mask condition, A a, B b) {
    const vec first = spread(a), second = spread(b);
    return condition ? first : second;
}

template <class B>
INLINE vec maximum(vec a, B b) {
    return select((a != a) | (a > b), a, b);
}

template <class B>
INLINE vec minimum(vec a, B b) {
    return select((a != a) | (a < b), a, b);
}

// a * b + c, rounded once where the processor does so.
INLINE vec fused(vec a, vec b, vec c) {
#if defined(__FMA__) || defined(__aarch64__)
    vec out;
    for (int i = 0; i < V; ++i) out[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return out;
#else
    return a * b + c;
#endif
}

// What is below 2^-125.5 is 0.
INLINE vec exp_of(vec x) {
    x = select(x > 89.0f, 89.0f, select(x < -87.5f, -87.5f, x));
    const float up = 12582912.0f;  // adding it rounds to a whole number
    const vec whole = fused(x, spread(1.44269504088896341f), spread(up)) - up;
    // ln 2 in two parts, of which the first times `whole` is exact
    const vec r = fused(whole, spread(2.12194440e-4f), fused(whole, spread(-0.693359375f), x));
    vec y = fused(r, spread(1.9875691500e-4f), spread(1.3981999507e-3f));
    y = fused(y, r, spread(8.3334519073e-3f));
    y = fused(y, r, spread(4.1665795894e-2f));
    y = fused(y, r, spread(1.6666665459e-1f));
    y = fused(y, r, spread(5.0000001201e-1f));
    y = fused(y, r * r, r) + 1.0f;
    // Times 2^whole, in two parts since 2^128 is none of float.
    const mask bits = (__builtin_convertvector(whole, mask) + 126) << 23;
    vec power;
    std::memcpy(&power, &bits, sizeof power);
    return y * power * 2.0f;
}

INLINE vec sigmoid_of(vec x) { return 1.0f / (1.0f + exp_of(-x)); }

template <class F>
INLINE vec each(vec x, F f) {
    vec out;
    for (int i = 0; i < V; ++i) out[i] = f(x[i]);
    return out;
}

INLINE vec log_of(vec x) { return each(x, [](float a) { return __builtin_logf(a); }); }
INLINE vec sqrt_of(vec x) { return each(x, [](float a) { return __builtin_sqrtf(a); }); }
INLINE vec tanh_of(vec x) { return each(x, [](float a) { return __builtin_tanhf(a); }); }
INLINE vec sin_of(vec x) { return each(x, [](float a) { return __builtin_sinf(a); }); }
INLINE vec cos_of(vec x) { return each(x, [](float a) { return __builtin_cosf(a); }); }
INLINE vec erf_of(vec x) { return each(x, [](float a) { return __builtin_erff(a); }); }
INLINE vec round_of(vec x) { return each(x, [](float a) { return __builtin_nearbyintf(a); }); }
INLINE vec abs_of(vec x) { return each(x, [](float a) { return __builtin_fabsf(a); }); }
INLINE vec sign_of(vec x) { return select(x > 0.0f, 1.0f, select(x < 0.0f, -1.0f, 0.0f)); }
INLINE vec softplus_of(vec x) {
    return each(x, [](float a) { return a > 20.0f ? a : __builtin_log1pf(__builtin_expf(a)); });
}

// -- memory ------------------------------------------------------------------------------------------

// An owned array. (Including <vector> takes a fifth of the time to compile.)
template <class Item>
struct Array {
    Item* const at;
    explicit Array(int64_t count) : at(new Item[count]) {}
    Array(const Array&) = delete;
    ~Array() { delete[] at; }
};

// Load the first `count` of V values; the rest are 0.
INLINE vec load(const float* at, int64_t count) {
    vec out = {};
    if (count == V)
        std::memcpy(&out, at, sizeof out);
    else
        std::memcpy(&out, at, count * sizeof(float));
    return out;
}

INLINE void store(float* at, vec x, int64_t count) {
    if (count == V)
        std::memcpy(at, &x, sizeof x);
    else
        std::memcpy(at, &x, count * sizeof(float));
}

INLINE vec load(const BFloat16* at, int64_t count) {
    half_bits upper = {};
    if (count == V)
        std::memcpy(&upper, at, sizeof upper);
    else
        std::memcpy(&upper, at, count * sizeof(BFloat16));
    const bits whole = __builtin_convertvector(upper, bits) << 16;
    vec out;
    std::memcpy(&out, &whole, sizeof out);
    return out;
}

// Rounds to the nearest, ties to even, as torch does.
INLINE void store(BFloat16* at, vec x, int64_t count) {
    bits whole;
    std::memcpy(&whole, &x, sizeof whole);
    whole = (whole + 0x7fff + ((whole >> 16) & 1)) >> 16;
    const bits rounded = x == x ? whole : bits{} + 0x7fc0;
    const half_bits upper = __builtin_convertvector(rounded, half_bits);
    if (count == V)
        std::memcpy(at, &upper, sizeof upper);
    else
        std::memcpy(at, &upper, count * sizeof(BFloat16));
}

INLINE vec first(vec x, int64_t count) {
    mask place;
    for (int i = 0; i < V; ++i) place[i] = i;
    return count == V ? x : select(place < static_cast<int32_t>(count), x, 0.0f);
}

INLINE wide widened(vec x) { return __builtin_convertvector(x, wide); }

INLINE double summed(wide x) {
    double parts[V];
    std::memcpy(parts, &x, sizeof x);
#pragma GCC unroll 4
    for (int half = V / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
    return parts[0];
}

// Contiguous runs of values at each step: of one channel or, with channels last, of up to V channels, one per
// lane.
template <class Item>
struct RowsOf {
    Item* at;
    int64_t step, run;
    INLINE Item* of(int64_t t, int64_t r) const { return at + t * step + r * run; }
};
typedef RowsOf<Value> Rows;

// A value [T, N, C, L], or [T, N, L, C] with channels last: a lazy concatenation of parts along C.
struct Joined {
    Value* const* parts;
    const int64_t* widths;

    // The part that has channel c; c becomes its place there.
    int64_t find(int64_t& c) const {
        int64_t part = 0;
        while (c >= widths[part]) c -= widths[part++];
        return part;
    }
};

struct Shape {
    int64_t images, channels, length, threads;

    explicit Shape(const int64_t* sizes)
        : images(sizes[0]), channels(sizes[1]), length(sizes[2]), threads(sizes[3]) {}
    int64_t values() const { return images * length; }
    // Runs too short for vectors are copied into one long run.
    bool is_packed() const { return !LAST && !CARRIES && length % V != 0 && length < 8 * V && images > 1; }
    int64_t room() const { return is_packed() ? values() : 0; }  // of a step of such a copy
};

// The channels of `c` to `c + lanes`.
struct Block {
    int64_t c, lanes;

    // Numbers of each channel.
    INLINE vec numbers(const float* at) const { return LAST ? load(at + c, lanes) : spread(at[c]); }
    INLINE void put(float* at, vec x) const {
        if (LAST)
            store(at + c, x, lanes);
        else
            at[c] = x[0];
    }
    // The sums of each channel, of those of each lane.
    INLINE wide together(wide x) const { return LAST ? x : summed(x) - wide{}; }
};

// How many blocks are read at once, side by side: with channels last whole lines of memory then, one behind the
// other. A backward pass is in three places of each part, and a processor follows a few.
constexpr int MOST = LAST ? 32 : 1, MOST_OF_PARTS = LAST ? 8 : 1;

struct Unit {
    const Shape& shape;
    const Block* blocks;
    const int count;
    Value* room;  // for copies
    const bool packed;
    const int64_t runs, run_length;

    Unit(const Shape& shape, const Block* blocks, int count, Value* room)
        : shape(shape), blocks(blocks), count(count), room(room), packed(shape.is_packed()),
          runs(LAST ? shape.values() : packed ? 1 : shape.images),
          run_length(packed ? shape.values() : shape.length) {}

    Rows in_place(const Joined& x, int b) const {
        int64_t place = blocks[b].c;
        const int64_t part = x.find(place), width = x.widths[part], whole = shape.values() * width;
        if (LAST) return {x.parts[part] + place, whole, width};
        return {x.parts[part] + place * shape.length, whole, width * shape.length};
    }
    // Of a state [N, C, L] or [N, L, C].
    RowsOf<float> of_state(float* at, int b) const {
        const int64_t c = blocks[b].c, width = shape.channels;
        if (LAST) return {at + c, 0, width};
        return {at + c * shape.length, 0, width * shape.length};
    }
    Rows make(int64_t steps) {
        const Rows copy = {room, shape.room(), 0};
        room += steps * shape.room();
        return copy;
    }
    Rows read(const Joined& x, int b, int64_t steps) {
        const Rows rows = in_place(x, b);
        if (!packed) return rows;
        const Rows copy = make(steps);
        for (int64_t t = 0; t < steps; ++t) copy_runs(copy.of(t, 0), shape.length, rows.of(t, 0), rows.run);
        return copy;
    }
    Rows written(const Joined& x, int b, int64_t steps) { return packed ? make(steps) : in_place(x, b); }
    void finish(const Rows& copy, const Joined& x, int b, int64_t steps) const {
        if (!packed) return;
        const Rows rows = in_place(x, b);
        for (int64_t t = 0; t < steps; ++t) copy_runs(rows.of(t, 0), rows.run, copy.of(t, 0), shape.length);
    }

    // f(block, r, k, count) for all places, V at a time.
    template <class F>
    INLINE void everywhere(F f) const {
        constexpr int64_t FULL = V;
        if (LAST) {
            bool full = true;
            for (int b = 0; b < count; ++b) full &= blocks[b].lanes == V;
            for (int64_t r = 0; r < runs; ++r)
                for (int b = 0; b < count; ++b) {
                    if (full)
                        f(b, r, int64_t{0}, FULL);
                    else
                        f(b, r, int64_t{0}, blocks[b].lanes);
                }
            return;
        }
        for (int64_t r = 0; r < runs; ++r) {
            int64_t k = 0;
            for (; k + V <= run_length; k += V) f(0, r, k, FULL);
            if (k < run_length) f(0, r, k, run_length - k);
        }
    }

private:
    template <int64_t LENGTH>
    void copy_rows(Value* to, int64_t to_run, const Value* from, int64_t from_run) const {
        for (int64_t n = 0; n < shape.images; ++n)
            std::memcpy(to + n * to_run, from + n * from_run,
                        (LENGTH ? LENGTH : shape.length) * sizeof(Value));
    }
    void copy_runs(Value* to, int64_t to_run, const Value* from, int64_t from_run) const {
        if (shape.length == 1) return copy_rows<1>(to, to_run, from, from_run);
        if (shape.length == 4) return copy_rows<4>(to, to_run, from, from_run);
        copy_rows<0>(to, to_run, from, from_run);
    }
};

// -- norms -------------------------------------------------------------------------------------------

enum Mode { RUNNING = 0, BATCH = 1 };  // where its mean and variance come from

INLINE vec narrowed(wide x) { return __builtin_convertvector(x, vec); }

struct Norm {
    const float *weight, *bias;
    float *running_mean, *running_var;
    float* table;  // [4, C]: mean, 1 / sqrt(var + eps), scale, shift
    int64_t channels;
    float momentum, eps;
    double repeats;

    void finish(const Block& block, vec mean, vec variance) const {
        const vec inverse = 1.0f / sqrt_of(variance + eps), scale = inverse * block.numbers(weight);
        block.put(table, mean);
        block.put(table + channels, inverse);
        block.put(table + 2 * channels, scale);
        block.put(table + 3 * channels, block.numbers(bias) - mean * scale);
    }
    void run(const Block& block) const {
        finish(block, block.numbers(running_mean), block.numbers(running_var));
    }
    // By those of `count` values of a batch; the running ones move.
    void move(const Block& block, vec mean, vec variance, double count) const {
        const vec unbiased = narrowed(widened(variance) * (count * repeats / (count * repeats - 1)));
        const vec mean_before = block.numbers(running_mean), var_before = block.numbers(running_var);
        block.put(running_mean, mean_before + momentum * (mean - mean_before));
        block.put(running_var, var_before + momentum * (unbiased - var_before));
        finish(block, mean, variance);
    }

    // By the values that each block of `x` has.
    void take(const Unit& unit, const Rows* x, int64_t stride, int64_t steps) const {
        // Sums of distances from a value among them, and of their squares. It lies no farther from the mean
        // than the variance allows, so that in double precision they are as good as distances from the mean.
        wide start[MOST] = {}, sums[MOST][2] = {}, squares[MOST][2] = {};
        for (int b = 0; b < unit.count; ++b) {
            const Value* at = x[b * stride].at;
            start[b] = widened(LAST ? load(at, unit.blocks[b].lanes) : spread(load(at, 1)[0]));
        }
        for (int64_t t = 0; t < steps; ++t)
            unit.everywhere([&](int b, int64_t r, int64_t k, int64_t n) {
                wide far = widened(load(x[b * stride].of(t, r) + k, n)) - start[b];
                if (!LAST && n < V)
                    for (int64_t i = n; i < V; ++i) far[i] = 0;
                const int64_t place = (LAST ? r : k / V) & 1;
                sums[b][place] += far;
                squares[b][place] += far * far;
            });
        const double count = static_cast<double>(steps * unit.shape.values());
        for (int b = 0; b < unit.count; ++b) {
            const Block& block = unit.blocks[b];
            const wide distance = block.together(sums[b][0] + sums[b][1]) / count;
            wide square = block.together(squares[b][0] + squares[b][1]) - distance * distance * count;
            square = square < 0 ? wide{} : square;  // not-a-number stays
            move(block, narrowed(start[b] + distance), narrowed(square / count), count);
        }
    }
};

}  // namespace

//%% neuron

// == passes ==========================================================================================

namespace {

constexpr int S = STATES ? STATES : 1, P = PARAMS ? PARAMS : 1, M = NORMS ? NORMS : 1;
constexpr int Q = POINTERS ? POINTERS : 1;

INLINE int64_t steps_of(int i) { return VARIES[i] ? T : 1; }

struct Affine {
    vec scale, shift;
};

// The neuron of a unit at each step, of its learnables: one pointer each, or one for each step.
struct Neurons {
    Neuron at[HAS_STEPS ? T : 1];
    Neurons() = default;
    Neurons(float* const* params, const Block& block) {
        for (int t = 0; t < (HAS_STEPS ? T : 1); ++t) {
            vec given[P] = {};
            int place = 0;
            for (int i = 0; i < PARAMS; ++i) {
                const float* values = params[place + (PER_STEP[i] ? t : 0)];
                given[i] = PER_CHANNEL[i] ? block.numbers(values) : spread(*values);
                place += PER_STEP[i] ? T : 1;
            }
            at[t] = Neuron(given);
        }
    }
    INLINE const Neuron& of(int t) const { return at[HAS_STEPS ? t : 0]; }
};

// The input of the neuron at each step: the terms, summed from the left. (A first term that is `ADDED` is added to
// the spikes instead.)
INLINE void currents(const Rows* x, const Affine* affine, int64_t r, int64_t k, int64_t n, vec* out) {
    vec same[TERMS];
#pragma GCC unroll 8
    for (int i = ADDED; i < TERMS; ++i)
        if (!VARIES[i]) {
            same[i] = load(x[i].of(0, r) + k, n);
            if (NORM_OF[i] >= 0) same[i] = same[i] * affine[i].scale + affine[i].shift;
        }
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) {
        vec total = {};
#pragma GCC unroll 8
        for (int i = ADDED; i < TERMS; ++i) {
            vec value = same[i];
            if (VARIES[i]) {
                value = load(x[i].of(t, r) + k, n);
                if (NORM_OF[i] >= 0) value = value * affine[i].scale + affine[i].shift;
            }
            total = i == ADDED ? value : total + value;
        }
        out[t] = total;
    }
}

INLINE void begin(vec* states) {
#pragma GCC unroll 8
    for (int i = 0; i < STATES; ++i) states[i] = spread(INITIAL[i]);
}

// The terms, of pointers to their parts.
struct Terms {
    Joined at[TERMS];
    int64_t parts = 0;
    Terms(Value* const* tensors, const int64_t* counts, const int64_t* widths) {
        for (int i = 0; i < TERMS; ++i) {
            at[i] = {tensors + parts, widths + parts};
            parts += counts[i];
        }
    }
};

// All channels in blocks, none with channels of two parts of a term, and the units that these make.
struct Blocks {
    Array<Block> all;
    int64_t count = 0, together = 1, units = 0;

    Blocks(const Shape& shape, const Terms& terms, int64_t most) : all(shape.channels + 1) {
        for (int64_t c = 0; c < shape.channels;) {
            int64_t lanes = LAST && shape.channels - c > V ? V : LAST ? shape.channels - c : 1;
            for (const Joined& x : terms.at) {
                int64_t place = c;
                const int64_t part = x.find(place), rest = x.widths[part] - place;
                if (rest < lanes) lanes = rest;
            }
            all.at[count++] = {c, lanes};
            c += lanes;
        }
        const int64_t each = (count + shape.threads - 1) / shape.threads;  // so that all threads have some
        together = each < most ? each : most;
        units = together ? (count + together - 1) / together : 0;
    }
    Unit unit(const Shape& shape, int64_t u, Value* room) const {
        const int64_t first = u * together, rest = count - first;
        return Unit(shape, all.at + first, static_cast<int>(rest < together ? rest : together), room);
    }
};

Value* const* values(void* const* tensors) { return reinterpret_cast<Value* const*>(tensors); }
float* const* numbers_of(void* const* tensors) { return reinterpret_cast<float* const*>(tensors); }

int64_t steps_of_all() {
    int64_t steps = 0;
    for (int i = 0; i < TERMS; ++i) steps += steps_of(i);
    return steps;
}

}  // namespace

// sizes: N, C, L, threads; the mode of each norm; the number of parts of each term; the channels of each part.
//
// tensors: the output; the parts of all terms; weight, bias, running mean, running variance, table and number of
// batches of each norm; the learnables; where the group `CARRIES`, the states before (null at the first step of a
// stream) and after. The output may be one of the parts. numbers: momentum, eps and repeats
// of each norm.
PUBLIC void forward(void* const* tensors, const int64_t* sizes, const double* numbers) {
    const Shape shape(sizes);
    const int64_t *counts = sizes + 4 + NORMS, *widths = counts + TERMS;
    const Terms terms(values(tensors + 1), counts, widths);
    float* const* parts = numbers_of(tensors + 1 + terms.parts);
    Norm norms[M];
    for (int j = 0; j < NORMS; ++j, parts += 6) {
        norms[j] = {parts[0], parts[1], parts[2], parts[3], parts[4], shape.channels,
                    static_cast<float>(numbers[3 * j]), static_cast<float>(numbers[3 * j + 1]),
                    numbers[3 * j + 2]};
        if (sizes[4 + j] == BATCH) ++*reinterpret_cast<int64_t*>(parts[5]);
    }
    float* const* carried = parts + POINTERS;
    const Joined out = {values(tensors), &shape.channels};
    const Blocks blocks(shape, terms, MOST);
#pragma omp parallel num_threads(shape.threads) if (shape.threads > 1)
    {
        const Array<Value> room((steps_of_all() + T) * shape.room() + 1);
#pragma omp for
        for (int64_t u = 0; u < blocks.units; ++u) {
            Unit unit = blocks.unit(shape, u, room.at);
            Rows x[MOST][TERMS] = {}, to[MOST] = {};
            RowsOf<float> before[MOST][S] = {}, after[MOST][S] = {};
            Affine affine[MOST][TERMS] = {};
            Neurons neurons[MOST];
            for (int i = 0; i < TERMS; ++i) {
                for (int b = 0; b < unit.count; ++b) x[b][i] = unit.read(terms.at[i], b, steps_of(i));
                const int j = NORM_OF[i];
                if (j < 0) continue;
                if (sizes[4 + j] == BATCH) norms[j].take(unit, &x[0][i], TERMS, steps_of(i));
                for (int b = 0; b < unit.count; ++b) {
                    const Block& block = unit.blocks[b];
                    if (sizes[4 + j] == RUNNING) norms[j].run(block);
                    affine[b][i] = {block.numbers(norms[j].table + 2 * shape.channels),
                                    block.numbers(norms[j].table + 3 * shape.channels)};
                }
            }
            for (int b = 0; b < unit.count; ++b) {
                to[b] = unit.written(out, b, T);
                neurons[b] = Neurons(parts, unit.blocks[b]);
                for (int i = 0; CARRIES && i < STATES; ++i) {
                    if (carried[i]) before[b][i] = unit.of_state(carried[i], b);
                    after[b][i] = unit.of_state(carried[STATES + i], b);
                }
            }
            unit.everywhere([&](int b, int64_t r, int64_t k, int64_t n) {
                vec inputs[T], states[S], next[S];
                currents(x[b], affine[b], r, k, n, inputs);
                begin(states);
                for (int i = 0; CARRIES && i < STATES; ++i)
                    if (before[b][i].at) states[i] = load(before[b][i].of(0, r) + k, n);
#pragma GCC unroll 32
                for (int t = 0; t < T; ++t) {
                    vec s;
                    neurons[b].of(t).step(inputs[t], states, s, next);
                    if (ADDED) s = s + load(x[b][0].of(VARIES[0] ? t : 0, r) + k, n);
                    store(to[b].of(t, r) + k, s, n);
#pragma GCC unroll 8
                    for (int i = 0; i < STATES; ++i) states[i] = next[i];
                }
                for (int i = 0; CARRIES && i < STATES; ++i) store(after[b][i].of(0, r) + k, states[i], n);
            });
            for (int b = 0; b < unit.count; ++b) unit.finish(to[b], out, b, T);
        }
    }
}

#ifndef FORWARD_ONLY

// What a block of a backward pass reads, writes and sums up.
struct Gradients {
    Rows g, x[TERMS], to[TERMS];
    Rows sum, sum_of_steps;  // the gradient of the sum, until norms take it
    int where, where_of_steps;  // in whose `to` these are, or -1
    Affine affine[TERMS];
    vec mean[TERMS], level[TERMS], slope[TERMS];
    Neurons neurons;
    wide total, product[TERMS], of_param[Q];
};

// tensors: the gradient of the output, the parts of terms, the gradients of all parts, of each norm its table
// and the gradients of weight and bias, the learnables, their gradients [C] each. Terms without a norm share
// one gradient where they vary and another where they do not. sizes: as above.
PUBLIC void backward(void* const* tensors, const int64_t* sizes) {
    const Shape shape(sizes);
    const int64_t *counts = sizes + 4 + NORMS, *widths = counts + TERMS, channels = shape.channels;
    const Terms terms(values(tensors + 1), counts, widths);
    const Terms outputs(values(tensors + 1 + terms.parts), counts, widths);
    float* const* of_norms = numbers_of(tensors + 1 + 2 * terms.parts);
    float* const* params = of_norms + 3 * NORMS;
    float* const* of_params = params + POINTERS;
    const Joined grad = {values(tensors), &channels};
    const Blocks blocks(shape, terms, terms.parts > TERMS ? MOST_OF_PARTS : MOST);
#pragma omp parallel num_threads(shape.threads) if (shape.threads > 1)
    {
        const Array<Value> room((2 * steps_of_all() + T) * shape.room() + 1);
        const Array<Gradients> each(MOST);
        Gradients* const of = each.at;
#pragma omp for
        for (int64_t u = 0; u < blocks.units; ++u) {
            Unit unit = blocks.unit(shape, u, room.at);
            for (int b = 0; b < unit.count; ++b) {
                const Block& block = unit.blocks[b];
                Gradients& its = of[b];
                its = Gradients();
                its.g = unit.read(grad, b, T);
                for (int i = 0; i < TERMS; ++i) {
                    its.x[i] = unit.read(terms.at[i], b, steps_of(i));
                    its.to[i] = unit.written(outputs.at[i], b, steps_of(i));
                    if (NORM_OF[i] < 0) continue;
                    const float* table = of_norms[3 * NORM_OF[i]];
                    its.mean[i] = block.numbers(table);
                    its.affine[i] = {block.numbers(table + 2 * channels), block.numbers(table + 3 * channels)};
                }
                its.where = its.where_of_steps = -1;
                for (int i = TERMS - 1; i >= 0; --i)
                    (VARIES[i] ? its.where : its.where_of_steps) = i;
                if (VARYING) its.sum = its.to[its.where];
                if (STATIC) its.sum_of_steps = its.to[its.where_of_steps];
                its.neurons = Neurons(params, block);
            }
            unit.everywhere([&](int b, int64_t r, int64_t k, int64_t n) {
                Gradients& its = of[b];
                vec inputs[T], history[T][S], s;
                currents(its.x, its.affine, r, k, n, inputs);
                begin(history[0]);
#pragma GCC unroll 32
                for (int t = 0; t + 1 < T; ++t)
                    its.neurons.of(t).step(inputs[t], history[t], s, history[t + 1]);
                vec after[S] = {}, before[S], parts[P], dx, total = {}, sums[P] = {};
                vec product[TERMS] = {};  // of all steps in float, of all places in double precision
#pragma GCC unroll 32
                for (int t = T - 1; t >= 0; --t) {
                    const vec incoming = load(its.g.of(t, r) + k, n);
                    its.neurons.of(t).vjp(inputs[t], history[t], incoming, after, dx, before, parts);
                    dx = first(dx, n);
                    if (VARYING) store(its.sum.of(t, r) + k, dx, n);
#pragma GCC unroll 8
                    for (int i = 0; i < TERMS; ++i)
                        if (NORM_OF[i] >= 0 && VARIES[i])
                            product[i] += dx * (load(its.x[i].of(t, r) + k, n) - its.mean[i]);
                    total = t == T - 1 ? dx : total + dx;
#pragma GCC unroll 8
                    for (int i = 0; i < STATES; ++i) after[i] = before[i];
                    int place = 0;
#pragma GCC unroll 8
                    for (int i = 0; i < PARAMS; ++i) {
                        const vec part = first(parts[i], n);
                        if (PER_STEP[i])
                            its.of_param[place + t] += widened(part);
                        else
                            sums[i] = t == T - 1 ? part : sums[i] + part;
                        place += PER_STEP[i] ? T : 1;
                    }
                }
                int place = 0;
#pragma GCC unroll 8
                for (int i = 0; i < PARAMS; ++i) {
                    if (!PER_STEP[i]) its.of_param[place] += widened(sums[i]);
                    place += PER_STEP[i] ? T : 1;
                }
                its.total += widened(total);
                if (STATIC) store(its.sum_of_steps.of(0, r) + k, total, n);
#pragma GCC unroll 8
                for (int i = 0; i < TERMS; ++i) {
                    if (NORM_OF[i] < 0) continue;
                    if (!VARIES[i])
                        product[i] = total * (load(its.x[i].of(0, r) + k, n) - its.mean[i]);
                    its.product[i] += widened(product[i]);
                }
            });
            for (int b = 0; b < unit.count; ++b) {
                const Block& block = unit.blocks[b];
                Gradients& its = of[b];
                for (int i = 0; i < POINTERS; ++i)
                    block.put(of_params[i], narrowed(block.together(its.of_param[i])));
                for (int i = 0; i < TERMS; ++i) {
                    const int j = NORM_OF[i];
                    if (j < 0) continue;
                    const wide all = block.together(its.total);
                    const wide with = block.together(its.product[i]);
                    const wide inverse = widened(block.numbers(of_norms[3 * j] + channels));
                    block.put(of_norms[3 * j + 1], narrowed(with * inverse));
                    block.put(of_norms[3 * j + 2], narrowed(all));
                    if (sizes[4 + j] != BATCH) continue;
                    const double count = static_cast<double>(steps_of(i) * shape.values());
                    its.level[i] = narrowed(all / count);
                    its.slope[i] = narrowed(with * inverse * inverse / count);
                }
            }
            if (NORMS || terms.parts > TERMS)
                for (int t = 0; t < T; ++t)
                    unit.everywhere([&](int b, int64_t r, int64_t k, int64_t n) {
                        const Gradients& its = of[b];
                        const vec of_varying = VARYING ? load(its.sum.of(t, r) + k, n) : vec{};
                        const vec of_same = STATIC && !t ? load(its.sum_of_steps.of(0, r) + k, n) : vec{};
#pragma GCC unroll 8
                        for (int i = 0; i < TERMS; ++i) {
                            if (!VARIES[i] && t) continue;
                            vec d = VARIES[i] ? of_varying : of_same;
                            if (NORM_OF[i] >= 0) {
                                const vec far = load(its.x[i].of(t, r) + k, n) - its.mean[i];
                                d = (d - its.level[i] - far * its.slope[i]) * its.affine[i].scale;
                            } else if (i == (VARIES[i] ? its.where : its.where_of_steps)) {
                                continue;  // it is there already
                            }
                            store(its.to[i].of(t, r) + k, d, n);
                        }
                    });
            for (int b = 0; b < unit.count; ++b)
                for (int i = 0; i < TERMS; ++i) unit.finish(of[b].to[i], outputs.at[i], b, steps_of(i));
        }
    }
}

#endif

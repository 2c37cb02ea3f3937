// A fusion group of float32 values on a CPU, channel by channel: the statistics of its norms, the sum, the
// neuron over all its steps, and the gradients of all of them, each with one way through memory.
//
// `native_group.py` puts constants and the struct Neuron (`kernel_cpp.py`) where there is a line with %%.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

#define INLINE inline __attribute__((always_inline))

//%% layout

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

// 2^n for n of -126 to 127, as a number.
INLINE vec power(mask n) {
    const mask bits = (n + 127) << 23;
    vec out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}

INLINE vec exp_of(vec x) {
    x = select(x > 89.0f, 89.0f, select(x < -104.0f, -104.0f, x));
    const float up = 12582912.0f;  // adding it rounds to a whole number
    const vec whole = (x * 1.44269504088896341f + up) - up;
    // ln 2 in two parts, of which the first times `whole` is exact
    const vec r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    vec y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    const mask n = __builtin_convertvector(select(x == x, whole, 0.0f), mask), half = n >> 1;
    return y * power(half) * power(n - half);  // in two parts: the result may be less than 2^-126
}

INLINE vec sigmoid_of(vec x) { return 1.0f / (1.0f + exp_of(-x)); }

template <class F>
INLINE vec each(vec x, F f) {
    vec out;
    for (int i = 0; i < V; ++i) out[i] = f(x[i]);
    return out;
}

INLINE vec log_of(vec x) { return each(x, [](float a) { return std::log(a); }); }
INLINE vec sqrt_of(vec x) { return each(x, [](float a) { return std::sqrt(a); }); }
INLINE vec tanh_of(vec x) { return each(x, [](float a) { return std::tanh(a); }); }
INLINE vec sin_of(vec x) { return each(x, [](float a) { return std::sin(a); }); }
INLINE vec cos_of(vec x) { return each(x, [](float a) { return std::cos(a); }); }
INLINE vec erf_of(vec x) { return each(x, [](float a) { return std::erf(a); }); }
INLINE vec round_of(vec x) { return each(x, [](float a) { return std::nearbyint(a); }); }
INLINE vec abs_of(vec x) { return each(x, [](float a) { return std::fabs(a); }); }
INLINE vec sign_of(vec x) { return select(x > 0.0f, 1.0f, select(x < 0.0f, -1.0f, 0.0f)); }
INLINE vec softplus_of(vec x) {
    return each(x, [](float a) { return a > 20.0f ? a : std::log1p(std::exp(a)); });
}

// -- memory ------------------------------------------------------------------------------------------

// The first `count` of V values; the rest are 0.
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

INLINE vec first(vec x, int64_t count) {
    mask place;
    for (int i = 0; i < V; ++i) place[i] = i;
    return count == V ? x : select(place < static_cast<int32_t>(count), x, 0.0f);
}

INLINE wide widened(vec x) { return __builtin_convertvector(x, wide); }

INLINE double summed(wide x) {
    double total = 0;
    for (int i = 0; i < V; ++i) total += x[i];
    return total;
}

// What is read together: values that lie side by side in `runs` runs at each step. They are of one channel,
// or with channels last of V channels, one of them in each lane.
struct Rows {
    float* at;
    int64_t step, run;
    INLINE float* of(int64_t t, int64_t r) const { return at + t * step + r * run; }
};

// A value [T, N, C, L], or [T, N, L, C] with channels last, joined of parts along C.
struct Joined {
    float* const* parts;
    const int64_t* widths;
    int64_t count;
};

struct Shape {
    int64_t images, channels, length, threads;

    explicit Shape(const int64_t* sizes)
        : images(sizes[0]), channels(sizes[1]), length(sizes[2]), threads(sizes[3]) {}
    // Runs that are too short for vectors are read in a copy, one behind the other.
    bool is_packed() const { return !LAST && length % V != 0 && length < 8 * V && images > 1; }
    int64_t values() const { return images * length; }
};

// The channels of `c` to `c + lanes`.
struct Unit {
    const Shape& shape;
    int64_t c, lanes;
    float* room;  // for copies
    const bool packed;
    const int64_t runs, run_length;

    Unit(const Shape& shape, int64_t c, int64_t lanes, float* room)
        : shape(shape), c(c), lanes(lanes), room(room), packed(shape.is_packed()),
          runs(LAST ? shape.values() : packed ? 1 : shape.images),
          run_length(LAST ? lanes : packed ? shape.values() : shape.length) {}

    Rows in_place(const Joined& x) const {
        int64_t part = 0, place = c;
        while (place >= x.widths[part]) place -= x.widths[part++];
        const int64_t width = x.widths[part], whole = shape.values() * width;
        if (LAST) return {x.parts[part] + place, whole, width};
        return {x.parts[part] + place * shape.length, whole, width * shape.length};
    }
    Rows read(const Joined& x, int64_t steps) {
        const Rows rows = in_place(x);
        if (!packed) return rows;
        const Rows copy = make(steps);
        for (int64_t t = 0; t < steps; ++t) copy_runs(copy.of(t, 0), shape.length, rows.of(t, 0), rows.run);
        return copy;
    }
    Rows written(const Joined& x, int64_t steps) { return packed ? make(steps) : in_place(x); }
    void finish(const Rows& copy, const Joined& x, int64_t steps) const {
        if (!packed) return;
        const Rows rows = in_place(x);
        for (int64_t t = 0; t < steps; ++t) copy_runs(rows.of(t, 0), rows.run, copy.of(t, 0), shape.length);
    }

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

private:
    Rows make(int64_t steps) {
        const Rows copy = {room, shape.values(), 0};
        room += steps * shape.values();
        return copy;
    }
    template <int64_t LENGTH>
    void copy_rows(float* to, int64_t to_run, const float* from, int64_t from_run) const {
        for (int64_t n = 0; n < shape.images; ++n)
            std::memcpy(to + n * to_run, from + n * from_run,
                        (LENGTH ? LENGTH : shape.length) * sizeof(float));
    }
    void copy_runs(float* to, int64_t to_run, const float* from, int64_t from_run) const {
        if (shape.length == 1) return copy_rows<1>(to, to_run, from, from_run);
        if (shape.length == 4) return copy_rows<4>(to, to_run, from, from_run);
        copy_rows<0>(to, to_run, from, from_run);
    }
};

// f(r, k, count) for all places of a unit, V at a time.
template <class F>
INLINE void everywhere(const Unit& unit, F f) {
    if (LAST && unit.lanes == V) {
        for (int64_t r = 0; r < unit.runs; ++r) f(r, static_cast<int64_t>(0), static_cast<int64_t>(V));
        return;
    }
    for (int64_t r = 0; r < unit.runs; ++r) {
        int64_t k = 0;
        for (; k + V <= unit.run_length; k += V) f(r, k, static_cast<int64_t>(V));
        if (k < unit.run_length) f(r, k, unit.run_length - k);
    }
}

// -- norms -------------------------------------------------------------------------------------------

enum Mode { GIVEN = 0, RUNNING = 1, BATCH = 2 };  // where its mean and variance come from

INLINE vec narrowed(wide x) { return __builtin_convertvector(x, vec); }

struct Norm {
    const float *weight, *bias;
    float *running_mean, *running_var;
    float* table;  // [4, C]: mean, 1 / sqrt(var + eps), scale, shift
    int64_t channels;
    float momentum, eps;
    double repeats;

    void finish(const Unit& unit, vec mean, vec variance) const {
        const vec inverse = 1.0f / sqrt_of(variance + eps), scale = inverse * unit.numbers(weight);
        unit.put(table, mean);
        unit.put(table + channels, inverse);
        unit.put(table + 2 * channels, scale);
        unit.put(table + 3 * channels, unit.numbers(bias) - mean * scale);
    }
    void run(const Unit& unit) const { finish(unit, unit.numbers(running_mean), unit.numbers(running_var)); }

    // By the values of a channel; the running statistics move.
    void take(const Unit& unit, const Rows& x, int64_t steps) const {
        const double count = static_cast<double>(steps * unit.shape.values());
        wide sums[2] = {}, squares[2] = {};
        for (int64_t t = 0; t < steps; ++t)
            everywhere(unit, [&](int64_t r, int64_t k, int64_t n) {
                sums[(LAST ? r : k / V) & 1] += widened(load(x.of(t, r) + k, n));
            });
        const wide mean = unit.together(sums[0] + sums[1]) / count;
        for (int64_t t = 0; t < steps; ++t)
            everywhere(unit, [&](int64_t r, int64_t k, int64_t n) {
                wide far = widened(load(x.of(t, r) + k, n)) - mean;
                if (!LAST && n < V)
                    for (int64_t i = n; i < V; ++i) far[i] = 0;
                squares[(LAST ? r : k / V) & 1] += far * far;
            });
        const wide square = unit.together(squares[0] + squares[1]);
        const vec middle = narrowed(mean), unbiased = narrowed(square * repeats / (count * repeats - 1));
        const vec mean_before = unit.numbers(running_mean), var_before = unit.numbers(running_var);
        unit.put(running_mean, mean_before + momentum * (middle - mean_before));
        unit.put(running_var, var_before + momentum * (unbiased - var_before));
        finish(unit, middle, narrowed(square / count));
    }
};

}  // namespace

// == what a group is =================================================================================
//%% group
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
    Neurons(float* const* params, const Unit& unit) {
        for (int t = 0; t < (HAS_STEPS ? T : 1); ++t) {
            vec given[P] = {};
            int place = 0;
            for (int i = 0; i < PARAMS; ++i) {
                const float* values = params[place + (PER_STEP[i] ? t : 0)];
                given[i] = PER_CHANNEL[i] ? unit.numbers(values) : spread(*values);
                place += PER_STEP[i] ? T : 1;
            }
            at[t] = Neuron(given);
        }
    }
    INLINE const Neuron& of(int t) const { return at[HAS_STEPS ? t : 0]; }
};

// What drives the neuron at each step, summed from the left.
INLINE void currents(const Rows* x, const Affine* affine, int64_t r, int64_t k, int64_t n, vec* out) {
    vec same[TERMS];
#pragma GCC unroll 8
    for (int i = 0; i < TERMS; ++i)
        if (!VARIES[i]) {
            same[i] = load(x[i].of(0, r) + k, n);
            if (NORM_OF[i] >= 0) same[i] = same[i] * affine[i].scale + affine[i].shift;
        }
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) {
        vec total = {};
#pragma GCC unroll 8
        for (int i = 0; i < TERMS; ++i) {
            vec value = same[i];
            if (VARIES[i]) {
                value = load(x[i].of(t, r) + k, n);
                if (NORM_OF[i] >= 0) value = value * affine[i].scale + affine[i].shift;
            }
            total = i ? total + value : value;
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
    Terms(float* const* tensors, const int64_t* counts, const int64_t* widths) {
        for (int i = 0; i < TERMS; ++i) {
            at[i] = {tensors + parts, widths + parts, counts[i]};
            parts += counts[i];
        }
    }
};

// Where each unit begins, and the end of the last: none has channels of two parts of a term.
struct Units {
    std::unique_ptr<int64_t[]> begins;
    int64_t count = 0;
    Units(const Shape& shape, const Terms& terms) : begins(new int64_t[shape.channels + 1]) {
        for (int64_t c = 0; c < shape.channels;) {
            begins[count++] = c;
            int64_t most = LAST ? V : 1;
            for (int i = 0; i < TERMS; ++i) {
                int64_t part = 0, place = c;
                while (place >= terms.at[i].widths[part]) place -= terms.at[i].widths[part++];
                const int64_t rest = terms.at[i].widths[part] - place;
                if (rest < most) most = rest;
            }
            c += most;
        }
        begins[count] = shape.channels;
    }
};

int64_t room_of(const Shape& shape, int64_t steps) {
    return shape.is_packed() ? steps * shape.values() + 1 : 1;
}

int64_t steps_of_all() {
    int64_t steps = 0;
    for (int i = 0; i < TERMS; ++i) steps += steps_of(i);
    return steps;
}

}  // namespace

// sizes: N, C, L, threads, of each norm its mode, of each term how many parts it has, the channels of each.
//
// tensors: the output, the parts of terms, of each norm its weight, bias, running mean and var and table, the
// learnables. numbers: of each norm momentum, eps, repeats.
extern "C" void forward(float* const* tensors, const int64_t* sizes, const double* numbers) {
    const Shape shape(sizes);
    const Terms terms(tensors + 1, sizes + 4 + NORMS, sizes + 4 + NORMS + TERMS);
    float* const* parts = tensors + 1 + terms.parts;
    Norm norms[M];
    for (int j = 0; j < NORMS; ++j, parts += 5)
        norms[j] = {parts[0], parts[1], parts[2], parts[3], parts[4], shape.channels,
                    static_cast<float>(numbers[3 * j]), static_cast<float>(numbers[3 * j + 1]),
                    numbers[3 * j + 2]};
    const Joined out = {tensors, &shape.channels, 1};
    const Units units(shape, terms);
#pragma omp parallel num_threads(shape.threads) if (shape.threads > 1)
    {
        const std::unique_ptr<float[]> room(new float[room_of(shape, steps_of_all() + T)]);
#pragma omp for
        for (int64_t u = 0; u < units.count; ++u) {
            Unit unit(shape, units.begins[u], units.begins[u + 1] - units.begins[u], room.get());
            Rows x[TERMS];
            Affine affine[TERMS];
            for (int i = 0; i < TERMS; ++i) {
                x[i] = unit.read(terms.at[i], steps_of(i));
                const int j = NORM_OF[i];
                if (j < 0) continue;
                if (sizes[4 + j] == BATCH) norms[j].take(unit, x[i], steps_of(i));
                if (sizes[4 + j] == RUNNING) norms[j].run(unit);
                affine[i] = {unit.numbers(norms[j].table + 2 * shape.channels),
                             unit.numbers(norms[j].table + 3 * shape.channels)};
            }
            const Neurons neurons(parts, unit);
            const Rows to = unit.written(out, T);
            everywhere(unit, [&](int64_t r, int64_t k, int64_t n) {
                vec inputs[T], states[S], next[S];
                currents(x, affine, r, k, n, inputs);
                begin(states);
#pragma GCC unroll 32
                for (int t = 0; t < T; ++t) {
                    vec s;
                    neurons.of(t).step(inputs[t], states, s, next);
                    store(to.of(t, r) + k, s, n);
#pragma GCC unroll 8
                    for (int i = 0; i < STATES; ++i) states[i] = next[i];
                }
            });
            unit.finish(to, out, T);
        }
    }
}

// tensors: the gradient of the output, the parts of terms, the gradients of all parts, of each norm its table
// and the gradients of weight and bias, the learnables, their gradients [C] each. Terms without a norm share
// one gradient where they vary and another where they do not.
extern "C" void backward(float* const* tensors, const int64_t* sizes) {
    const Shape shape(sizes);
    const int64_t *counts = sizes + 4 + NORMS, *widths = counts + TERMS, channels = shape.channels;
    const Terms terms(tensors + 1, counts, widths);
    const Terms outputs(tensors + 1 + terms.parts, counts, widths);
    float* const* of_norms = tensors + 1 + 2 * terms.parts;
    float* const* params = of_norms + 3 * NORMS;
    float* const* of_params = params + POINTERS;
    const Joined grad = {tensors, &channels, 1};
    const Units units(shape, terms);
#pragma omp parallel num_threads(shape.threads) if (shape.threads > 1)
    {
        const std::unique_ptr<float[]> room(new float[room_of(shape, 2 * steps_of_all() + T)]);
#pragma omp for
        for (int64_t u = 0; u < units.count; ++u) {
            Unit unit(shape, units.begins[u], units.begins[u + 1] - units.begins[u], room.get());
            const Rows g = unit.read(grad, T);
            Rows x[TERMS], to[TERMS];
            Affine affine[TERMS];
            vec mean[TERMS];
            int varying = -1, same = -1;  // where the gradient of the sum is kept until norms take it
            for (int i = 0; i < TERMS; ++i) {
                x[i] = unit.read(terms.at[i], steps_of(i));
                to[i] = unit.written(outputs.at[i], steps_of(i));
                if (NORM_OF[i] >= 0) {
                    const float* table = of_norms[3 * NORM_OF[i]];
                    mean[i] = unit.numbers(table);
                    affine[i] = {unit.numbers(table + 2 * channels), unit.numbers(table + 3 * channels)};
                }
                if (VARIES[i] && varying < 0) varying = i;
                if (!VARIES[i] && same < 0) same = i;
            }
            const Neurons neurons(params, unit);
            wide level[2] = {}, product[TERMS] = {}, of_param[Q] = {};
            everywhere(unit, [&](int64_t r, int64_t k, int64_t n) {
                vec inputs[T], history[T][S], s;
                currents(x, affine, r, k, n, inputs);
                begin(history[0]);
#pragma GCC unroll 32
                for (int t = 0; t + 1 < T; ++t) neurons.of(t).step(inputs[t], history[t], s, history[t + 1]);
                vec after[S] = {}, before[S], parts[P], dx, total = {}, sums[P] = {};
#pragma GCC unroll 32
                for (int t = T - 1; t >= 0; --t) {
                    const vec incoming = load(g.of(t, r) + k, n);
                    neurons.of(t).vjp(inputs[t], history[t], incoming, after, dx, before, parts);
                    dx = first(dx, n);
                    if (varying >= 0) store(to[varying].of(t, r) + k, dx, n);
                    if (VARYING_NORM) level[0] += widened(dx);
#pragma GCC unroll 8
                    for (int i = 0; i < TERMS; ++i)
                        if (NORM_OF[i] >= 0 && VARIES[i])
                            product[i] +=
                                widened(dx) * (widened(load(x[i].of(t, r) + k, n)) - widened(mean[i]));
                    total = t == T - 1 ? dx : total + dx;
#pragma GCC unroll 8
                    for (int i = 0; i < STATES; ++i) after[i] = before[i];
                    int place = 0;
#pragma GCC unroll 8
                    for (int i = 0; i < PARAMS; ++i) {
                        const vec part = first(parts[i], n);
                        if (PER_STEP[i])
                            of_param[place + t] += widened(part);
                        else
                            sums[i] = t == T - 1 ? part : sums[i] + part;
                        place += PER_STEP[i] ? T : 1;
                    }
                }
                int place = 0;
#pragma GCC unroll 8
                for (int i = 0; i < PARAMS; ++i) {
                    if (!PER_STEP[i]) of_param[place] += widened(sums[i]);
                    place += PER_STEP[i] ? T : 1;
                }
                if (same < 0) return;
                store(to[same].of(0, r) + k, total, n);
                level[1] += widened(total);
#pragma GCC unroll 8
                for (int i = 0; i < TERMS; ++i)
                    if (NORM_OF[i] >= 0 && !VARIES[i])
                        product[i] +=
                            widened(total) * (widened(load(x[i].of(0, r) + k, n)) - widened(mean[i]));
            });
            for (int i = 0; i < POINTERS; ++i) unit.put(of_params[i], narrowed(unit.together(of_param[i])));

            vec levels[TERMS] = {}, slopes[TERMS] = {};
            for (int i = 0; i < TERMS; ++i) {
                const int j = NORM_OF[i];
                if (j < 0) continue;
                const wide all = unit.together(level[VARIES[i] ? 0 : 1]), with = unit.together(product[i]);
                const wide inverse = widened(unit.numbers(of_norms[3 * j] + channels));
                unit.put(of_norms[3 * j + 1], narrowed(with * inverse));
                unit.put(of_norms[3 * j + 2], narrowed(all));
                if (sizes[4 + j] != BATCH) continue;
                const double count = static_cast<double>(steps_of(i) * shape.values());
                levels[i] = narrowed(all / count);
                slopes[i] = narrowed(with * inverse * inverse / count);
            }
            for (int t = 0; t < T; ++t)
                everywhere(unit, [&](int64_t r, int64_t k, int64_t n) {
                    const vec of_varying = varying < 0 ? vec{} : load(to[varying].of(t, r) + k, n);
                    const vec of_same = same < 0 || t ? vec{} : load(to[same].of(0, r) + k, n);
#pragma GCC unroll 8
                    for (int i = 0; i < TERMS; ++i) {
                        if (t >= steps_of(i)) continue;
                        vec d = VARIES[i] ? of_varying : of_same;
                        if (NORM_OF[i] >= 0) {
                            const vec far = load(x[i].of(t, r) + k, n) - mean[i];
                            d = (d - levels[i] - far * slopes[i]) * affine[i].scale;
                        } else if (i == (VARIES[i] ? varying : same)) {
                            continue;  // it is there already
                        }
                        store(to[i].of(t, r) + k, d, n);
                    }
                });
            for (int i = 0; i < TERMS; ++i) unit.finish(to[i], outputs.at[i], steps_of(i));
        }
    }
}

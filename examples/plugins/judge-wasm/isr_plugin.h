/* Writes a WebAssembly judge for isr-dpo in C: the interface of plugins/wasm/wit/isr.wit as the canonical ABI
 * lays it out on wasm32. It needs no libc, no runtime and no binding generator:
 *
 *   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -o judge.wasm judge.c
 *   python3 -m ziglang cc --target=wasm32-freestanding -O2 -nostdlib -Wl,--no-entry -o judge.wasm judge.c
 *
 * A plugin defines isr_describe, isr_configure and isr_judge (below). Every call gets a fresh instance, so
 * memory is never freed: isr_alloc hands out what is left, and the instance goes when the call returns. */
#ifndef ISR_PLUGIN_H
#define ISR_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { const char *at; size_t length; } isr_text; /* UTF-8, not terminated */
typedef struct { const double *at; size_t length; } isr_f64s;
typedef struct { const float *at; size_t length; } isr_f32s;
typedef struct { const uint32_t *at; size_t length; } isr_u32s;

#define ISR_TEXT(literal) ((isr_text){ literal, sizeof literal - 1 })

/* What the judge is: the name that a config gives as `type`, a sentence or more of help, a JSON schema of its
 * settings (empty: none), and an example of its section in TOML. */
typedef struct { isr_text name, help, schema, example; } isr_manifest;

typedef struct { isr_text video; uint32_t width, height; isr_f64s timestamps; } isr_scene;
typedef struct { uint32_t iteration; isr_text text; } isr_context;

/* An answer of the policy, with the natural-log probability of each token. */
typedef struct { isr_text text; isr_u32s token_ids; isr_f32s logprobs; uint8_t was_cut; } isr_response;

typedef struct {
    isr_scene scene;
    isr_text instruction;
    uint8_t has_context;
    isr_context context;
    isr_response first, second;
    uint64_t seed;
} isr_judge_case;

/* One look at the answers, and the probability that `first` is better. */
typedef struct { uint8_t first_shown_first; double p_first; } isr_vote;
typedef struct { double p_first; struct { const isr_vote *at; size_t length; } votes; uint8_t consistent; } isr_verdict;

/* Whose fault an error is: this case's (its sample is quarantined), or the plugin's (the run stops). */
typedef enum { ISR_BAD_INPUT, ISR_FAILED } isr_fault;

/* A verdict, or an error. */
typedef struct {
    uint8_t is_error;
    union { isr_verdict verdict; struct { uint8_t fault; isr_text message; } error; };
} isr_outcome;

/* To be defined by the plugin. isr_configure gets the settings as a JSON object, and returns an empty text or
 * what is wrong with them. */
isr_manifest isr_describe(void);
isr_text isr_configure(isr_text settings);
isr_outcome isr_judge(const isr_judge_case *judge_case);

static inline isr_outcome isr_p_first(double p) {
    return (isr_outcome){ .verdict = { .p_first = p, .consistent = true } };
}

static inline isr_outcome isr_error(isr_fault fault, isr_text message) {
    return (isr_outcome){ .is_error = true, .error = { fault, message } };
}

/* What the host does. Levels: 0 error, 1 warning, 2 information, 3 debugging. */
__attribute__((import_module("isr:plugin/host@0.1.0"), import_name("log")))
void isr_log_raw(int32_t level, const char *at, size_t length);

static inline void isr_log(int level, isr_text line) { isr_log_raw(level, line.at, line.length); }

/* Memory of this instance, aligned to 16 bytes; traps where the config's limit is reached. */
static inline void *isr_alloc(size_t size) {
    extern unsigned char __heap_base;
    static uintptr_t top;
    if (top == 0) top = (uintptr_t)&__heap_base;
    uintptr_t start = (top + 15) & ~(uintptr_t)15;
    if (size > UINT32_MAX - start) __builtin_trap();
    top = start + size;
    size_t pages = (top + 65535) / 65536, have = __builtin_wasm_memory_size(0);
    if (pages > have && __builtin_wasm_memory_grow(0, pages - have) == SIZE_MAX) __builtin_trap();
    return (void *)start;
}

/* The number of a key in a flat JSON object, or `otherwise` where it is not there. */
static inline double isr_number(isr_text json, isr_text key, double otherwise) {
    for (size_t i = 0; i + key.length + 3 <= json.length; i++) {
        const char *at = json.at + i, *end = json.at + json.length;
        if (*at != '"' || at[key.length + 1] != '"' || at[key.length + 2] != ':') continue;
        if (__builtin_memcmp(at + 1, key.at, key.length) != 0) continue;
        at += key.length + 3;
        double sign = 1, value = 0, scale = 1;
        if (at < end && *at == '-') { sign = -1; at++; }
        for (; at < end && *at >= '0' && *at <= '9'; at++) value = 10 * value + (*at - '0');
        if (at < end && *at == '.')
            for (at++; at < end && *at >= '0' && *at <= '9'; at++) value += (*at - '0') * (scale /= 10);
        return sign * value;
    }
    return otherwise;
}

/* The canonical ABI's side of it. */
int memcmp(const void *a, const void *b, size_t length) {
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < length; i++)
        if (x[i] != y[i]) return x[i] - y[i];
    return 0;
}

__attribute__((export_name("cabi_realloc")))
void *isr_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)align;
    unsigned char *new = isr_alloc(size);
    const unsigned char *from = old;
    for (size_t i = 0; i < old_size && i < size; i++) new[i] = from[i];
    return new;
}

__attribute__((export_name("isr:plugin/plugin@0.1.0#describe")))
const isr_manifest *isr_export_describe(void) {
    static isr_manifest manifest;
    manifest = isr_describe();
    return &manifest;
}

__attribute__((export_name("isr:plugin/plugin@0.1.0#configure")))
const void *isr_export_configure(const char *at, size_t length) {
    static struct { uint8_t is_error; isr_text reason; } outcome;
    outcome.reason = isr_configure((isr_text){ at, length });
    outcome.is_error = outcome.reason.length != 0;
    return &outcome;
}

__attribute__((export_name("isr:plugin/judge@0.1.0#judge")))
const isr_outcome *isr_export_judge(const isr_judge_case *judge_case) {
    static isr_outcome outcome;
    outcome = isr_judge(judge_case);
    return &outcome;
}

#endif

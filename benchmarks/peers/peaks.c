// How fast all cores together compute with operands in registers: Gop/s, where a multiplication and an
// addition count as two, in the best of several runs. Types for which this machine has no instruction are
// left out.
#include <omp.h>
#include <stdio.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { RUNS = 15, SUMS = 12 };  // enough sums to hide the latency of a multiply-add on two ports
static const long STEPS = 20000000;

// Each step is one instruction that the compiler can neither drop nor merge with the next.
#if defined(__AVX512F__)
#define FLOAT_VECTOR __m512
#define FLOAT_STEP(sum) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(sum) : "v"(factor))
#elif defined(__FMA__)
#define FLOAT_VECTOR __m256
#define FLOAT_STEP(sum) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(factor))
#elif defined(__aarch64__)
typedef float neon __attribute__((vector_size(16)));
#define FLOAT_VECTOR neon
#define FLOAT_STEP(sum) __asm__ volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(sum) : "w"(factor))
#endif
#if defined(__AVX512BF16__)
#define BFLOAT_VECTOR __m512
#define BFLOAT_STEP(sum) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(sum) : "v"(factor))
#endif
#if defined(__AVX512VNNI__)
#define INT8_VECTOR __m512i
#define INT8_STEP(sum) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(factor))
#elif defined(__AVXVNNI__)
#define INT8_VECTOR __m256i
#define INT8_STEP(sum) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(sum) : "x"(factor))
#endif

// A function that makes STEPS steps on each of SUMS independent sums.
#define LOOP(name, vector, step)                               \
  static void name(void) {                                     \
    vector factor = {0}, sums[SUMS] = {{0}};                   \
    for (long i = 0; i < STEPS; i++) {                         \
      _Pragma("GCC unroll 12") for (int j = 0; j < SUMS; j++) step(sums[j]); \
    }                                                          \
  }

static double rate(void (*loop)(void), size_t operations) {
  double best = 0;
  for (int run = 0; run < RUNS; run++) {
    double start = omp_get_wtime();
#pragma omp parallel
    loop();
    double now = 1e-9 * omp_get_max_threads() * STEPS * SUMS * operations / (omp_get_wtime() - start);
    if (now > best) best = now;
  }
  return best;
}

#if defined(FLOAT_VECTOR)
LOOP(floats, FLOAT_VECTOR, FLOAT_STEP)
#endif
#if defined(BFLOAT_VECTOR)
LOOP(bfloats, BFLOAT_VECTOR, BFLOAT_STEP)
#endif
#if defined(INT8_VECTOR)
LOOP(bytes, INT8_VECTOR, INT8_STEP)
#endif

int main(void) {
  const char *separator = "";
  printf("{");
#if defined(FLOAT_VECTOR)
  printf("\"f32\": %.0f", rate(floats, sizeof(FLOAT_VECTOR) / 4 * 2));
  separator = ", ";
#endif
#if defined(BFLOAT_VECTOR)
  printf("%s\"bf16\": %.0f", separator, rate(bfloats, sizeof(BFLOAT_VECTOR) / 2 * 2));
#endif
#if defined(INT8_VECTOR)
  printf("%s\"int8\": %.0f", separator, rate(bytes, sizeof(INT8_VECTOR) * 2));
#endif
  printf("}\n");
  return 0;
}

// How fast all cores together read memory at this moment: GB/s, the median of several passes over 1 GiB.
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PASSES = 7, STREAMS = 8 };
static const size_t SIZE = (size_t)1 << 30;
static const size_t HUGE_PAGE = (size_t)2 << 20;

typedef int vector __attribute__((vector_size(64)));

// The exclusive or of a part of the memory: it takes less time than reading memory, and can't be left out.
static int fold(const vector *part, size_t count) {
  vector sums[STREAMS] = {0};
  for (size_t i = 0; i < count; i += STREAMS)
    for (int j = 0; j < STREAMS; j++) sums[j] ^= part[i + j];
  for (int j = 1; j < STREAMS; j++) sums[0] ^= sums[j];
  return sums[0][0] ^ sums[0][7] ^ sums[0][15];
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(void) {
  vector *memory = aligned_alloc(HUGE_PAGE, SIZE);
  if (!memory) return 1;
  madvise(memory, SIZE, MADV_HUGEPAGE);
  size_t part = SIZE / sizeof *memory / omp_get_max_threads() / STREAMS * STREAMS;
  volatile int result = 0;
  double rates[PASSES];
  for (int pass = -1; pass < PASSES; pass++) {  // in the first one, each core fills the pages that it will read
    double start = omp_get_wtime();
#pragma omp parallel
    {
      vector *mine = memory + part * omp_get_thread_num();
      if (pass < 0)
        for (size_t i = 0; i < part; i++) mine[i] = (vector){(int)i};
      else {
        int folded = fold(mine, part);
#pragma omp atomic
        result ^= folded;
      }
    }
    if (pass >= 0) rates[pass] = part * omp_get_max_threads() * sizeof *memory / (omp_get_wtime() - start) / 1e9;
  }
  qsort(rates, PASSES, sizeof *rates, by_size);
  printf("{\"gb_s\": %.2f}\n", rates[PASSES / 2]);
  return 0;
}

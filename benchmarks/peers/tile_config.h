/* Included before every source of llama.cpp. GCC 12 declares that loading a configuration of AMX tiles reads only
   eight of its 64 bytes, so it drops the stores to the others, and llama.cpp's products end with an illegal
   instruction. This declares that all bytes are read. */
#ifdef __AMX_TILE__
#include <immintrin.h>
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(config)))
#endif

# The instruction sets that the CPU kernels can be compiled for, and which of them this build compiles.
set(x86_levels baseline avx2 avx512 avx512_bf16 amx)
set(avx2 -mavx2 -mfma)
set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
# Compiler flags by name in kernels/cpu/isa.h.
set(SRGAN_FAST_FLAGS_kBaseline "")
set(SRGAN_FAST_FLAGS_kAvx2 ${avx2})
set(SRGAN_FAST_FLAGS_kAvx512 ${avx512})
set(SRGAN_FAST_FLAGS_kAvx512Bf16 ${avx512} -mavx512bf16)
set(SRGAN_FAST_FLAGS_kAmx ${avx512} -mavx512bf16 -mamx-tile -mamx-bf16)

# The levels that this machine runs, the lowest first; what the processor cannot be asked for is compiled.
function(find_native_levels result)
  set(program [[
#include <cstdio>
#include <cpuid.h>
int main() {
    __builtin_cpu_init();
    std::printf("baseline");
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    std::printf(";avx2");
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 0;
    std::printf(";avx512");
    if (!__builtin_cpu_supports("avx512bf16")) return 0;
    std::printf(";avx512_bf16");
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (1u << 22)) && (d & (1u << 24))) std::printf(";amx");
    return 0;
}
]])
  file(WRITE ${CMAKE_BINARY_DIR}/native_levels.cpp "${program}")
  try_run(ran compiled ${CMAKE_BINARY_DIR}/native ${CMAKE_BINARY_DIR}/native_levels.cpp RUN_OUTPUT_VARIABLE levels)
  if(NOT compiled OR NOT "${ran}" STREQUAL "0")
    message(WARNING "srgan_fast: cannot ask this processor what it runs; all instruction sets are compiled")
    set(levels ${x86_levels})
  endif()
  set(${result} ${levels} PARENT_SCOPE)
endfunction()

# What SRGAN_FAST_ISAS asks for, as a list, the lowest first.
function(find_levels result)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(${result} baseline PARENT_SCOPE)
    return()
  endif()
  string(REPLACE "," ";" asked "${SRGAN_FAST_ISAS}")
  if("${asked}" STREQUAL "all" OR ("${asked}" STREQUAL "native" AND CMAKE_CROSSCOMPILING))
    set(asked ${x86_levels})
  elseif("${asked}" STREQUAL "native")
    find_native_levels(asked)
    if(SRGAN_FAST_EMULATE_AMX AND "avx512_bf16" IN_LIST asked)
      list(APPEND asked amx)
    endif()
  endif()
  foreach(level ${asked})
    if(NOT level IN_LIST x86_levels)
      message(FATAL_ERROR
        "SRGAN_FAST_ISAS is '${SRGAN_FAST_ISAS}'; it may be all, native, or a list of ${x86_levels}")
    endif()
  endforeach()
  if("amx" IN_LIST asked AND NOT "avx512_bf16" IN_LIST asked)
    message(FATAL_ERROR "SRGAN_FAST_ISAS is '${SRGAN_FAST_ISAS}'; amx needs avx512_bf16 beside it")
  endif()
  set(levels "")
  foreach(level ${x86_levels})
    if(level IN_LIST asked)
      list(APPEND levels ${level})
    endif()
  endforeach()
  set(${result} ${levels} PARENT_SCOPE)
endfunction()

# A header that says to C++ which levels are compiled in.
function(write_levels_header path)
  set(isa_baseline kBaseline)
  set(isa_avx2 kAvx2)
  set(isa_avx512 kAvx512)
  set(isa_avx512_bf16 kAvx512Bf16)
  set(isa_amx kAmx)
  set(calls "")
  foreach(level ${ARGN})
    string(APPEND calls " X(${isa_${level}}, ${level})")
  endforeach()
  # Only where it changes, or everything would be compiled again.
  file(CONFIGURE OUTPUT ${path} CONTENT [[
// Written by CMake: X(its name in kernels/cpu/isa.h, its namespace) for each level that is compiled in, the lowest first.
#pragma once

#define SRGAN_FAST_FOR_EACH_LEVEL(X)@calls@
]] @ONLY)
endfunction()

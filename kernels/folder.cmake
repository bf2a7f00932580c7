# Per-ISA flags. Decoding must match the codec to the bit, so its units keep a product and a sum apart.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(kernels_tiers avx2 avx512)
  set(kernels_avx2_flags -mavx2 -mfma -mf16c)
  set(kernels_avx512_flags -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
                           -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's own avx512fintrin.h trips these (PR 105593).
    list(APPEND kernels_avx512_flags -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(kernels_tiers neon neon_dotprod neon_i8mm)
  set(kernels_neon_flags -march=armv8-a)
  set(kernels_neon_dotprod_flags -march=armv8.2-a+dotprod)
  set(kernels_neon_i8mm_flags -march=armv8.2-a+dotprod+i8mm)
endif()

get_target_property(kernels_sources kernels SOURCES)
list(FILTER kernels_sources EXCLUDE REGEX "/kernels/(avx|neon)[^/]*/")
foreach(tier ${kernels_tiers})
  file(GLOB tier_sources ${CMAKE_CURRENT_LIST_DIR}/${tier}/*.cc)
  list(APPEND kernels_sources ${tier_sources})
  set_source_files_properties(${tier_sources} PROPERTIES COMPILE_OPTIONS "${kernels_${tier}_flags}")
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/${tier}/decode.cc PROPERTIES COMPILE_OPTIONS
                              "${kernels_${tier}_flags};-ffp-contract=off")
endforeach()
set_target_properties(kernels PROPERTIES SOURCES "${kernels_sources}")

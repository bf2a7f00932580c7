# Per-ISA flags. Decoding must match the codec to the bit, so its units keep a product and a sum apart.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(kernels_avx2_flags -mavx2 -mfma -mf16c)
  set(kernels_avx512_flags -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
                           -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's own avx512fintrin.h trips these (PR 105593).
    list(APPEND kernels_avx512_flags -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  foreach(isa avx2 avx512)
    file(GLOB isa_sources ${CMAKE_CURRENT_LIST_DIR}/${isa}/*.cc)
    set_source_files_properties(${isa_sources} PROPERTIES COMPILE_OPTIONS "${kernels_${isa}_flags}")
    set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/${isa}/decode.cc PROPERTIES COMPILE_OPTIONS
                                "${kernels_${isa}_flags};-ffp-contract=off")
  endforeach()
else()
  get_target_property(kernel_sources kernels SOURCES)
  list(FILTER kernel_sources EXCLUDE REGEX "/kernels/(avx2|avx512)/")
  set_target_properties(kernels PROPERTIES SOURCES "${kernel_sources}")
endif()

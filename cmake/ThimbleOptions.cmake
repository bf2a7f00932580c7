set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# No -ffast-math: results must not depend on the compiler's mood. Fused multiply-add is fine.
# GCC 12's -Wrestrict and -Wmaybe-uninitialized see ghosts in inlined std::string code (PR 105651, PR 105562).
add_compile_options(-Wall -Wextra -Werror -Wno-missing-field-initializers -ffp-contract=fast)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized)
endif()

set(THIMBLE_SANITIZE "" CACHE STRING "Sanitizers, comma separated (address,undefined or thread)")
if(THIMBLE_SANITIZE)
  add_compile_options(-fsanitize=${THIMBLE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${THIMBLE_SANITIZE})
endif()
option(THIMBLE_FUZZ "Build the libFuzzer targets (Clang)" OFF)
if(THIMBLE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

set(THIMBLE_TEST_PATIENCE 1 CACHE STRING "What the tests' time limits are multiplied by, e.g. under an emulator")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# Toolchain: arm64 Linux from another machine, with Debian's cross compiler, the libraries that tools/setup_arm64.sh
# unpacked, and qemu-user to run the tests.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(arm64_sysroot ${CMAKE_CURRENT_LIST_DIR}/../build/arm64-sysroot)
cmake_path(NORMAL_PATH arm64_sysroot)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH ${arm64_sysroot} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${arm64_sysroot}/usr/lib/aarch64-linux-gnu/pkgconfig:${arm64_sysroot}/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${arm64_sysroot})
# Headers that no target names (rapidcheck, tl::expected's; OpenSSL's own for the processor) are found here.
add_compile_options("SHELL:-isystem ${arm64_sysroot}/usr/include"
                    "SHELL:-isystem ${arm64_sysroot}/usr/include/aarch64-linux-gnu")

# The libraries outside the C library's folder are found by their RUNPATH.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

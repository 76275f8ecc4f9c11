# Cross-compiles for Windows and macOS with zig's clang, as PyPI's `ziglang` carries it, and runs Windows programs under
# wine where it is installed:
#   cmake -S . -B build-windows -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/zig.cmake -DSRGAN_FAST_TARGET=x86_64-windows-gnu \
#         -DSRGAN_FAST_PYTHON=OFF -DSRGAN_FAST_TESTS=ON
# Other targets: x86_64-macos and aarch64-macos, whose programs nothing here can run.
set(SRGAN_FAST_TARGET "" CACHE STRING "What to compile for, in zig's words: x86_64-windows-gnu, x86_64-macos, aarch64-macos")
find_program(SRGAN_FAST_ZIG NAMES zig python-zig REQUIRED)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SRGAN_FAST_TARGET SRGAN_FAST_ZIG)

if(NOT SRGAN_FAST_TARGET MATCHES "^(x86_64|aarch64)-(windows-gnu|macos)$")
  message(FATAL_ERROR "SRGAN_FAST_TARGET is '${SRGAN_FAST_TARGET}'; it may be x86_64-windows-gnu, x86_64-macos or aarch64-macos")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
if(CMAKE_MATCH_2 STREQUAL "macos")
  set(CMAKE_SYSTEM_NAME Darwin)
else()
  set(CMAKE_SYSTEM_NAME Windows)
  find_program(SRGAN_FAST_WINE NAMES wine wine64)
  if(SRGAN_FAST_WINE)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${SRGAN_FAST_WINE})
  endif()
endif()

# CMake calls tools by one word each, so zig's are scripts.
function(write_tool variable name)
  string(JOIN " " words ${ARGN})
  set(tool ${CMAKE_BINARY_DIR}/zig-tools/${name})
  if(NOT EXISTS ${tool})
    file(WRITE ${tool} "#!/bin/sh\nexec \"${SRGAN_FAST_ZIG}\" ${words} \"$@\"\n")
    file(CHMOD ${tool} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  endif()
  set(${variable} ${tool} PARENT_SCOPE)
endfunction()
write_tool(CMAKE_CXX_COMPILER c++ c++ -target ${SRGAN_FAST_TARGET})
write_tool(CMAKE_AR ar ar)
write_tool(CMAKE_RANLIB ranlib ranlib)
write_tool(CMAKE_RC_COMPILER rc rc)

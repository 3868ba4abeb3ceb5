# For the build of llama-cpp-python, not of Rudder (Makefile, LLAMA_CMAKE): CMAKE_PROJECT_INCLUDE names this file.
#
# llama.cpp's `common` library serves its command-line tools, and a third of the build is spent on it. The package turns
# it on in the cache and uses nothing of it; a plain variable of that name goes before the cache's (policy CMP0126).
set(LLAMA_BUILD_COMMON OFF)

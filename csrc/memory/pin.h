// Page-locks memory for a GPU through the CUDA runtime, found at run time: the core links no CUDA library.
#pragma once

#include <cstddef>
#include <string>

namespace rudder {

// True where [memory, memory + bytes) is now pinned and mapped; else false, with the reason in `refusal`.
bool pin(void* memory, std::size_t bytes, std::string& refusal);
void unpin(void* memory) noexcept;

}  // namespace rudder

// numpy arrays as spans: checked, never copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/types.h"

namespace arrays {

namespace py = pybind11;

// Ids of any integer dtype arrive as contiguous int64 (converted by pybind11 where they are not).
using Ids = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

inline std::span<const rudder::NodeId> ids(const Ids& array) {
  static_assert(sizeof(rudder::NodeId) == sizeof(std::int64_t));
  if (array.ndim() != 1) throw rudder::Error(rudder::ErrorCode::kConfig, "ids must have one dimension");
  return {reinterpret_cast<const rudder::NodeId*>(array.data()), static_cast<std::size_t>(array.size())};
}

inline py::array_t<std::int64_t> from(std::span<const std::int64_t> values) {
  return py::array_t<std::int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

// Rows as bytes: uint8 [rows, row_bytes], C-contiguous.
struct Rows {
  const std::byte* data;
  std::size_t count;
  std::size_t row_bytes;
};

inline void check_rows(const py::array& array, const char* what) {
  if (!array.dtype().is(py::dtype::of<std::uint8_t>()) || array.ndim() != 2 ||
      (array.flags() & py::array::c_style) == 0)
    throw rudder::Error(rudder::ErrorCode::kConfig,
                        std::string(what) + " must be a C-contiguous uint8 array of shape [rows, row_bytes]");
}

inline Rows rows(const py::array& array, const char* what) {
  check_rows(array, what);
  return {static_cast<const std::byte*>(array.data()), static_cast<std::size_t>(array.shape(0)),
          static_cast<std::size_t>(array.shape(1))};
}

inline std::span<std::byte> writable(py::array& array, const char* what) {
  check_rows(array, what);
  if (!array.writeable())
    throw rudder::Error(rudder::ErrorCode::kConfig, std::string(what) + " must be writeable");
  return {static_cast<std::byte*>(array.mutable_data()), static_cast<std::size_t>(array.nbytes())};
}

}  // namespace arrays

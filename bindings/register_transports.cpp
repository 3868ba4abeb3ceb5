#include <pybind11/stl.h>

#include <memory>

#include "arrays.h"
#include "open_ones.h"
#include "register.h"
#include "transport/callback.h"
#include "transport/loopback.h"
#include "transport/shm.h"

namespace py = pybind11;

namespace {

// A Python callable that may be dropped on any thread, also while the interpreter goes down.
std::shared_ptr<py::function> keep(py::function function) {
  return {new py::function(std::move(function)), [](py::function* kept) {
            if (Py_IsInitialized() == 0)
              return;  // leaked on purpose: there is no interpreter left to free it in
            const py::gil_scoped_acquire gil;
            delete kept;
          }};
}

rudder::Callback::Pull pull_through(py::function function) {
  return [kept = keep(std::move(function))](rudder::TableId table, std::span<const std::int64_t> parts,
                                            std::span<const std::int64_t> rows,
                                            const rudder::Callback::Deliver& deliver) {
    const py::gil_scoped_acquire gil;
    try {
      const py::object answer = (*kept)(table, arrays::from(parts), arrays::from(rows));
      if (!py::isinstance<py::array>(answer))
        throw rudder::Error(rudder::ErrorCode::kConfig, "the pull must return a numpy array");
      const auto array = py::cast<py::array>(answer);
      const arrays::Rows got = arrays::rows(array, "the pull's answer");
      const py::gil_scoped_release release;
      deliver({got.data, got.count * got.row_bytes});
    } catch (py::error_already_set& error) {
      // Its traceback lives in Python objects: keep the text, drop it while the GIL is held.
      throw rudder::Error(rudder::ErrorCode::kTransport, error.what());
    }
  };
}

}  // namespace

void register_transports(py::module_& m) {
  close_at_exit();
  using rudder::Transport;
  py::class_<Transport, std::shared_ptr<Transport>>(m, "Transport")
      .def_property_readonly("name", &Transport::name)
      .def(
          "place",
          [](const Transport& self, std::int32_t peer) {
            return self.place(static_cast<rudder::PartId>(peer));
          },
          py::arg("peer"))
      .def("close", &Transport::close, py::call_guard<py::gil_scoped_release>());

  py::class_<rudder::Loopback, Transport, std::shared_ptr<rudder::Loopback>>(m, "LoopbackTransport")
      .def(py::init<>())
      .def(
          "expose",
          [](rudder::Loopback& self, std::int32_t peer, rudder::TableId table, const py::array& rows) {
            const arrays::Rows view = arrays::rows(rows, "rows");
            self.expose(static_cast<rudder::PartId>(peer), table, view.data, view.count, view.row_bytes);
          },
          py::arg("peer"), py::arg("table"), py::arg("rows"), py::keep_alive<1, 4>())
      .def(
          "inject",
          [](rudder::Loopback& self, double delay_s, bool stall, std::string fail, std::size_t after) {
            self.inject({.delay = std::chrono::nanoseconds(static_cast<std::int64_t>(delay_s * 1e9)),
                         .stall = stall,
                         .fail = std::move(fail),
                         .after = after});
          },
          py::kw_only(), py::arg("delay_s") = 0.0, py::arg("stall") = false, py::arg("fail") = "",
          py::arg("after") = 0);

  py::class_<rudder::Shm, Transport, std::shared_ptr<rudder::Shm>>(m, "ShmTransport")
      .def(py::init<>())
      .def(
          "attach",
          [](rudder::Shm& self, std::int32_t peer, rudder::TableId table, const std::string& segment,
             std::size_t rows, std::size_t row_bytes, std::size_t offset) {
            self.attach(static_cast<rudder::PartId>(peer), table, segment, rows, row_bytes, offset);
          },
          py::arg("peer"), py::arg("table"), py::arg("segment"), py::arg("rows"), py::arg("row_bytes"),
          py::arg("offset") = 0, py::call_guard<py::gil_scoped_release>());

  py::class_<rudder::Callback, Transport, std::shared_ptr<rudder::Callback>>(m, "CallbackTransport")
      .def(py::init([](std::string name, py::function pull, std::vector<std::string> places) {
             return open_ones().remember(without_gil_at_the_end(std::make_unique<rudder::Callback>(
                 std::move(name), pull_through(std::move(pull)), std::move(places))));
           }),
           py::arg("name"), py::arg("pull"), py::arg("places") = std::vector<std::string>());
}

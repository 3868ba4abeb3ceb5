#include "arrays.h"
#include "common/prior.h"
#include "policy/policy.h"
#include "register.h"

#include <pybind11/stl.h>

namespace py = pybind11;

void register_prior(py::module_& m) {
  m.def("policy_names", &rudder::policy_names,
        "Names of the replacement policies, in the order of the documentation.");

  py::class_<rudder::Prior, std::shared_ptr<rudder::Prior>>(m, "Prior")
      .def_static(
          "from_worth",
          [](const py::array_t<float, py::array::c_style | py::array::forcecast>& worth) {
            if (worth.ndim() != 1)
              throw rudder::Error(rudder::ErrorCode::kConfig, "worth must have one dimension");
            const std::span<const float> view(worth.data(), static_cast<std::size_t>(worth.size()));
            const py::gil_scoped_release release;
            return std::const_pointer_cast<rudder::Prior>(rudder::Prior::from_worth(view));
          },
          py::arg("worth"))
      .def_property_readonly("worth", [](const rudder::Prior& prior) {
        return py::array_t<float>(static_cast<py::ssize_t>(prior.worth().size()), prior.worth().data());
      });
}

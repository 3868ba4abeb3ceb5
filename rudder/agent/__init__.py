"""Controllers: they read the evidence of an interval and write the next interval's plan.

`controller.py` is the contract, `evidence.py` what they know, `space.py` what they may choose, `prompt.py`
both as text for models, `lead.py` when one is asked that takes a while. `default.py` changes nothing,
`rule.py` adapts window and depth to measured stall.
Nothing here needs the compiled core.
"""

from rudder.agent.controller import Ahead, Controller, Report, Reporting, make_controller
from rudder.agent.default import DefaultController
from rudder.agent.evidence import Decision, Evidence
from rudder.agent.rule import RuleController
from rudder.agent.space import Space

__all__ = [
    "Ahead",
    "Controller",
    "Decision",
    "DefaultController",
    "Evidence",
    "Report",
    "Reporting",
    "RuleController",
    "Space",
    "make_controller",
]

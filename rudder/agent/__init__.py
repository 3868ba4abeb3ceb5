"""Controllers: they read an interval's metrics and write the next interval's plan.

`controller.py` is the contract, `default.py` changes nothing, `rule.py` adapts window and depth to measured
stall. A controller that asks a language model belongs beside them, as one more file over the same contract.
Nothing here needs the compiled core.
"""

from rudder.agent.controller import Controller, make_controller
from rudder.agent.default import DefaultController
from rudder.agent.rule import RuleController

__all__ = ["Controller", "DefaultController", "RuleController", "make_controller"]

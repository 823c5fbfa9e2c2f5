"""What keeps an engine, or one of its targets, from serving the wanted plan: chains of small pure checks.

Each check looks at one thing and says nothing or gives the verdict that goes, word for word, into the condition. The
order is the order in which a person would mend things; a test pins it.
"""

from enginewright_operator.policies.chain import first
from enginewright_operator.policies.engine import ENGINE_CHECKS
from enginewright_operator.policies.target import TARGET_CHECKS, TargetView

__all__ = ["ENGINE_CHECKS", "TARGET_CHECKS", "TargetView", "first"]

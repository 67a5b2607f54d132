"""
Prometheus rules, evaluated with numpy for all steps at once. Tests compare it with promtool.

    engine = Engine([Path("prometheus/rules/octopus.yml")], read(exporter.series()))
    engine.stretches()                        # when alerts fire, as verdict.stretches(promtool.run(...))
    engine.firing("OctopusRunFailedSpike")    # {(alert, labels): array of bool, one for each step}
    engine.series("project:octopus_up:max")   # {labels: array of float, NaN for a missing sample}
    engine.query("sum by (project) (...)")    # the same for any expression
"""

from benchmarks.alerts.engine.rules import Engine, RulesRefused, read
from benchmarks.alerts.engine.vectors import Bools, Floats, Ints, Labels

__all__ = ["Bools", "Engine", "Floats", "Ints", "Labels", "RulesRefused", "read"]

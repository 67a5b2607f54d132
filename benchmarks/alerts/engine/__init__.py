"""
The rules of Prometheus, evaluated with numpy over the whole time at once; tests hold it to promtool.

    engine = Engine([Path("prometheus/rules/octopus.yml")], read(exporter.series()))
    engine.stretches()                        # what fired, as verdict.stretches(promtool.run(...)) says
    engine.firing("OctopusRunFailedSpike")    # {(alert, labels): array of bool, one for each step}
    engine.series("project:octopus_up:max")   # {labels: array of float, NaN where there is no sample}
    engine.query("sum by (project) (...)")    # the same for any expression
"""

from benchmarks.alerts.engine.rules import Engine, RulesRefused, read
from benchmarks.alerts.engine.vectors import Bools, Floats, Ints, Labels

__all__ = ["Bools", "Engine", "Floats", "Ints", "Labels", "RulesRefused", "read"]

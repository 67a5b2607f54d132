"""How good the alerts are: the rules, run over simulated days by Prometheus' own rule engine."""

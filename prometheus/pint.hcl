// With pint 0.60: pint --offline --config prometheus/pint.hcl lint prometheus/rules
checks {
  disabled = [
    // The baselines are a group of their own, evaluated more rarely: what reads them can wait for two minutes.
    "rule/dependency",
    // `max without (day)` removes a label that the same expression has added: labels of the series never matter.
    "promql/fragile",
  ]
}

rule {
  match {
    kind = "alerting"
  }
  label "severity" {
    required = true
    severity = "bug"
    value    = "critical|warning|none"
  }
  annotation "summary" {
    required = true
    severity = "bug"
  }
  annotation "description" {
    required = true
    severity = "bug"
  }
  annotation "summary_zh" {
    required = true
    severity = "bug"
  }
  annotation "description_zh" {
    required = true
    severity = "bug"
  }
  annotation "runbook_url" {
    required = true
    severity = "bug"
    value    = ".+/Octopus[A-Za-z]+\\.md.*"
  }
  annotation "dashboard_url" {
    required = true
    severity = "bug"
    value    = ".*/d/octopus-.+"
  }
}

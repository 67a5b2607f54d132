"""Expressions, rules and series for which the benchmark's rule engine must agree with promtool."""

from __future__ import annotations

import numpy as np

from benchmarks.alerts.engine import Floats, Labels

STEPS = 80

EXPRESSIONS = """
c_total
g offset 3m
g offset 1m30s
{__name__=~"g|f", a="x"}
{a="x", b="1"}
g{a!="x"}
g{a!~"x|y"}
g{zz=""}
increase(c_total[10m])
increase(c_total[5m] offset 4m)
increase(c_total[4m30s] offset 45s)
rate(c_total[7m])
rate(c_total[30s])
irate(c_total[5m])
delta(g[10m])
idelta(g[10m])
deriv(g[10m])
predict_linear(g[10m], 600)
predict_linear(g[10m] offset 5m, 600)
changes(f[10m])
resets(f[10m])
avg_over_time(g[1m])
avg_over_time(g[10m])
avg_over_time(g[10m] offset 70m)
min_over_time(g[10m])
max_over_time(g[13m])
sum_over_time(g[10m])
sum_over_time(g[3m30s])
count_over_time(g[10m])
last_over_time(g[10m])
present_over_time(g[10m])
stddev_over_time(g[10m])
stdvar_over_time(f[15m])
quantile_over_time(0.3, g[10m])
quantile_over_time(1, g[10m])
quantile_over_time(-1, g[10m])
quantile_over_time(scalar(one{a="x"}), g[10m])
sum_over_time(g[20m:3m])
avg_over_time(g[20m:])
max_over_time(rate(c_total[5m])[15m:2m])
min_over_time(sum by (a) (g)[15m:4m] offset 5m)
count_over_time(vector(1)[10m:3m])
stddev_over_time((g or vector(0))[20m:5m] offset 7m)
increase(c_total[20m:2m])
last_over_time(g[20m:7m])
max_over_time(sum_over_time(g[5m:1m])[10m:2m])
absent(g)
absent(g{a="x", b="1"})
absent(g{a=~"x", b="1"})
absent(nothing{a="x", a="y", b!="3"})
absent(sum(g{a="x", b="1"}))
absent_over_time(g{a="x", b="1"}[3m])
sum(g)
sum by (a) (g)
sum without (a) (g)
avg by (b) (g)
min by (a) (g)
max by (a) (g / f)
count by (a) (g)
count by (zz) (g)
group by (a) (g)
stddev by (a) (g)
stdvar without (b) (g)
quantile by (a) (0.6, g)
quantile(1.5, g)
quantile(scalar(one{a="y"}), g)
topk(2, g + on (a, b) (0.0001 * c_total))
topk by (b) (1, g - on (a, b) (0.00013 * c_total))
bottomk(3, g ^ 2 + on (a, b) (0.0013 * c_total))
topk(0, g)
sum(f / f)
max(f / f)
min(f / f)
avg(f / f)
count(f / f)
g + g
g - on (a, b) f
g * ignoring (code) f
g / on (a) group_left () one
one / on (a) group_right () g
g % 2
g ^ 2
2 ^ g
-g
+g
f * on (a) group_left () one > 1
g > 0
g > bool 0
0 < g
0 < bool g
1 > bool 2
g == g
g != 1
g >= on (a, b) f
f <= bool ignoring (code) g
one < on (a) group_right () g
g > on (a) group_left () one
g + on (a) group_left () max by (a) (f)
max by (a) (f) - on (a) group_right (b) g
g * on (a, b) group_left (code) f
c_total + on (a, b) f
g + on (a) one
one + on () c_total
c_total and g
g and on (a) one > 1
g and on () vector(1)
g unless on (a) one > 1
g or c_total
g or on (a) one
one or g
g unless c_total
g unless ignoring (code) f
vector(3)
vector(time())
scalar(one{a="x"})
scalar(g)
time()
pi()
2 * 3 + 1
-2 ^ 2
2 ^ 3 ^ 2
abs(g)
sqrt(g)
ln(g)
log2(g)
log10(f)
exp(g)
ceil(g)
floor(g)
sgn(g)
deg(g)
rad(g)
sin(g)
cos(g)
tan(g)
round(g)
round(g, 0.3)
clamp(g, -1, 2)
clamp(g, 2, 1)
clamp_min(g, 0)
clamp_max(g, scalar(one{a="x"}))
label_replace(g, "c", "$1-$2", "a", "(x|y)(.*)")
label_replace(g, "c", "k${1}b", "b", "(.*)")
label_replace(g, "c", "$letter$$", "a", "(?P<letter>.*)")
label_replace(g, "a", "", "a", "x")
label_replace(g, "a", "same", "a", ".*")
label_replace(g, "d", "$9", "a", ".*")
label_join(g, "j", "/", "a", "b", "zz")
histogram_quantile(0.9, h_bucket)
histogram_quantile(0.5, rate(h_bucket[10m]))
histogram_quantile(2, h_bucket)
histogram_quantile(0.9, h_bucket{le!="+Inf"})
histogram_quantile(scalar(one{a="x"}), increase(h_bucket[3m]))
sort(g)
sort_desc(g)
timestamp(g)
timestamp(g offset 2m)
timestamp(g + 1)
minute()
hour()
day_of_week()
day_of_month(vector(1709210000))
days_in_month(vector(1709210000))
month(vector(1709210000))
year(vector(1709210000))
day_of_year(vector(1709210000))
hour(vector(time() * 1000))
minute(always * 100)
f * ln(f / (1 + 0.1 * f)) - f
sum without (code) (f) - on (b) group_left () sum by (b) (f) > 0
avg without (k) (label_replace(g, "k", "0", "", "") or label_replace(g offset 2m, "k", "1", "", ""))
sum by (a) (rate(c_total[5m])) / on (a) group_left () sum by (a) (rate(c_total[15m]))
""".strip().splitlines()

RULES = """
groups:
- name: first
  rules:
  - {record: late_sum, expr: sum by (a) (later)}
  - {record: late_avg, expr: 'avg_over_time(later[10m])'}
  - {record: late_increase, expr: 'increase(later[10m])'}
  - {record: late_offset, expr: 'sum_over_time(later[5m] offset 2m)'}
  - {record: late_and_sparse, expr: later_sparse + 0}
  - {record: late_in_own_group, expr: sum(own) - sum(own offset 1m)}
  - {record: own, expr: g * 2}
  - {record: mixed, expr: 'sum by (a) ({__name__=~"g|later"})'}
  - {record: late_subquery, expr: 'avg_over_time(later[15m:4m])'}
  - {record: late_subquery_each, expr: 'max_over_time(later_sparse[6m:1m])'}
  - {record: late_subquery_with_offset, expr: 'sum_over_time(later_sparse[15m:3m] offset 3m)'}
  - {record: late_subquery_of_windows, expr: 'max_over_time(sum by (a) (avg_over_time(later[3m]))[15m:5m])'}
  - {record: late_subquery_of_subquery, expr: 'max_over_time(min_over_time(later[6m:2m])[15m:3m])'}
  - {record: late_alerts, expr: 'count by (alertname, alertstate) (ALERTS)'}
- name: second
  rules:
  - {record: later, labels: {x: new, b: ''}, expr: max by (a) (g)}
  - {record: later_sparse, expr: g > 1}
  - {record: nans, expr: f / f}
  - {record: after_nans, expr: 'sum_over_time(nans[4m])'}
  - {record: nans_counted, expr: count by (a) (nans)}
  - {record: number, expr: 3}
  - {alert: Plain, expr: g > 2, labels: {severity: warning}}
  - {alert: Held, expr: g > 0, for: 3m}
  - {alert: Kept, expr: g > 1, keep_firing_for: 4m, labels: {severity: critical, b: ''}}
  - {alert: Both, expr: g > 0, for: 2m, keep_firing_for: 5m}
  - {alert: Both, expr: f > 1, for: 1m, keep_firing_for: 2m30s, labels: {which: two}}
  - {alert: Absent, expr: 'absent(g{a="x",b="1"})', for: 1m}
  - {alert: OfAlerts, expr: 'count(ALERTS{alertname=~"Held|Both",alertstate="firing"}) > 2'}
  - {alert: OfState, expr: 'time() - ALERTS_FOR_STATE{alertname="Both"} > 240'}
""".replace("g > 1, keep", "'max by (a) (g) > 1', keep")


def labels(name: str, **pairs: str) -> Labels:
    return tuple(sorted({"__name__": name, **pairs}.items()))


def drawn(seed: int) -> dict[Labels, Floats]:
    """Draw counters with resets, gauges and buckets. Most begin late, have gaps or end early."""
    rng = np.random.default_rng(seed)
    found: dict[Labels, Floats] = {}
    for a in "xyz":
        for b in "12":
            counter = np.cumsum(rng.poisson(rng.choice([0.05, 0.5, 3.0]), STEPS)).astype(float)
            if rng.random() < 0.4:
                at = int(rng.integers(5, STEPS))
                counter[at:] -= counter[at] - rng.integers(0, 2)
            found[labels("c_total", a=a, b=b)] = counter
            steady = rng.random() < 0.2
            numbers = np.round(rng.normal(0, 3, STEPS), int(rng.integers(0, 4)))
            found[labels("g", a=a, b=b)] = np.full(STEPS, 2.5) if steady else numbers
            found[labels("f", a=a, b=b, code=str(rng.integers(3)))] = rng.integers(0, 3, STEPS).astype(float)
        found[labels("one", a=a)] = np.round(rng.random(STEPS) * 4 - 1)
    for values in found.values():
        _spoil(rng, values)
    buckets = np.zeros(STEPS)
    for bound in ("0.5", "1", "5", "+Inf"):
        buckets = buckets + np.cumsum(rng.poisson(0.4, STEPS))
        found[labels("h_bucket", le=bound, a="x")] = buckets
    found[labels("always")] = np.arange(STEPS, dtype=float)
    return found


def _spoil(rng: np.random.Generator, values: Floats) -> None:
    fate = rng.random()
    if fate < 0.4:
        values[: rng.integers(1, STEPS // 2)] = np.nan
    elif fate < 0.5:
        values[rng.integers(STEPS // 2, STEPS) :] = np.nan
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(0, STEPS))
        values[at : at + rng.integers(1, 14)] = np.nan

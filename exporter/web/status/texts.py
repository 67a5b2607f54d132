# ruff: noqa: RUF001 - Chinese punctuation is intended
"""
All texts of the status page, in both languages.

A text may have places, such as `{n}`, which are the same in both languages. Names of the API and of the
configuration (statuses, job types, error codes, keys) are not translated: metrics and logs use them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    en: str
    zh: str


TEXTS: Mapping[str, Text] = {
    # The frame
    "skip": Text("Skip to the content", "跳到主要内容"),
    "pages": Text("Pages", "页面"),
    "page.metrics": Text("Metrics", "指标"),
    "page.json": Text("JSON", "JSON"),
    "page.ready": Text("Readiness", "就绪检查"),
    "page.healthy": Text("Health", "健康检查"),
    "language": Text("Language", "语言"),
    "as_of": Text("As of", "数据截至"),
    "running_for": Text("running for {span}", "已运行 {span}"),
    "shard": Text("shard {number}/{count}", "分片 {number}/{count}"),
    "live.on": Text("Refreshes by itself", "自动刷新中"),
    "live.paused": Text("Paused", "已暂停"),
    "live.lost": Text("No answer from the exporter since", "exporter 没有响应，始于"),
    "live.refused": Text("The exporter answers with an error:", "exporter 返回错误："),
    "live.pause": Text("Pause", "暂停"),
    "live.resume": Text("Resume", "继续"),
    "live.none": Text("Reload the page to refresh it.", "请刷新页面以获取最新数据。"),
    # Times and sizes
    "unit.d": Text("{n} d", "{n} 天"),
    "unit.h": Text("{n} h", "{n} 小时"),
    "unit.min": Text("{n} min", "{n} 分钟"),
    "unit.s": Text("{n} s", "{n} 秒"),
    "ago": Text("{span} ago", "{span}前"),
    "in": Text("in {span}", "{span}后"),
    "now": Text("just now", "刚刚"),
    "never": Text("never", "从未"),
    "unknown": Text("unknown", "未知"),
    "none": Text("none", "无"),
    "and_more": Text("and {n} more", "另有 {n} 个"),
    # The verdict
    "verdict.none": Text("There is no target.", "没有配置任何目标。"),
    "verdict.none.shard": Text("No target belongs to this shard", "没有目标属于本分片"),
    "verdict.failing": Text("{n} of {total} targets cannot be polled", "{total} 个目标中有 {n} 个轮询失败"),
    "verdict.failing.only": Text("The target cannot be polled", "目标轮询失败"),
    "verdict.late": Text("{n} of {total} targets are late", "{total} 个目标中有 {n} 个数据延迟"),
    "verdict.late.only": Text("The target is late", "目标数据延迟"),
    "verdict.waiting": Text(
        "{n} of {total} targets wait for their first poll", "{total} 个目标中有 {n} 个正在等待首次轮询"
    ),
    "verdict.waiting.only": Text("Waiting for the first poll", "正在等待首次轮询"),
    "verdict.syncing": Text(
        "Listing every job of {n} of {total} targets", "{total} 个目标中有 {n} 个正在全量同步作业"
    ),
    "verdict.syncing.only": Text("Listing every job", "正在全量同步作业"),
    "verdict.drifting": Text(
        "{n} of {total} targets differ from the API's totals", "{total} 个目标中有 {n} 个与 API 总数不一致"
    ),
    "verdict.drifting.only": Text("The target differs from the API's totals", "目标与 API 总数不一致"),
    "verdict.ok": Text("All targets are OK", "所有目标正常"),
    "verdict.ok.only": Text("The target is OK", "目标正常"),
    "verdict.polled": Text(
        "All targets are up to date, but failed runs cannot be read",
        "所有目标的数据均为最新，但无法读取失败的运行",
    ),
    "verdict.polled.only": Text(
        "The target is up to date, but failed runs cannot be read", "目标的数据为最新，但无法读取失败的运行"
    ),
    # The failed runs of the last hour, where they are many
    "spike": Text("{n} runs failed in the last hour", "最近 1 小时有 {n} 次运行失败"),
    "spike.of": Text(
        "{n} runs of {target} failed in the last hour", "最近 1 小时 {target} 有 {n} 次运行失败"
    ),
    "spike.some": Text(
        "{n} runs of {targets} targets failed in the last hour",
        "最近 1 小时 {targets} 个目标共有 {n} 次运行失败",
    ),
    "spike.all": Text(", all of them {type}", "，全部是 {type}"),
    "spike.most": Text(", {n} of them {type}", "，其中 {n} 次是 {type}"),
    "spike.second": Text(", {n} {type}", "，{n} 次是 {type}"),
    "spike.code": Text(" with {code}", "，错误码 {code}"),
    "spike.no_code": Text(" without a code", "，无错误码"),
    "spike.usual": Text(" (usually {usual} failures an hour)", "（平时每小时 {usual} 次）"),
    "spike.usual.one": Text(" (usually 1 failure an hour)", "（平时每小时 1 次）"),
    # How bad a headline is
    "severity.bad": Text("Critical", "严重"),
    "severity.warn": Text("Warning", "警告"),
    "severity.busy": Text("Working", "进行中"),
    "severity.good": Text("OK", "正常"),
    # The states of a target
    "state.stale": Text("Stale", "已过期"),
    "state.failing": Text("Failing", "轮询失败"),
    "state.late": Text("Late", "延迟"),
    "state.waiting": Text("Waiting", "等待中"),
    "state.syncing": Text("Catching up", "同步中"),
    "state.drifting": Text("Drifting", "有偏差"),
    "state.ok": Text("Up to date", "正常"),
    "means.stale": Text(
        "No poll has succeeded for longer than metrics.max_age: the gauges are not exported any more, the"
        " counters still are.",
        "轮询持续失败，已超过 metrics.max_age：不再导出 gauge 类指标，counter 类指标仍在导出。",
    ),
    "means.failing": Text(
        "The polls fail. What is shown and exported is from the last one that succeeded.",
        "轮询失败。页面和指标仍是最近一次成功轮询的结果。",
    ),
    "means.late": Text(
        "No poll has ended in time: the API answers slowly, or there is more to ask than an interval"
        " allows.",
        "轮询未能按时完成：API 响应缓慢，或者一个轮询间隔内查询不完。",
    ),
    "means.waiting": Text("No poll has ended since the exporter started.", "exporter 启动后尚未完成过轮询。"),
    "means.waiting.restored": Text(
        "No poll has ended since the exporter started; what is shown is from the ledger.",
        "exporter 启动后尚未完成过轮询；当前显示的是账本中的数据。",
    ),
    "means.syncing": Text(
        "Every job is being listed; the numbers follow when that is complete.",
        "正在全量列出作业，完成后才会更新数字。",
    ),
    "means.drifting": Text(
        "At the last two audits the API's totals were not the ledger's. If everything was listed anew since"
        " and this stays, the API counts other jobs than it lists.",
        "最近两次对账时，API 的总数都与账本不一致。如果之后全量同步过仍不一致，说明 API 的总数与它列出的作"
        "业不符。",
    ),
    # Why a poll fails
    "reason.auth": Text("The API does not accept the credentials", "API 不接受当前凭证"),
    "reason.permission": Text("The credentials lack a permission", "凭证缺少权限"),
    "reason.throttled": Text("The API throttles the requests", "请求被 API 限流"),
    "reason.unavailable": Text("The API is not available", "API 不可用"),
    "reason.timeout": Text("The API does not answer in time", "API 响应超时"),
    "reason.contract": Text("The API does not answer as documented", "API 的响应与文档不符"),
    "reason.ledger": Text("The ledger cannot be read or written", "账本无法读写"),
    "reason.internal": Text("The exporter has a fault", "exporter 自身出错"),
    "fault.http": Text("HTTP {status}", "HTTP {status}"),
    "fault.code": Text("code", "错误码"),
    "fault.request_id": Text("request", "请求 ID"),
    "since": Text("since {at}, for {span}", "始于 {at}，已持续 {span}"),
    # Problems
    "problems": Text("Problems", "问题"),
    "problem.reload": Text("The configuration was not reloaded", "配置重新加载失败"),
    "problem.reload.kept": Text("The one before stays in use.", "仍在使用之前的配置。"),
    "problem.set_apart": Text("Rows cannot be read", "部分行无法解析"),
    "problem.set_apart.means": Text(
        "These rows of the job list are set apart and not counted. A job that was known before stays as it"
        " was; all others are counted as usual.",
        "作业列表中的这些行已被单独搁置，不参与统计。此前已知的作业保持原状，其他作业照常统计。",
    ),
    "problem.expired": Text("Credentials have ended", "凭证已过期"),
    # The figures at the top
    "figures": Text("Figures", "概览"),
    "tile.targets": Text("Targets up to date", "数据最新的目标"),
    "tile.targets.other": Text("{state}: {n}", "{state}：{n}"),
    "tile.fresh": Text("Oldest data", "最旧的数据"),
    "tile.fresh.every": Text("polled every {interval}", "每 {interval}轮询一次"),
    "tile.in_flight": Text("Jobs in flight", "未结束的作业"),
    "tile.in_flight.oldest": Text("the oldest {span}", "最早的创建于 {span}前"),
    "tile.listed": Text("Jobs listed", "列表中的作业"),
    "tile.listed.lookback": Text("of the last {lookback}", "最近 {lookback}"),
    "tile.listed.all": Text("of all time", "不限时间"),
    "tile.failures": Text("Failed runs, last hour", "最近 1 小时失败"),
    "tile.failures.usual": Text("usually {usual} an hour", "平时每小时 {usual} 次"),
    "tile.failures.no_usual": Text("the usual number needs a day", "计数满一天后才有平时值"),
    "tile.requests": Text("Requests per poll", "每次轮询的请求数"),
    "tile.requests.took": Text("in {span} at most", "最长耗时 {span}"),
    "tile.drift": Text("Drift", "对账差异"),
    "tile.drift.audited": Text("audited {ago}", "{ago}对账"),
    "tile.expiry": Text("Credentials end", "凭证到期"),
    # Targets
    "targets": Text("Targets", "目标"),
    "target": Text("Target", "目标"),
    "all_targets": Text("All targets", "全部目标"),
    "target.alone": Text("This target alone", "只看该目标"),
    "column.state": Text("State", "状态"),
    "column.fresh": Text("Last success", "最近成功"),
    "column.in_flight": Text("In flight", "未结束"),
    "column.oldest": Text("Oldest in flight", "最早的未结束作业"),
    "column.failed": Text("Failed, last hour", "最近 1 小时失败"),
    "column.poll": Text("Last poll", "最近轮询"),
    "progress": Text("{rows} of {total} jobs listed", "已列出 {rows} / {total} 个作业"),
    "progress.unknown": Text("{rows} jobs listed", "已列出 {rows} 个作业"),
    "requests": Text("requests: {n}", "{n} 次请求"),
    "nothing_yet": Text(
        "Nothing has been polled yet. The jobs show here once the first poll is complete.",
        "尚未完成轮询。首次轮询完成后，这里会显示作业。",
    ),
    "numbers_from": Text(
        "The numbers below are from the last poll that succeeded", "以下数字来自最近一次成功的轮询"
    ),
    # One target
    "fact.last_success": Text("Last success", "最近成功"),
    "fact.last_poll": Text("Last poll ended", "最近轮询结束"),
    "fact.polling_since": Text("Poll under way since", "当前轮询开始于"),
    "fact.took": Text("Last poll took", "最近轮询耗时"),
    "fact.requests": Text("Requests", "请求数"),
    "fact.polls": Text("Polls", "轮询次数"),
    "fact.polls.of_them": Text("failed: {failed}, skipped: {skipped}", "失败 {failed}，跳过 {skipped}"),
    "fact.failures": Text("Failures by reason", "轮询失败的原因"),
    "fact.full_syncs": Text("Full syncs", "全量同步"),
    "full_sync.first": Text("first", "首次"),
    "full_sync.gap": Text("gap", "中断后"),
    "full_sync.scheduled": Text("scheduled", "定期"),
    "full_sync.drift": Text("drift", "对账差异"),
    "full_sync.filters": Text("filters", "过滤条件失效"),
    "fact.baseline": Text("Counting since", "开始计数"),
    "fact.baseline.all": Text("all history", "全部历史"),
    "fact.audit": Text("Last audit", "最近对账"),
    "fact.drift": Text("Drift (API less ledger)", "对账差异（API 减账本）"),
    "fact.filters": Text("Given up: the API does not honour", "已停用：API 不支持"),
    "fact.rests": Text("Requests rest (Retry-After)", "暂停请求（Retry-After）"),
    "fact.rests.until": Text("until {at}, for {span} more", "到 {at} 为止，还剩 {span}"),
    "fact.rests.over": Text("over, one request is tried first", "已到期，先发一个请求试探"),
    "fact.page_size": Text("Rows per request", "每次请求的行数"),
    "fact.page_size.most": Text("{n} at most: the API refuses more", "最多 {n} 行：更多会被 API 拒绝"),
    "fact.not_listed": Text("API's total", "API 总数"),
    "fact.not_listed.rows": Text(
        "the API's total counts {n} rows that it does not list", "API 总数比它列出的多 {n} 行"
    ),
    "fact.swaps": Text("Changes that leave all totals as they were", "不改变任何总数的变化"),
    "fact.swaps.within": Text("are seen within {span}", "在 {span}内发现"),
    "fact.held": Text("New series at 0 on /metrics", "/metrics 上暂时为 0 的新序列"),
    "fact.set_apart": Text("Rows that cannot be read", "无法解析的行"),
    "fact.skew": Text("Server's clock", "服务端时钟"),
    "fact.skew.ahead": Text("{span} ahead of ours", "比本机快 {span}"),
    "fact.skew.behind": Text("{span} behind ours", "比本机慢 {span}"),
    "fact.skew.none": Text("as ours", "与本机一致"),
    "fact.project_id": Text("Project id", "项目 ID"),
    "fact.region": Text("Region", "区域"),
    "fact.endpoint": Text("Endpoint", "终端节点"),
    "fact.credentials": Text("Credentials", "凭证"),
    "set_apart.rows": Text("unreadable rows: {n}", "{n} 行无法解析"),
    "set_apart.no_id": Text("no id", "无 ID"),
    "column.created": Text("Created", "创建时间"),
    "column.problem": Text("What is wrong", "问题"),
    # Jobs
    "in_flight": Text("In flight", "未结束的作业"),
    "in_flight.all": Text("In flight, all targets", "未结束的作业（全部目标）"),
    "column.status": Text("Status", "状态"),
    "column.jobs": Text("Jobs", "作业数"),
    "column.oldest_created": Text("Oldest, by creation", "最早创建"),
    "column.oldest_started": Text("Oldest, by start", "最早启动"),
    "jobs": Text("Jobs by type and status", "作业数（按类型和状态）"),
    "jobs.all": Text("Jobs by type and status, all targets", "作业数（按类型和状态，全部目标）"),
    "jobs.in_flight": Text("in flight", "未结束"),
    "jobs.failed": Text("failed", "失败"),
    "jobs.ended": Text("ended", "已结束"),
    "jobs.total": Text("Total", "合计"),
    "jobs.none": Text("No jobs are listed.", "列表中没有作业。"),
    # Resources
    "column.resources": Text("Resources in use", "使用中的资源"),
    "resources": Text("Resources of the jobs in flight", "未结束作业申请的资源"),
    "resources.all": Text(
        "Resources of the jobs in flight, all targets", "未结束作业申请的资源（全部目标）"
    ),
    "resources.in_use": Text("in use", "使用中"),
    "resources.waiting": Text("waiting", "等待中"),
    "resources.cell.waiting": Text("waiting: {what}", "等待中：{what}"),
    "resources.jobs": Text("jobs", "作业"),
    "resources.gpus": Text("GPUs", "GPU"),
    "resources.cores": Text("cores", "核"),
    "resources.memory": Text("GiB", "GiB"),
    "resources.n_gpus": Text("{n}\N{NO-BREAK SPACE}GPUs", "{n}\N{NO-BREAK SPACE}GPU"),
    "resources.n_gpus.one": Text("1\N{NO-BREAK SPACE}GPU", "1\N{NO-BREAK SPACE}GPU"),
    "resources.n_cores": Text("{n}\N{NO-BREAK SPACE}cores", "{n}\N{NO-BREAK SPACE}核"),
    "resources.n_cores.one": Text("1\N{NO-BREAK SPACE}core", "1\N{NO-BREAK SPACE}核"),
    "resources.none": Text("No job is in flight.", "没有未结束的作业。"),
    "resources.left_out": Text(
        "{n} jobs are not in the sums of GPUs, cores and memory: their spec is missing, cannot be read, or is"
        " counted as “other”.",
        "{n} 个作业未计入 GPU、核和内存的合计：它们没有资源规格、资源规格无法解析，或者归入了“other”。",
    ),
    "resources.left_out.one": Text(
        "1 job is not in the sums of GPUs, cores and memory: its spec is missing, cannot be read, or is"
        " counted as “other”.",
        "1 个作业未计入 GPU、核和内存的合计：它没有资源规格、资源规格无法解析，或者归入了“other”。",
    ),
    "resources.unreadable": Text(
        "Specs that could not be read so far. Runs with them add nothing to the resource seconds:",
        "至今无法解析的资源规格，使用它们的运行不计入核、GPU 和内存的累计时间：",
    ),
    "column.spec": Text("Resource spec", "资源规格"),
    "spec.missing": Text("no spec", "无资源规格"),
    "spec.unreadable": Text("cannot be read", "无法解析"),
    "spec.other": Text("all further specs", "其余的资源规格"),
    # Failures
    "failures": Text("Failures", "失败的运行"),
    "failures.period": Text("Period", "时间范围"),
    "failures.hour": Text("Last hour", "最近 1 小时"),
    "failures.day": Text("Last 24 hours", "最近 24 小时"),
    "failures.all": Text("All that are kept", "全部保留的"),
    "failures.span": Text("Last {span}", "最近 {span}"),
    "failures.since": Text("Since {at}", "从 {at} 起"),
    "failures.none": Text("No run has failed in this period.", "该时间范围内没有失败的运行。"),
    "failures.none.filtered": Text("No failed run matches these filters.", "没有符合筛选条件的失败运行。"),
    "failures.unread": Text(
        "Failed runs cannot be read from the ledger. The rest of this page is not affected.",
        "无法从账本读取失败的运行，页面其他内容不受影响。",
    ),
    "failures.busy": Text(
        "Failed runs are not shown: too many readers at the moment. The next refresh tries again.",
        "暂不显示失败的运行：同时读取的请求过多，下次刷新时会重试。",
    ),
    "failures.count": Text("{n} failed runs", "{n} 次失败"),
    "failures.count.one": Text("1 failed run", "1 次失败"),
    "failures.rest": Text("and {groups} more groups with {n} failed runs", "另有 {groups} 组，共 {n} 次失败"),
    "failures.rest.one": Text("and 1 more group with {n} failed runs", "另有 1 组，共 {n} 次失败"),
    "failures.times": Text("first {first}, last {last} ({ago})", "首次 {first}，最近 {last}（{ago}）"),
    "failures.ids": Text("Job ids: {n}", "作业 ID（{n} 个）"),
    "failures.ids.more": Text("These are the newest. All of them as", "以上是最近的一部分，全部导出："),
    "failures.export": Text("All of these as", "全部导出："),
    "failures.messages": Text("{n} messages that differ, such as:", "{n} 条不同的错误信息，例如："),
    "failures.no_message": Text("no message", "无错误信息"),
    "failures.filters": Text("Filters", "筛选条件"),
    "failures.only": Text("Show only {what}", "只看 {what}"),
    "failures.without": Text("Remove the filter {what}", "移除筛选条件 {what}"),
    "failures.clear": Text("Remove all", "全部移除"),
    "held": Text(
        "Prometheus and Grafana may not show all of these runs yet: {n} new series are at 0 on /metrics"
        " until metrics.new_series_hold is over.",
        "Prometheus 和 Grafana 可能还未显示全部失败：/metrics 上有 {n} 个新序列暂时为 0，直到"
        " metrics.new_series_hold 结束。",
    ),
    "held.one": Text(
        "Prometheus and Grafana may not show all of these runs yet: 1 new series is at 0 on /metrics until"
        " metrics.new_series_hold is over.",
        "Prometheus 和 Grafana 可能还未显示全部失败：/metrics 上有 1 个新序列暂时为 0，直到"
        " metrics.new_series_hold 结束。",
    ),
    "failures.when": Text("When are there too many?", "怎样算失败过多？"),
    "failures.help": Text(
        "It is a warning when more runs failed in the last hour than usual + 3 × √usual + 5, and critical"
        " at more than three times that number. Usual is the mean per hour of the last 7 days. Before a"
        " target has one day of them, a tenth of the runs that ended lately stands for it.",
        "最近 1 小时的失败次数超过“平时值 + 3 × √平时值 + 5”时为警告，超过该值的 3 倍时为严重。平时值是最近"
        " 7 天每小时的平均失败次数；目标的计数不满一天时，以近期结束的运行的十分之一代替。",
    ),
    "filter.project": Text("project", "项目"),
    "filter.workspace": Text("workspace", "工作空间"),
    "filter.job_type": Text("type", "类型"),
    "filter.status": Text("status", "状态"),
    "filter.msg_code": Text("code", "错误码"),
    "filter.job_id": Text("job", "作业"),
    "failures.by_code": Text("Failed runs counted, by code", "累计失败次数（按错误码）"),
    "no_code": Text("no code", "无错误码"),
    "column.job": Text("Job", "作业"),
    "column.type": Text("Type", "类型"),
    # The exporter itself
    "exporter": Text("Exporter", "Exporter"),
    "fact.version": Text("Version", "版本"),
    "fact.started": Text("Started", "启动时间"),
    "fact.shard": Text("Shard", "分片"),
    "fact.shard.targets": Text("{n} of {total} targets", "{total} 个目标中的 {n} 个"),
    "replica": Text("replica {name}", "副本 {name}"),
    "replicas": Text("Replicas", "副本"),
    "replicas.alive": Text("Alive", "在运行"),
    "replicas.this": Text("this one", "本副本"),
    "replicas.seen": Text("Seen", "查看时间"),
    "replicas.away": Text(
        "The shared ledger cannot be read since {at}, for {span}: what others poll may have changed.",
        "自 {at} 起无法读取共用的账本，已持续 {span}：其他副本轮询的目标可能已有变化。",
    ),
    "replicas.takeovers": Text("Last takeovers", "最近的接管"),
    "replicas.takeovers.none": Text("No target has changed hands yet.", "还没有目标换过副本。"),
    "column.replica": Text("Replica", "副本"),
    "column.targets": Text("Targets", "目标数"),
    "column.when": Text("When", "时间"),
    "column.from": Text("From", "原副本"),
    "column.to": Text("To", "新副本"),
    "takeover.given_back": Text("given back", "主动交还"),
    "fact.polled_by": Text("Polled by", "由谁轮询"),
    "fact.polled_by.nobody": Text("no replica", "没有副本"),
    "fact.polled_since": Text("since {at}, lease until {until}", "始于 {at}，租约到 {until}"),
    "fact.unpolled_since": Text("lease ended {at}", "租约已于 {at} 结束"),
    "fact.ready": Text("Ready", "就绪"),
    "fact.ready.yes": Text("yes", "是"),
    "fact.ready.no": Text("no: {n} not published yet", "否：{n} 个目标尚未发布"),
    "fact.config_read": Text("Configuration read", "配置读取时间"),
    "fact.log_dropped": Text("Log lines dropped", "丢弃的日志行数"),
    "fact.events_pending": Text("Events that wait", "等待写出的事件"),
    "fact.events_dropped": Text("Events dropped", "丢弃的事件"),
    "fact.ledger": Text("Ledger", "账本"),
    "fact.ledger.schema": Text("schema {version}", "结构版本 {version}"),
    "ledger.sqlite": Text("SQLite", "SQLite"),
    "ledger.memory": Text("in memory, lost with the process", "内存，进程退出即丢失"),
    "ledger.postgresql": Text("PostgreSQL", "PostgreSQL"),
    "column.name": Text("Name", "名称"),
    "column.kind": Text("Kind", "类型"),
    "column.expires": Text("Token or key ends", "token 或密钥到期"),
    "configuration": Text("Configuration in use", "当前生效的配置"),
    "configuration.masked": Text("secrets are masked", "敏感信息已隐藏"),
}  # fmt: skip

# Shown beside the API's own words on the Chinese page.
TRANSLATIONS_ZH: Mapping[str, str] = {
    "QUEUING": "排队中",
    "LAUNCHING": "启动中",
    "RUNNING": "运行中",
    "UPLOADING": "上传中",
    "FINISHED": "已完成",
    "STOPPED": "已停止",
    "SUBMIT_FAILED": "提交失败",
    "RUN_FAILED": "运行失败",
    "UPLOAD_FAILED": "上传失败",
    "PACKAGE_IMPORT": "数据包导入",
    "PACKAGE_DELETE": "数据包删除",
    "SCENARIO_AUTO_MINING": "场景自动挖掘",
    "SCENARIO_TO_SIM": "场景转仿真",
    "FRAME_EXTRACT": "抽帧",
    "SCENARIO_EXTRACT": "场景提取",
}

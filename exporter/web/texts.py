# ruff: noqa: RUF001 - Chinese has punctuation of its own
"""
Every word the status page says, in both languages.

A text may have places, `{n}`, which are the same in both. What the API and the configuration name (statuses,
job types, error codes, keys) stays as it is: that is what metrics and logs say too.
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
    "skip": Text("Skip to the content", "跳到正文"),
    "pages": Text("Pages", "页面"),
    "page.metrics": Text("Metrics", "指标"),
    "page.json": Text("JSON", "JSON"),
    "page.ready": Text("Readiness", "就绪检查"),
    "page.healthy": Text("Health", "健康检查"),
    "language": Text("Language", "语言"),
    "as_of": Text("As of", "截至"),
    "running_for": Text("running for {span}", "已运行 {span}"),
    "live.on": Text("Refreshes by itself", "自动刷新"),
    "live.paused": Text("Paused", "已暂停"),
    "live.lost": Text("No answer from the exporter since", "exporter 无应答，自"),
    "live.refused": Text("The exporter answers with an error:", "exporter 返回错误："),
    "live.pause": Text("Pause", "暂停"),
    "live.resume": Text("Resume", "继续"),
    "live.none": Text("Reload the page to refresh it.", "重新加载页面即可刷新。"),
    # Times and sizes
    "unit.d": Text("{n} d", "{n} 天"),
    "unit.h": Text("{n} h", "{n} 小时"),
    "unit.min": Text("{n} min", "{n} 分"),
    "unit.s": Text("{n} s", "{n} 秒"),
    "ago": Text("{span} ago", "{span}前"),
    "in": Text("in {span}", "{span}后"),
    "now": Text("just now", "刚刚"),
    "never": Text("never", "从未"),
    "unknown": Text("unknown", "未知"),
    "none": Text("none", "无"),
    "and_more": Text("and {n} more", "另有 {n} 个"),
    # The verdict
    "verdict.none": Text("There is no target.", "没有目标。"),
    "verdict.failing": Text("{n} of {total} targets cannot be polled", "{total} 个目标中有 {n} 个无法轮询"),
    "verdict.failing.only": Text("The target cannot be polled", "目标无法轮询"),
    "verdict.late": Text("{n} of {total} targets are late", "{total} 个目标中有 {n} 个数据迟到"),
    "verdict.late.only": Text("The target is late", "目标的数据迟到"),
    "verdict.waiting": Text(
        "{n} of {total} targets wait for their first poll", "{total} 个目标中有 {n} 个正在等待首次轮询"
    ),
    "verdict.waiting.only": Text("Waiting for the first poll", "正在等待首次轮询"),
    "verdict.syncing": Text(
        "Listing every job of {n} of {total} targets", "正在全量列出 {total} 个目标中 {n} 个的作业"
    ),
    "verdict.syncing.only": Text("Listing every job", "正在全量列出作业"),
    "verdict.drifting": Text(
        "{n} of {total} targets differ from the API's totals", "{total} 个目标中有 {n} 个与 API 的总数不符"
    ),
    "verdict.drifting.only": Text("The target differs from the API's totals", "目标与 API 的总数不符"),
    "verdict.ok": Text("All {total} targets are up to date", "全部 {total} 个目标数据均为最新"),
    "verdict.ok.only": Text("The target is up to date", "目标数据为最新"),
    # The states of a target
    "state.stale": Text("Stale", "已失效"),
    "state.failing": Text("Failing", "失败"),
    "state.late": Text("Late", "迟到"),
    "state.waiting": Text("Waiting", "等待中"),
    "state.syncing": Text("Catching up", "追赶中"),
    "state.drifting": Text("Drifting", "有偏差"),
    "state.ok": Text("Up to date", "正常"),
    "means.stale": Text(
        "No poll has succeeded for longer than metrics.max_age: the gauges are not exported any more, the"
        " counters still are.",
        "超过 metrics.max_age 没有成功的轮询：gauge 类指标已不再导出，counter 仍在导出。",
    ),
    "means.failing": Text(
        "The polls fail. What is shown and exported is from the last one that succeeded.",
        "轮询失败。所显示和导出的是最近一次成功轮询的结果。",
    ),
    "means.late": Text(
        "No poll has ended in time: the API answers slowly, or there is more to ask than an interval allows.",
        "没有轮询按时结束：API 应答缓慢，或需要查询的内容超出一个轮询间隔所能完成的量。",
    ),
    "means.waiting": Text(
        "No poll has ended since the exporter started.", "exporter 启动以来还没有完成过轮询。"
    ),
    "means.waiting.restored": Text(
        "No poll has ended since the exporter started; what is shown is from the ledger.",
        "exporter 启动以来还没有完成过轮询；所显示的来自账本。",
    ),
    "means.syncing": Text(
        "Every job is being listed; the numbers follow when that is complete.",
        "正在全量列出作业，完成后数字才会更新。",
    ),
    "means.drifting": Text(
        "At the last two audits the API's totals were not the ledger's. If everything was listed anew since"
        " and this stays, the API counts other jobs than it lists.",
        "最近两次对账时，API 的总数与账本都不一致。如果重新全量列出后差异仍在，说明 API 的总数与其列表不符。",
    ),
    # Why a poll fails
    "reason.auth": Text("The API does not accept the credentials", "API 不接受所用的凭证"),
    "reason.permission": Text("The credentials lack a permission", "凭证缺少权限"),
    "reason.throttled": Text("The API throttles the requests", "API 限制了请求速率"),
    "reason.unavailable": Text("The API is not available", "API 不可用"),
    "reason.timeout": Text("The API does not answer in time", "API 没有及时应答"),
    "reason.contract": Text("The API does not answer as documented", "API 的应答与文档不符"),
    "reason.ledger": Text("The ledger cannot be read or written", "账本无法读写"),
    "reason.internal": Text("The exporter has a fault", "导出器自身出错"),
    "fault.http": Text("HTTP {status}", "HTTP {status}"),
    "fault.code": Text("code", "错误码"),
    "fault.request_id": Text("request", "请求"),
    "since": Text("since {at}, for {span}", "自 {at} 起，已 {span}"),
    # Problems
    "problems": Text("Problems", "问题"),
    "problem.reload": Text("The configuration was not reloaded", "配置未能重新加载"),
    "problem.reload.kept": Text("The one before stays in use.", "仍使用此前的配置。"),
    "problem.set_apart": Text("Rows cannot be read", "有无法解析的行"),
    "problem.set_apart.means": Text(
        "These rows of the job list are set apart and not counted. A job that was known before stays as it"
        " was; all others are counted as usual.",
        "作业列表中的这些行已被单独搁置，不计入统计。此前已知的作业保持原状，其他作业照常统计。",
    ),
    "problem.expired": Text("Credentials have ended", "凭证已过期"),
    # The figures at the top
    "tile.targets": Text("Targets up to date", "数据最新的目标"),
    "tile.targets.other": Text("{state}: {n}", "{state}：{n}"),
    "tile.fresh": Text("Oldest data", "最旧的数据"),
    "tile.fresh.every": Text("polled every {interval}", "每 {interval} 轮询一次"),
    "tile.in_flight": Text("Jobs in flight", "未结束的作业"),
    "tile.in_flight.oldest": Text("the oldest {span}", "最早的已 {span}"),
    "tile.listed": Text("Jobs listed", "列出的作业"),
    "tile.listed.lookback": Text("of the last {lookback}", "最近 {lookback}"),
    "tile.listed.all": Text("of all time", "全部时间"),
    "tile.failures": Text("Last failed job", "最近失败的作业"),
    "tile.failures.counted": Text("failed runs counted: {n}", "已计失败次数：{n}"),
    "tile.requests": Text("Requests per poll", "每次轮询的请求数"),
    "tile.requests.took": Text("in {span} at most", "最长 {span}"),
    "tile.drift": Text("Drift", "偏差"),
    "tile.drift.audited": Text("audited {ago}", "{ago}对账"),
    "tile.expiry": Text("Credentials end", "凭证到期"),
    # Targets
    "targets": Text("Targets", "目标"),
    "target": Text("Target", "目标"),
    "all_targets": Text("All targets", "全部目标"),
    "target.alone": Text("This target alone", "只看此目标"),
    "column.state": Text("State", "状态"),
    "column.fresh": Text("Last success", "最近成功"),
    "column.in_flight": Text("In flight", "未结束"),
    "column.oldest": Text("Oldest in flight", "最早的未结束作业"),
    "column.failed": Text("Last failed job", "最近失败的作业"),
    "column.poll": Text("Last poll", "最近轮询"),
    "progress": Text("{rows} of {total} jobs listed", "已列出 {rows} / {total} 个作业"),
    "progress.unknown": Text("{rows} jobs listed", "已列出 {rows} 个作业"),
    "requests": Text("requests: {n}", "请求：{n}"),
    "nothing_yet": Text(
        "Nothing has been polled yet. The jobs show here once the first poll is complete.",
        "还没有完成轮询。首次轮询完成后，作业会显示在这里。",
    ),
    "numbers_from": Text(
        "The numbers below are from the last poll that succeeded", "以下数字来自最近一次成功的轮询"
    ),
    # One target
    "fact.last_success": Text("Last success", "最近成功"),
    "fact.last_poll": Text("Last poll ended", "最近轮询结束"),
    "fact.polling_since": Text("Poll under way since", "轮询进行中，始于"),
    "fact.took": Text("Last poll took", "最近轮询耗时"),
    "fact.requests": Text("Requests", "请求"),
    "fact.polls": Text("Polls", "轮询次数"),
    "fact.polls.of_them": Text("failed: {failed}, skipped: {skipped}", "失败 {failed}，跳过 {skipped}"),
    "fact.failures": Text("Failures by reason", "失败原因"),
    "fact.full_syncs": Text("Full syncs", "全量同步"),
    "fact.baseline": Text("Counting since", "计数始于"),
    "fact.baseline.all": Text("all history", "全部历史"),
    "fact.audit": Text("Last audit", "最近对账"),
    "fact.drift": Text("Drift (API less ledger)", "偏差（API 减账本）"),
    "fact.filters": Text("Given up: the API does not honour", "已放弃：API 不支持"),
    "fact.rests": Text("Requests rest (Retry-After)", "暂停请求（Retry-After）"),
    "fact.rests.until": Text("until {at}, for {span} more", "直到 {at}，还剩 {span}"),
    "fact.rests.over": Text("over, one request is tried first", "已到期，先用一个请求试探"),
    "fact.page_size": Text("Rows per request", "每次请求的行数"),
    "fact.page_size.most": Text("{n} at most: the API refuses more", "最多 {n}：API 拒绝更多"),
    "fact.not_listed": Text("API's total", "API 的总数"),
    "fact.not_listed.rows": Text(
        "the API's total counts {n} rows that it does not list", "API 的总数比其列出的多 {n} 行"
    ),
    "fact.set_apart": Text("Rows that cannot be read", "无法解析的行"),
    "fact.skew": Text("Server's clock", "服务端时钟"),
    "fact.skew.ahead": Text("{span} ahead of ours", "比本机快 {span}"),
    "fact.skew.behind": Text("{span} behind ours", "比本机慢 {span}"),
    "fact.skew.none": Text("as ours", "与本机一致"),
    "fact.project_id": Text("Project id", "项目 ID"),
    "fact.region": Text("Region", "区域"),
    "fact.endpoint": Text("Endpoint", "终端节点"),
    "fact.credentials": Text("Credentials", "凭证"),
    "set_apart.rows": Text("unreadable rows: {n}", "无法解析：{n} 行"),
    "set_apart.no_id": Text("no id", "无 ID"),
    "column.created": Text("Created", "创建于"),
    "column.problem": Text("What is wrong", "问题"),
    # Jobs
    "in_flight": Text("In flight", "未结束的作业"),
    "in_flight.all": Text("In flight, all targets", "未结束的作业（全部目标）"),
    "column.status": Text("Status", "状态"),
    "column.jobs": Text("Jobs", "作业数"),
    "column.oldest_created": Text("Oldest, by creation", "创建最早"),
    "column.oldest_started": Text("Oldest, by start", "启动最早"),
    "jobs": Text("Jobs by type and status", "按类型和状态的作业数"),
    "jobs.all": Text("Jobs by type and status, all targets", "按类型和状态的作业数（全部目标）"),
    "jobs.in_flight": Text("in flight", "未结束"),
    "jobs.ended": Text("ended", "已结束"),
    "jobs.total": Text("Total", "合计"),
    # Failures
    "failures": Text("Last failed jobs", "最近失败的作业"),
    "failures.none": Text(
        "No run has failed since counting began. What failed before is in the table of jobs.",
        "开始计数以来没有失败的运行。此前失败的作业见作业表。",
    ),
    "failures.none.yet": Text("Nothing has been counted yet.", "尚未开始计数。"),
    "failures.by_code": Text("Failed runs counted, by code", "按错误码统计的失败次数"),
    "failures.more": Text("The last {n} of this target", "此目标最近的 {n} 条"),
    "no_code": Text("no code", "无错误码"),
    "column.when": Text("When", "时间"),
    "column.job": Text("Job", "作业"),
    "column.type": Text("Type", "类型"),
    "column.code": Text("Code", "错误码"),
    "column.message": Text("Message", "消息"),
    # The exporter itself
    "exporter": Text("Exporter", "Exporter"),
    "fact.version": Text("Version", "版本"),
    "fact.started": Text("Started", "启动于"),
    "fact.ready": Text("Ready", "就绪"),
    "fact.ready.yes": Text("yes", "是"),
    "fact.ready.no": Text("no: {n} not published yet", "否：{n} 个目标尚未发布"),
    "fact.config_read": Text("Configuration read", "读取配置于"),
    "fact.log_dropped": Text("Log lines dropped", "丢弃的日志行"),
    "fact.ledger": Text("Ledger", "账本"),
    "fact.ledger.schema": Text("schema {version}", "结构版本 {version}"),
    "ledger.sqlite": Text("SQLite", "SQLite"),
    "ledger.memory": Text("in memory, lost with the process", "在内存中，随进程消失"),
    "ledger.postgresql": Text("PostgreSQL", "PostgreSQL"),
    "column.name": Text("Name", "名称"),
    "column.kind": Text("Kind", "种类"),
    "column.expires": Text("Token or key ends", "令牌或密钥到期"),
    "configuration": Text("Configuration in use", "当前配置"),
    "configuration.masked": Text("secrets are masked", "密钥已隐去"),
}  # fmt: skip

# What the API's own words mean, beside them, where the language is not theirs.
GLOSSES_ZH: Mapping[str, str] = {
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

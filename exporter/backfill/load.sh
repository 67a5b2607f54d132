# Loads this history into the data directory of a Prometheus, and makes the history of its recording rules.
#
#   load.sh DATA_DIRECTORY
#
# Run it where promtool and prometheus are installed, as the user that Prometheus runs as. Prometheus may run
# meanwhile. All blocks are made in the folder octopus-backfill of the data directory, which Prometheus does not read,
# and are moved into the data directory at the end. If the script is interrupted, run it again: it goes on with the
# first step that is not done, and loads nothing twice.
#
# To make the blocks for another server (Mimir, or a Prometheus on another machine), give an empty folder.
#
# Variables: PROMTOOL, PROMETHEUS   the programs, if they are not in PATH
#            PORT=19090             a free port of this machine, for a Prometheus that runs only to evaluate the rules
#            RULES=no               leave out the history of the recording rules
#            PROMETHEUS_URL         the Prometheus that is to show the history: wait until it does
#            LOAD_EARLY=yes         do not wait until the end of the history is out of Prometheus' memory
set -eu

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s\n' "load.sh: $*" >&2
  exit 1
}

data=${1:-}
[ $# -eq 1 ] && [ -n "$data" ] || fail "usage: load.sh DATA_DIRECTORY"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
promtool=${PROMTOOL:-promtool}
prometheus=${PROMETHEUS:-prometheus}
port=${PORT:-19090}
rules=${RULES:-yes}

check() {
  command -v "$promtool" >/dev/null || fail "promtool is not installed here; PROMTOOL=/path/to/promtool names it"
  [ -d "$data" ] && [ -w "$data" ] || fail "$data is no folder that $(id -un) can write to"
  if [ "$rules" != no ] && [ -e "$here/rules-01.yml" ]; then
    command -v "$prometheus" >/dev/null ||
      fail "prometheus is not installed here; PROMETHEUS=/path/to/prometheus names it, RULES=no goes without"
  fi
  # Prometheus must be able to delete the blocks later. `ls -n` gives the numbers of user and group.
  # shellcheck disable=SC2012
  owner=$(ls -ldn "$data" | awk '{ print $3 ":" $4 }')
  [ "$(id -u)" -eq 0 ] || [ "$(id -u)" = "${owner%:*}" ] ||
    fail "$data belongs to user ${owner%:*}: run this script as that user, or as root"
  # A block that ends inside the memory of Prometheus (the head) makes Prometheus forget, at its next start, what
  # other series have there before that end. Three hours later this is in blocks of its own.
  [ "$(date +%s)" -ge "$safe_at" ] || [ "${LOAD_EARLY:-}" = yes ] || [ ! -d "$data/wal" ] ||
    fail "the end of this history ($last_text) is still in the memory of Prometheus: run this script after $safe_text"
}

# step NAME COMMAND...: let promtool make blocks in $work/new, once. Only complete steps leave blocks.
step() {
  name=$1
  shift
  [ ! -e "$work/done/$name" ] || return 0
  if [ ! -d "$work/made/$name" ]; then
    rm -rf "$work/new"
    mkdir "$work/new"
    "$@" >"$work/promtool.log" 2>&1 || {
      cat "$work/promtool.log" >&2
      fail "promtool failed at $name; what was done before is kept, run this script again"
    }
    mv "$work/new" "$work/made/$name"
  fi
  move_blocks "$work/made/$name" "$work/blocks"
  : >"$work/done/$name"
  rm -rf "$work/made/$name"
}

move_blocks() {
  for block in "$1"/*; do
    if [ -f "$block/meta.json" ]; then mv "$block" "$2/"; fi
  done
}

server=
stop_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || :
  wait "$server" 2>/dev/null || :
  server=
}

# A Prometheus of our own on the blocks made so far: it scrapes nothing. It loads new blocks when it starts.
start_server() {
  : >"$work/prometheus.yml"
  "$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/blocks" \
    --storage.tsdb.retention.time=20y --web.listen-address="127.0.0.1:$port" --log.level=error \
    >"$work/prometheus.log" 2>&1 &
  server=$!
  tries=0
  until "$promtool" query instant "http://127.0.0.1:$port" 'vector(1)' >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 "$server" 2>/dev/null || [ "$tries" -gt 300 ]; then
      cat "$work/prometheus.log" >&2
      fail "the Prometheus that evaluates the rules did not start; PORT=NUMBER gives it another port"
    fi
    sleep 0.2 2>/dev/null || sleep 1
  done
}

make_samples() {
  for file in "$here"/*.om; do
    name=$(basename "$file" .om)
    say "samples of $name"
    step "$name" "$promtool" tsdb create-blocks-from openmetrics --max-block-duration=24h "$file" "$work/new"
  done
}

# A rule sees the records of other rules only if they are loaded: so the rules are evaluated in stages. At which minute
# of the hour promtool evaluates a group depends on its name and its file. Rules that read each other's records of the
# same minute need the same minute, so the file has the same path in each stage.
make_rules() {
  for file in "$here"/rules-*.yml; do
    name=$(basename "$file" .yml)
    [ ! -e "$work/done/$name" ] || continue
    say "recording rules, $name"
    cp "$file" "$work/rules.yml"
    start_server
    step "$name" "$promtool" tsdb create-blocks-from rules --max-block-duration=24h --start="$first" --end="$last" \
      --url="http://127.0.0.1:$port" --output-dir="$work/new" "$work/rules.yml"
    stop_server
  done
}

wait_until_shown() {
  say "waiting until Prometheus shows the history (it looks for new blocks every minute)"
  tries=0
  until "$promtool" query instant --time="$last" "$PROMETHEUS_URL" "$shown" | grep -q .; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || fail "Prometheus does not show it after five minutes; its log may say why"
    sleep 5
  done
}

check
work=$data/octopus-backfill
history="$first $last $shown"
if [ -e "$work/history" ] && [ "$(cat "$work/history")" != "$history" ]; then
  [ -e "$work/loaded" ] ||
    fail "another history is not completely loaded: run its load.sh again, or delete $work"
  rm -rf "$work"
fi
[ ! -e "$work/loaded" ] || {
  say "this history is already loaded; $work can be deleted, unless this script may be run again"
  exit 0
}
mkdir -p "$work/blocks" "$work/made" "$work/done"
mkdir "$work/lock" 2>/dev/null || fail "another run of this script is at work; if there is none, delete $work/lock"
trap 'stop_server; rmdir "$work/lock"' EXIT
trap 'exit 1' HUP INT TERM
printf '%s\n' "$history" >"$work/history"
# promtool needs a place for what it has not written yet.
TMPDIR=$work
export TMPDIR

make_samples
if [ "$rules" != no ] && [ -e "$here/rules-01.yml" ]; then make_rules; fi
if [ "$(id -u)" -eq 0 ]; then chown -R "$owner" "$work/blocks"; fi
move_blocks "$work/blocks" "$data"
: >"$work/loaded"
rm -rf "$work/blocks" "$work/made" "$work/done" "$work/new"
if [ -n "${PROMETHEUS_URL:-}" ]; then wait_until_shown; fi
say "the history is loaded; Prometheus shows it within two minutes, or when it is restarted"

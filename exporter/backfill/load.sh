# Loads this history into the data directory of a Prometheus, and makes the history of its recording rules.
#
#   load.sh DATA_DIRECTORY
#
# Run it where promtool and prometheus are installed, as the user that Prometheus runs as. Prometheus may run
# meanwhile. All blocks are made in the folder octopus-backfill of the data directory, which Prometheus does not read,
# and are moved into the data directory at the end. If the script is interrupted, however that was, run it again: it
# goes on with the first step that is not done, and loads nothing twice.
#
# To make the blocks for another server (Mimir, or a Prometheus on another machine), give an empty folder.
#
# Variables: PROMTOOL, PROMETHEUS   the programs, if they are not in PATH
#            PORT=19090             a free port of this machine, for a Prometheus that runs only to evaluate the rules
#            RULES=no               leave out the history of the recording rules; a later run without it adds that
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
# promtool makes blocks of 2, 6 or 18 hours. Some of 18 hours have a midnight (UTC) inside, and Mimir refuses these.
longest=18h

check() {
  command -v "$promtool" >/dev/null || fail "promtool is not installed here; PROMTOOL=/path/to/promtool names it"
  [ -d "$data" ] && [ -w "$data" ] || fail "$data is no folder that $(id -un) can write to"
  data=$(CDPATH='' cd -- "$data" && pwd)
  work=$data/octopus-backfill
  if wants_rules; then
    command -v "$prometheus" >/dev/null ||
      fail "prometheus is not installed here; PROMETHEUS=/path/to/prometheus names it, RULES=no goes without"
  fi
  # Prometheus must be able to delete the blocks later. `ls -n` gives the numbers of user and group.
  # shellcheck disable=SC2012
  owner=$(ls -ldn "$data" | awk '{ print $3 ":" $4 }')
  [ "$(id -u)" -eq 0 ] || [ "$(id -u)" = "${owner%:*}" ] ||
    fail "$data belongs to user ${owner%:*}: run this script as that user, or as root"
  if ! is_prometheus; then
    longest=6h
    check_empty
  fi
  if ! is_complete; then
    is_loaded loaded || refuse_overlaps
    refuse_early
  fi
}

wants_rules() { [ "$rules" != no ] && [ -e "$here/rules-01.yml" ]; }

is_prometheus() { [ -d "$data/wal" ]; }

# Blocks beside other files are in no Prometheus. So a folder that is no data directory has to be empty, but for what
# this script has put there.
check_empty() {
  for wal in "$data"/*/wal "$data"/*/*/wal; do
    # A run that was interrupted has one itself.
    case $wal in "$work"/*) continue ;; esac
    [ ! -d "$wal" ] || fail "$data is no data directory of Prometheus (it has no folder wal): did you mean ${wal%/wal}?"
  done
  for entry in "$data"/* "$data"/.[!.]*; do
    [ -e "$entry" ] || continue
    case ${entry##*/} in octopus-backfill | lost+found) continue ;; esac
    [ -d "$work" ] && [ -f "$entry/meta.json" ] ||
      fail "$data has ${entry##*/} and no folder wal, expected the data directory of a Prometheus, or an empty folder"
  done
}

# A block that ends inside the memory of Prometheus (the head) makes Prometheus forget, at its next start, what
# other series have there before that end. Three hours later this is in blocks of its own.
refuse_early() {
  [ "$(date +%s)" -ge "$safe_at" ] || [ "${LOAD_EARLY:-}" = yes ] || ! is_prometheus ||
    fail "the end of this history ($last_text) is still in the memory of Prometheus: run this script after $safe_text"
}

# is_loaded FILE: tell whether FILE names this history. `loaded` has a line for each series whose samples are loaded, as
# in $history, and `loaded-rules` for each that the loaded records were made from.
is_loaded() { [ -e "$work/$1" ] && ! printf '%s\n' "$history" | grep -qvxF -f "$work/$1"; }

is_complete() { is_loaded loaded && { ! wants_rules || is_loaded loaded-rules; }; }

# Two histories of the same series begin to count at different times, so together they are no counter.
refuse_overlaps() {
  [ -e "$work/loaded" ] || return 0
  overlap=$(printf '%s\n' "$history" | awk '
    { from = $1; to = $2; series = $0; sub(/^[0-9]+ [0-9]+ /, "", series) }
    FILENAME != "-" { count++; begin[count] = from; end[count] = to; known[count] = series; next }
    { for (i = 1; i <= count; i++) if (known[i] == series && from <= end[i] && to >= begin[i]) print series }
  ' "$work/loaded" - | head -n 1)
  [ -z "$overlap" ] || fail "another history of $overlap is loaded, and this one overlaps with it; if its blocks are" \
    "deleted, delete $work/loaded too"
}

# The lock names the process that has it, and its Prometheus: a run that was killed leaves both.
take_lock() {
  mkdir -p "$work" || fail "$work cannot be made"
  if ! mkdir "$work/lock" 2>/dev/null; then
    [ -d "$work/lock" ] || fail "$work cannot be written to: is the disk full, or does it belong to another user?"
    [ -s "$work/lock/pid" ] || sleep 1
    holder=$(cat "$work/lock/pid" 2>/dev/null || :)
    if [ -n "$holder" ] && runs "$holder" "${0##*/}"; then
      fail "another run of this script is at work, process $holder; if there is none, delete $work/lock"
    fi
    say "the last run was interrupted: going on"
    stop_orphan
    rm -rf "$work/lock"
    mkdir "$work/lock" || fail "another run of this script has just begun"
  fi
  trap 'stop_server; rm -rf "$work/lock"' EXIT
  trap 'fail "interrupted; run this script again, and it goes on where it was"' HUP INT TERM
  echo "$$" >"$work/lock/pid"
}

# keep FILE TEXT: write a file, all of it or nothing.
keep() {
  { printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"; } || fail "$1 cannot be written: is the disk full?"
}

# remember FILE: name this history in FILE.
remember() {
  ! is_loaded "$1" || return 0
  known=$history
  if [ -e "$work/$1" ]; then known="$(cat "$work/$1")
$history"; fi
  keep "$work/$1" "$known"
}

# Only what is loaded is remembered.
clean() {
  rm -rf "$work/blocks" "$work/records" "$work/made" "$work/done" "$work/moving" "$work/history"
  remove_unfinished
}

# A promtool that outlives its script may still be writing there, which makes rm fail.
remove_unfinished() { rm -rf "$work"/new.* "$work"/tmp.* 2>/dev/null || :; }

# runs PID WORD: tell whether a process is there, and has WORD in its command line, where that can be read.
runs() {
  kill -0 "$1" 2>/dev/null || return 1
  [ ! -r "/proc/$1/cmdline" ] || tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF -e "$2"
}

stop_orphan() {
  orphan=$(cat "$work/lock/server" 2>/dev/null || :)
  [ -n "$orphan" ] && runs "$orphan" "$work/" || return 0
  kill "$orphan" 2>/dev/null || :
  tries=0
  while runs "$orphan" "$work/"; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || fail "process $orphan, a Prometheus of the last run, does not end"
    sleep 1
  done
}

# step NAME COMMAND...: let promtool make blocks in $new, once. Only complete steps leave blocks. The folder is new at
# each run: a promtool that outlives its script cannot write into it.
step() {
  name=$1
  shift
  [ ! -e "$work/done/$name" ] || return 0
  if [ ! -d "$work/made/$name" ]; then
    mkdir "$new"
    "$@" >"$work/promtool.log" 2>&1 || {
      cat "$work/promtool.log" >&2
      fail "promtool failed at $name: put right what it says, and run this script again; what was done before is kept"
    }
    mv "$new" "$work/made/$name"
  fi
  case $name in rules-*) copy_records "$work/made/$name" ;; esac
  move_blocks "$work/made/$name" "$work/blocks"
  : >"$work/done/$name"
  rm -rf "$work/made/$name"
}

# Where only the records are to be loaded, they are kept apart: the Prometheus on the blocks may merge its blocks.
copy_records() {
  [ "$what" = blocks ] || cp -R "$1/." "$work/records" || fail "$work/records cannot be written: is the disk full?"
}

# A name with a dot is of a block that is not complete, or is being deleted.
move_blocks() {
  for block in "$1"/*; do
    case ${block##*/} in *.*) continue ;; esac
    if [ -f "$block/meta.json" ]; then mv "$block" "$2/"; fi
  done
}

server=
stop_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || :
  wait "$server" 2>/dev/null || :
  server=
  rm -f "$work/lock/server"
}

# start_server FOLDER: run a Prometheus of our own on the blocks made so far. It scrapes nothing. It loads new blocks at
# its start. It has a path of its own, so that no other Prometheus on this port is taken for it. It makes no blocks that
# are longer than those of promtool: yours would merge such a block with all of its own that overlap with it.
start_server() {
  : >"$work/prometheus.yml"
  "$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$1" \
    --storage.tsdb.retention.time=20y --storage.tsdb.max-block-duration="$longest" \
    --web.listen-address="127.0.0.1:$port" --web.route-prefix="/backfill-$$" \
    --log.level=error >"$work/prometheus.log" 2>&1 &
  server=$!
  echo "$server" >"$work/lock/server"
  tries=0
  until "$promtool" query instant "$url" 'vector(1)' >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 "$server" 2>/dev/null || [ "$tries" -gt 300 ]; then
      cat "$work/prometheus.log" >&2
      fail "the Prometheus of this script did not start; if port $port is taken, PORT=NUMBER gives it another"
    fi
    sleep 0.2 2>/dev/null || sleep 1
  done
}

make_samples() {
  set -- "$here"/*.om
  number=0
  for file in "$@"; do
    number=$((number + 1))
    name=$(basename "$file" .om)
    say "samples of $name: file $number of $#"
    step "$name" "$promtool" tsdb create-blocks-from openmetrics --max-block-duration="$longest" "$file" "$new"
  done
}

# A rule sees the records of other rules only if they are loaded: so the rules are evaluated in stages. At which minute
# of the hour promtool evaluates a group depends on its name and its file. Rules that read each other's records of the
# same minute need the same minute, so the file has the same path in each stage.
make_rules() {
  set -- "$here"/rules-*.yml
  number=0
  for file in "$@"; do
    number=$((number + 1))
    name=$(basename "$file" .yml)
    [ ! -e "$work/done/$name" ] || continue
    say "recording rules: stage $number of $#"
    cp "$file" "$work/rules.yml"
    start_server "$work/blocks"
    step "$name" "$promtool" tsdb create-blocks-from rules --max-block-duration="$longest" \
      --start="$first" --end="$rules_last" --url="$url" --output-dir="$new" "$work/rules.yml"
    stop_server
  done
  : >"$work/done/rules"
}

# promtool makes a block for each rule and time, thousands for a month. mimirtool takes a second or more for each. A
# Prometheus merges those of one time, and begins with it a minute after its start.
merge_blocks() {
  overlaps "$1" || return 0
  say "merging the blocks, which begins after a minute"
  start_server "$1"
  tries=0
  while overlaps "$1"; do
    tries=$((tries + 1))
    if ! kill -0 "$server" 2>/dev/null || [ "$tries" -gt 1200 ]; then
      cat "$work/prometheus.log" >&2
      fail "the blocks were not merged: is the disk full? Put right what is said above, and run this script again"
    fi
    sleep 3
  done
  stop_server
}

# Whether blocks begin in the same 6 hours. Those that are being made or deleted count, so that they are waited for. The
# times of what a block was merged from are further to the right.
overlaps() {
  find "$1" -name meta.json -exec sed -n 's/^[[:space:]]"minTime": *\([0-9]*\).*/\1/p' {} + 2>/dev/null |
    awk '{ if (seen[int($1 / 21600000)]++) more = 1 } END { exit !more }'
}

wait_until_shown() {
  say "waiting until Prometheus shows the history (it looks for new blocks every minute)"
  tries=0
  until "$promtool" query instant --time="$last" "$PROMETHEUS_URL" "$shown" 2>"$work/promtool.log" | grep -q .; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || {
      cat "$work/promtool.log" >&2
      fail "the history is loaded, but $PROMETHEUS_URL does not show it after five minutes: its log may say why"
    }
    sleep 5
  done
}

# After a run as root, Prometheus has to delete the blocks, and its user may run this script.
give_to_owner() {
  if [ "$(id -u)" -eq 0 ]; then chown -R "$owner" "$work"; fi
}

# Loads the samples and the records, or the records alone where the samples are loaded already.
load() {
  what=blocks
  if is_loaded loaded; then what=records; fi
  mkdir -p "$work/blocks" "$work/records" "$work/made" "$work/done" "$TMPDIR"
  keep "$work/history" "$history"
  # Once some blocks are moved, rules would see what is left.
  if [ ! -e "$work/moving" ]; then
    make_samples
    if wants_rules; then make_rules; fi
    is_prometheus || merge_blocks "$work/$what"
    give_to_owner
    keep "$work/moving" "$history"
  fi
  move_blocks "$work/$what" "$data"
  if [ -e "$work/done/rules" ]; then remember loaded-rules; fi
  remember loaded
  clean
  give_to_owner
}

check
take_lock
if is_complete; then
  clean
  say "this history is already loaded; while $work is there, nothing is loaded twice"
  exit 0
fi
is_loaded loaded || refuse_overlaps
if [ -e "$work/history" ] && [ "$(cat "$work/history")" != "$history" ]; then
  [ ! -e "$work/moving" ] || fail "another history is loaded in part: run its load.sh again first"
  say "another history was begun, and nothing of it is loaded: it is dropped"
  clean
fi
new=$work/new.$$
url=http://127.0.0.1:$port/backfill-$$
# promtool needs a place for what it has not written yet.
TMPDIR=$work/tmp.$$
export TMPDIR
remove_unfinished
# A run without the rules may have been interrupted while it moved its blocks: then the rules come after these.
until is_complete; do load; done
if ! is_prometheus; then
  say "the blocks are in $data: copy them to where they are to be read"
elif [ -n "${PROMETHEUS_URL:-}" ]; then
  wait_until_shown
  say "the history is loaded, and $PROMETHEUS_URL shows it"
else
  say "the history is loaded; Prometheus shows it within two minutes, or when it is restarted"
fi

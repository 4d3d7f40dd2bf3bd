# Sourced by the tests: a directory of their own, the switch under test, and ways to skip and to fail.
set -u
abyme=$(readlink -f "$1")
dir=$(mktemp -d /tmp/abyme-switch-test-XXXXXX)
export XDG_RUNTIME_DIR=$dir
switch_pid=

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*"; [ -f "$dir/switch.log" ] && tail -n 30 "$dir/switch.log"; exit 1; }
need() { command -v "$1" >/dev/null || skip "$1 is not installed (Debian package $2)"; }

# Every child of this shell is in its process group's job table: end exactly those.
cleanup() {
  local pids
  pids=$(jobs -p)
  [ -n "$pids" ] && kill $pids 2>/dev/null
  wait 2>/dev/null
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# start_switch FILE: runs the switch and waits until it answers.
start_switch() {
  "$abyme" switch --config "$1" --socket "$dir/control" >>"$dir/switch.log" 2>&1 &
  switch_pid=$!
  for _ in $(seq 100); do
    ask show >/dev/null 2>&1 && return
    kill -0 $switch_pid 2>/dev/null || fail "the switch ended"
    sleep 0.05
  done
  fail "the switch does not answer"
}

ask() { "$abyme" switch "$@" --switch "$dir/control"; }
# stat PORT KEY: a counter, or 0.
stat() { ask stats -o json | jq -r ".\"$1\".$2 // 0"; }
state() { ask ports -o json | jq -r ".\"$1\".state"; }
# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
  local until=$((SECONDS + $1))
  shift
  while ! "$@"; do
    [ $SECONDS -ge $until ] && return 1
    sleep 0.1
  done
}
is_connected() { [ "$(state "$1")" = connected ]; }

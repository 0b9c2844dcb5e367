#!/bin/sh
# Waits until a Job has ended, whichever way: 0 when it is complete, 1 when it has failed or the time
# is over. `kubectl wait` alone waits for one condition, so a failed Job would take the whole time.
#
#   deploy/kubernetes/wait.sh job/library-migrate [TIMEOUT]
set -eu

job=$1
timeout=${2:-1h}

wait_for_failure() {
  trap 'kill "$waiting" || :; exit' TERM
  kubectl wait --for=condition=failed --timeout="$timeout" "$job" >/dev/null &
  waiting=$!
  if wait "$waiting"; then
    echo "$job has failed: kubectl logs $job" >&3
    kill "$complete"
  fi
}

kubectl wait --for=condition=complete --timeout="$timeout" "$job" &
complete=$!
wait_for_failure 3>&2 2>/dev/null &
failure=$!

code=0
wait "$complete" || code=1
kill "$failure" 2>/dev/null || :
wait "$failure" || :
exit "$code"

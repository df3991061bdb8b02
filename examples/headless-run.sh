#!/usr/bin/env bash
# One run with curl alone: start, watch, read: headless-run.sh [workspace]
set -euo pipefail
url=${POSTERN_URL:-http://127.0.0.1:47331}
workspace=${1:-ws-demo}
key="example-$$-$RANDOM$RANDOM"

start() {
  curl --silent --show-error --fail-with-body "$url/api/workspaces/$workspace/headless" \
    --header 'Content-Type: application/json' --header "Idempotency-Key: $key" \
    --data '{"prompt": "Look around and report", "timeoutMs": 120000}'
}
task() { sed -E 's/.*"taskId": *"([^"]+)".*/\1/'; }

# 202 and the run. The same key again is answered with the same run and starts nothing: a lost answer costs nothing.
id=$(start | task)
test "$id" = "$(start | task)"
echo "accepted $id" >&2

# Its events, live, until it has ended. After a cut: the same with `Last-Event-ID: <last id>`.
curl --silent --show-error --no-buffer "$url/api/headless/$id/events" --header 'Accept: text/event-stream' >&2

# The run as it ended; this would wait up to a minute for that.
run=$(curl --silent --show-error "$url/api/headless/$id" --header 'Prefer: wait=60')
printf '%s\n' "$run"
grep -q '"status": *"succeeded"' <<<"$run"

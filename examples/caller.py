"""One run with Python's standard library: python3 caller.py [workspace] [prompt]"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

URL = os.environ.get("POSTERN_URL", "http://127.0.0.1:47331")
WORKSPACE = sys.argv[1] if len(sys.argv) > 1 else "ws-demo"
PROMPT = sys.argv[2] if len(sys.argv) > 2 else "Look around and report"


def call(path, body=None, **headers):
    """One request; a 429 is repeated when the server says so, any other refusal is an error with its reason."""
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    if token := os.environ.get("POSTERN_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = None if body is None else json.dumps(body).encode()
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=90) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            if error.code != 429:
                raise SystemExit(f"{problem['code']}: {problem['detail']}") from error
            time.sleep(int(error.headers.get("Retry-After", 1)))


# The key makes it safe to repeat the request: one key, one run.
run = call(f"/api/workspaces/{WORKSPACE}/headless", {"prompt": PROMPT}, Idempotency_Key=str(uuid.uuid4()))
print("accepted", run["taskId"], file=sys.stderr)
while run["status"] in ("queued", "running"):
    run = call(f"/api/headless/{run['taskId']}", Prefer="wait=60")

print(run["result"]["text"] or run["detail"] or run["reason"])
sys.exit(0 if run["status"] == "succeeded" else 1)

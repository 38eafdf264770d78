"""Publishes one event with the CloudEvents SDK: a request as JSON on stdin, the answer on stdout."""

import json
import sys
import urllib.error
import urllib.request

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

asked = json.load(sys.stdin)
data = bytes.fromhex(asked["bytes"]) if "bytes" in asked else asked["data"]
write = {"binary": to_binary_event, "structured": to_structured_event}[asked["mode"]]
message = write(CloudEvent(attributes=asked["attributes"], data=data))
request = urllib.request.Request(asked["url"], data=message.body, headers=message.headers)
try:
    answer = urllib.request.urlopen(request, timeout=60)
except urllib.error.HTTPError as refused:
    answer = refused
print(json.dumps({"status": answer.status, "body": json.load(answer)}))

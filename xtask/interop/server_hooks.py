"""What schemathesis changes in some of the requests that it makes, so that more of them are computed: the model is one that exists, and
most fields that a request does not need are left out, because many of them exclude each other."""

import zlib

import schemathesis

ENCODING = ("/v1/embeddings", "/v1/fill-mask")
NEEDED = {"messages", "prompt", "input", "tokens", "n", "max_tokens", "max_completion_tokens", "max_output_tokens"}
ROLES = ("system", "developer", "user", "assistant")


def number(text, count):
    return zlib.crc32(repr(text).encode()) % count


def message(body, index):
    return {"role": ROLES[number((body, index), 4)], "content": str(body)[index:index + 20]}


@schemathesis.hook
def map_body(context, body):
    path = getattr(getattr(context, "operation", None), "path", "")
    if not isinstance(body, dict) or not path.startswith(("/v1/", "/t", "/de")) or number(body, 4) == 0:
        return body
    kept = {key: value for key, value in body.items() if key in NEEDED or number((body, key), 8) == 0}
    kept["model"] = "encoder" if path in ENCODING else "chat"
    if "messages" in body:
        kept["messages"] = [message(body, index) for index in range(1 + number(body, 3))]
    if path == "/trace":
        kept.pop("prompt" if "messages" in kept else "messages", None)
    if path == "/v1/fill-mask" and isinstance(body.get("input"), str):
        kept["input"] += " [MASK]"
    if path == "/v1/responses" and number(body, 2):
        kept["input"] = [message(body, 0)]
    return kept

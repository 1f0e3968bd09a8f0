"""Make expected.json: what transformers' `apply_chat_template` writes for the templates and conversations here, and its token ids.

Run from any folder: `python make_chat.py` (needs jinja2, tokenizers and transformers). The templates are written for this test, each in
the manner of a family of published models: the same constructs and the same marks around messages. The tokenizer is that of
`../bpe.tokenizer.json` with the special tokens of all families. The clock stands still.
"""

import datetime
import json
import pathlib

import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 11, 29, 10, 30, tzinfo=datetime.timezone.utc)
SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<start_of_turn>", "<end_of_turn>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
]


def message(role, content, **more):
    return {"role": role, "content": content, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place: <now> & \"soon\"",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 1, "maximum": 7.5}},
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "weather", "arguments": {"place": "'s-Gravenhage", "days": 2}}}

ONE = [message("user", "  Hoe gaat het?\n")]
TURNS = [message("user", "Wie ben jij?"), message("assistant", " Een model. "), message("user", "Één ding nog: 3 < 4 & \"ja\"?")]
SYSTEM = [message("system", "Antwoord kort.\n"), *TURNS]
CALLED = [
    message("user", "Regent het?"),
    message("assistant", None, tool_calls=[CALL]),
    message("tool", "ja, 12 °C", tool_call_id="abcdef123"),
    message("assistant", "Het regent."),
    message("user", "Dank je"),
]
THOUGHT = [
    message("user", "2 + 2?"),
    message("assistant", "<think>\ntwee en twee\n</think>\n\nVier."),
    message("user", "En 3 + 3?"),
    message("assistant", "Zes.", reasoning="drie en drie"),
]
PARTS = [message("user", "Kijk"), message("assistant", [{"type": "text", "text": "een "}, {"type": "image"}, {"type": "text", "text": "kat"}])]
NAMED = [message("system", "s"), message("user", "een  twee\ndrie", name="Jan"), message("assistant", "vier")]

CONVERSATIONS = {"one": ONE, "turns": TURNS, "system": SYSTEM, "called": CALLED, "thought": THOUGHT, "parts": PARTS, "named": NAMED}

CASES = [
    # template, conversations, options
    ("chatml", ["one", "turns", "system"], {}),
    ("chatml", ["turns", "system", "called"], {"tools": [WEATHER, CLOCK]}),
    ("chatml", ["turns"], {"add_generation_prompt": False}),
    ("thinking", ["one", "turns", "system", "thought"], {}),
    ("thinking", ["turns"], {"enable_thinking": False}),
    ("thinking", ["thought"], {"add_generation_prompt": False}),
    ("thinking", ["thought"], {"continue_final_message": True}),
    ("llama-2", ["one", "turns", "system"], {}),
    ("llama-2", ["named", "called"], {}),
    ("llama-3", ["one", "turns", "system"], {}),
    ("llama-3", ["one"], {"date_string": "1 Jan 2024"}),
    ("llama-3", ["turns", "called"], {"tools": [WEATHER]}),
    ("mistral", ["one", "turns", "system"], {}),
    ("mistral", ["turns", "called"], {"tools": [WEATHER, CLOCK]}),
    ("mistral", ["parts"], {}),
    ("gemma", ["one", "turns"], {}),
    ("gemma", ["turns"], {"add_generation_prompt": False}),
    ("gemma", ["system"], {}),
    ("phi-3", ["one", "turns", "system"], {}),
    ("phi-3", ["system"], {"add_generation_prompt": False}),
    ("zephyr", ["one", "turns", "system"], {}),
    ("zephyr", ["turns"], {"add_generation_prompt": False}),
    ("generation", ["turns", "system", "parts", "named"], {}),
    ("generation", ["named"], {"continue_final_message": True}),
    ("printing", ["named", "turns"], {"tools": [CLOCK]}),
    ("python", ["one", "turns"], {}),
]


class StandingClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def run(tokenizer, template, messages, options):
    options = {"add_generation_prompt": not options.get("continue_final_message", False), **options}
    try:
        text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    except Exception as error:  # A template that refuses a conversation.
        return {"error": str(error)}
    found = {"text": text, "ids": tokenizer.apply_chat_template(messages, chat_template=template, **options)["input_ids"]}
    if "{%- generation" in template and not options.get("continue_final_message"):
        _, spans = chat_template_utils.render_jinja_template(
            [chat_template_utils._normalize_chat_messages(messages)], chat_template=template, return_assistant_tokens_mask=True, **options
        )
        found["generated"] = [text[start:end] for start, end in spans[0]]
    return found


if __name__ == "__main__":
    chat_template_utils.datetime = StandingClock
    base = Tokenizer.from_file(str(HERE.parent / "bpe.tokenizer.json"))
    base.add_special_tokens(SPECIAL)
    base.save(str(HERE / "tokenizer.json"), pretty=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    cases = []
    for name, conversations, options in CASES:
        template = (HERE / f"{name}.jinja").read_text(encoding="utf-8")
        for conversation in conversations:
            found = run(tokenizer, template, CONVERSATIONS[conversation], options)
            cases.append({"template": name, "conversation": conversation, "options": options, **found})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps({
        "versions": {"transformers": transformers.__version__},
        "now": int(NOW.timestamp()),
        "conversations": CONVERSATIONS,
    }, ensure_ascii=False)
    (HERE / "expected.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")

"""Ask `taal serve` with the official `openai` client: `ask_openai.py URL KEY`.

The server has the models `chat` (the first one, with a chat template) and `encoder`. Prints a line per check, and ends with 1 where one
failed.
"""

import concurrent.futures
import json
import sys
import traceback

import openai

URL, KEY = sys.argv[1:3]
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=120)
PROMPT = "De kat"
TALK = [{"role": "system", "content": "Kort."}, {"role": "user", "content": "list files"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Delft", "Goes"]}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}}
# Clients at once, and requests of each.
CLIENTS, REQUESTS = 64, 200
TOO_LONG = "context_length_exceeded"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def complete(**settings):
    return CLIENT.completions.create(**{"model": "chat", "prompt": PROMPT, "max_tokens": 8, "seed": 1} | settings)


def talk(**settings):
    return CLIENT.chat.completions.create(**{"model": "chat", "messages": TALK, "max_tokens": 12, "seed": 1} | settings)


def complete_one(ask):
    """The first answer that is not cut off: a model of so few steps may fill its context with white space."""
    for seed in range(40):
        choice = ask(seed).choices[0]
        if choice.finish_reason != "length":
            return choice
    raise AssertionError("no complete answer")


def refused(kind, ask, *, param=None, code=None):
    try:
        ask()
    except kind as error:
        assert type(error) is kind, error
        assert param is None or error.param == param, f"{error.param}: {error}"
        assert code is None or error.code == code, f"{error.code}: {error}"
        return error
    raise AssertionError("an answer instead of an error")


@check
def models():
    assert [model.id for model in CLIENT.models.list()][:2] == ["chat", "encoder"]
    assert CLIENT.models.retrieve("encoder").id == "encoder"


@check
def completion():
    answer = complete()
    choice = answer.choices[0]
    assert answer.object == "text_completion" and choice.finish_reason in ("length", "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert complete().choices[0].text == choice.text, "equal seeds"
    texts = {complete(seed=seed).choices[0].text for seed in range(8)}
    assert len(texts) > 1, "other seeds"
    assert complete(temperature=0, seed=2).choices[0].text == complete(temperature=0, seed=3).choices[0].text


@check
def completion_in_a_stream():
    parts = list(complete(stream=True, stream_options={"include_usage": True}))
    whole = complete()
    assert "".join(part.choices[0].text for part in parts[:-1]) == whole.choices[0].text
    assert parts[-1].choices == [] and parts[-1].usage.total_tokens == whole.usage.total_tokens
    assert all(part.usage is None for part in parts[:-1])
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert not any(part.usage for part in complete(stream=True))


@check
def log_probabilities_with_echo():
    choice = complete(echo=True, logprobs=3, max_tokens=0).choices[0]
    assert choice.text == PROMPT, choice.text
    scores = choice.logprobs
    assert scores.token_logprobs[0] is None and all(score < 0 for score in scores.token_logprobs[1:])
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.text_offset)
    assert all(3 <= len(top) <= 4 for top in scores.top_logprobs[1:])
    longer = complete(echo=True, logprobs=0).choices[0]
    assert longer.text.startswith(PROMPT) and "".join(longer.logprobs.tokens) == longer.text


@check
def several_answers_and_prompts():
    several = complete(n=3).choices
    assert [choice.index for choice in several] == [0, 1, 2] and several[0].text == complete().choices[0].text
    assert len({choice.text for choice in several}) > 1
    both = complete(prompt=[PROMPT, "Het"], n=2, temperature=0).choices
    assert [choice.index for choice in both] == [0, 1, 2, 3]
    assert both[2].text == complete(prompt="Het", temperature=0).choices[0].text


@check
def clients_at_once():
    def text(number):
        prompt = ("De kat", "Het", "Een man zegt", "list files")[number % 4]
        return complete(prompt=prompt, max_tokens=4 + number % 9, temperature=number % 3 / 2, seed=number).choices[0].text

    def texts(first):
        return {number: text(number) for number in (*range(first, REQUESTS), *range(first))}

    alone = texts(0)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        assert all(together == alone for together in pool.map(texts, range(CLIENTS)))


@check
def ids_as_prompts():
    ids = CLIENT.post("/tokenize", body={"model": "chat", "prompt": PROMPT}, cast_to=object)["tokens"]
    assert complete(prompt=ids).choices[0].text == complete().choices[0].text
    assert complete(prompt=[ids, ids]).choices[1].text == complete().choices[0].text


@check
def stop_texts():
    text = complete(max_tokens=32, temperature=0).choices[0].text
    stop = text[len(text) // 2]
    choice = complete(max_tokens=32, temperature=0, stop=[stop]).choices[0]
    assert choice.text == text.split(stop)[0] and choice.finish_reason == "stop", choice


@check
def conversation():
    answer = talk()
    assert answer.object == "chat.completion" and answer.choices[0].message.role == "assistant"
    assert [choice.index for choice in talk(n=2).choices] == [0, 1]
    parts = list(talk(stream=True, stream_options={"include_usage": True}))
    text = "".join(part.choices[0].delta.content or "" for part in parts[:-1])
    assert text == answer.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant" and parts[-1].usage.total_tokens == answer.usage.total_tokens
    parts = [{"role": "user", "content": [{"type": "text", "text": "list files"}]}]
    assert talk(messages=parts).choices[0].message.content == talk(messages=TALK[1:]).choices[0].message.content


@check
def log_probabilities_of_a_conversation():
    choice = talk(logprobs=True, top_logprobs=2, temperature=0).choices[0]
    scores = choice.logprobs.content
    assert all(score.logprob <= score.top_logprobs[0].logprob + 1e-6 and len(score.top_logprobs) == 2 for score in scores)
    assert b"".join(bytes(score.bytes) for score in scores).decode(errors="replace").startswith(choice.message.content)


@check
def bias():
    token = CLIENT.post("/tokenize", body={"model": "chat", "prompt": "e"}, cast_to=object)["tokens"][-1]
    choice = talk(logit_bias={str(token): 100}, max_tokens=4).choices[0]
    assert choice.message.content == "eeee", choice


@check
def json_answers():
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    answer = json.loads(complete_one(lambda seed: talk(response_format=form, max_tokens=90, seed=seed)).message.content)
    assert answer["city"] in ("Delft", "Goes") and isinstance(answer["warm"], bool)
    choice = complete_one(lambda seed: talk(response_format={"type": "json_object"}, max_tokens=90, seed=seed))
    assert isinstance(json.loads(choice.message.content), dict)


@check
def tools():
    for choice in "required", {"type": "function", "function": {"name": "weather"}}:
        answer = complete_one(lambda seed: talk(tools=[TOOL], tool_choice=choice, max_tokens=90, seed=seed))
        call = answer.message.tool_calls[0]
        assert answer.finish_reason == "tool_calls" and call.type == "function" and call.function.name == "weather"
        assert set(json.loads(call.function.arguments)) == {"city", "warm"}
    said = [{"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": "12"}]
    assert talk(messages=TALK + said, tools=[TOOL]).choices[0].message.role == "assistant"
    assert talk(tools=[TOOL], tool_choice="none").choices[0].message.tool_calls is None
    asked = {"tools": [TOOL], "tool_choice": "required", "max_tokens": 90}
    seed = next(seed for seed in range(40) if talk(**asked, seed=seed).choices[0].message.tool_calls)
    parts = list(talk(**asked, seed=seed, stream=True))
    calls = [call for part in parts for call in part.choices[0].delta.tool_calls or []]
    assert calls[0].function.name == "weather" and calls[0].index == 0
    assert json.loads("".join(call.function.arguments for call in calls))
    assert parts[-1].choices[0].finish_reason == "tool_calls"


@check
def responses():
    settings = {"model": "chat", "input": "list files", "max_output_tokens": 16, "temperature": 0}
    answer = CLIENT.responses.create(**settings)
    assert answer.object == "response" and answer.status in ("completed", "incomplete") and answer.usage.output_tokens > 0
    events = list(CLIENT.responses.create(**settings, stream=True))
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text == events[-1].response.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    form = {"format": {"type": "json_schema", "name": "weather", "schema": SCHEMA}}
    # The client takes a stream without `response.completed` for a broken one, so one that is complete is searched for.
    sampled = settings | {"max_output_tokens": 90, "temperature": 1, "text": form}
    formed = ((seed, CLIENT.responses.create(**sampled, extra_body={"seed": seed})) for seed in range(40))
    seed, formed = next((seed, one) for seed, one in formed if one.status == "completed")
    assert json.loads(formed.output_text)["city"] in ("Delft", "Goes")
    with CLIENT.responses.stream(**sampled, extra_body={"seed": seed}) as stream:
        assert stream.get_final_response().output_text == formed.output_text


@check
def embeddings():
    # The client asks for base64 unless it is told otherwise.
    texts = ["De kat slaapt.", "Het regent."]
    answer = CLIENT.embeddings.create(model="encoder", input=texts)
    floats = CLIENT.embeddings.create(model="encoder", input=texts, encoding_format="float")
    assert [item.index for item in answer.data] == [0, 1] and answer.usage.prompt_tokens > 0
    for one, other in zip(answer.data, floats.data):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding)) < 1e-6
    assert CLIENT.embeddings.create(model="encoder", input=texts[0]).data[0].embedding == answer.data[0].embedding


@check
def errors():
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong", max_retries=0)
    refused(openai.AuthenticationError, stranger.models.list, code="invalid_api_key")
    refused(openai.NotFoundError, lambda: complete(model="gpt"), param="model", code="model_not_found")
    long = "kat " * 5000
    error = refused(openai.BadRequestError, lambda: complete(prompt=long), param="prompt", code=TOO_LONG)
    assert "maximum context length is" in str(error)
    refused(openai.BadRequestError, lambda: talk(messages=[{"role": "user", "content": long}]), param="messages", code=TOO_LONG)
    refused(openai.BadRequestError, lambda: CLIENT.responses.create(model="chat", input=long), param="input", code=TOO_LONG)
    for settings in {"temperature": -1}, {"n": 1_000_000}, {"stop": ""}, {"stop": [""]}, {"top_p": 1.5}, {"logprobs": 21}, \
            {"max_tokens": -1}, {"logit_bias": {"x": 1}}, {"frequency_penalty": 3}, {"best_of": 2}, {"suffix": "end"}:
        refused(openai.BadRequestError, lambda settings=settings: complete(**settings), param=next(iter(settings)))
    refused(openai.BadRequestError, lambda: complete(model="encoder"))
    refused(openai.BadRequestError, lambda: talk(model="encoder"))
    refused(openai.BadRequestError, lambda: talk(messages=[]))
    refused(openai.BadRequestError, lambda: complete(prompt=[10**6]), param="prompt")
    never = {"type": "string", "minLength": 2, "maxLength": 1}
    form = {"type": "json_schema", "json_schema": {"name": "never", "schema": never}}
    refused(openai.BadRequestError, lambda: talk(response_format=form), param="response_format")


def main():
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"openai: {name}: as expected")
        except Exception:
            failed += 1
            print(f"openai: {name}: FAILED\n{traceback.format_exc()}")
    sys.exit(min(failed, 1))


main()

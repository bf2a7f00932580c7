#!/usr/bin/env python3
"""Render chat templates with Python's Jinja2 into tests/golden/templates: what text/chat_template_test.cc expects.

    bench/peers/venv/bin/python tools/make_template_goldens.py [TEMPLATE_FOLDER]

TEMPLATE_FOLDER holds *.jinja (default ../shared/conformance/chat_templates); without it only the snippets are made.
"""
import json
import sys
from pathlib import Path

import jinja_reference
import template_snippets

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/templates"


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, call_id="abcdef123"):
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": arguments}}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Today's weather in a city; \"metric\" <b>units</b>.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city, e.g. Zürich or 서울"},
        "days": {"type": "integer", "enum": [1, 2, 3], "default": 1},
        "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]},
    "return": {"type": "object", "description": "temperature in °C"}}}
TORCH = {"type": "function", "function": {
    "name": "torch", "description": "Switches the torch.",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}}}
SPECIAL = "quotes ' \" and \\ back\\nslash\n\n\ttab <b>&amp; {{ not_code }} {% if %} {# x #} 👩‍👩‍👧 \u200b\u00a0é \r\n end  "

CONVERSATIONS = {
    "user": {"messages": [user("Hello!")]},
    "prompt": {"messages": [user("Hello!")], "add_generation_prompt": True},
    "system": {"messages": [system("Be brief."), user("Hi")], "add_generation_prompt": True},
    "turns": {"messages": [user("1+1?"), assistant("2"), user("And 2+2?"), assistant("4"), user("Thanks")],
              "add_generation_prompt": True},
    "system_turns": {"messages": [system("You are Thimble.\n"), user("a"), assistant("b"), user("c"), assistant("d")]},
    "korean": {"messages": [system("당신은 친절한 비서입니다."), user("안녕하세요? 오늘 날씨 어때요?"), assistant("맑고 따뜻합니다. 🌞"),
                            user("고마워요")], "add_generation_prompt": True},
    "korean_user": {"messages": [user("한국어로 대답해 줘"), assistant("네, 알겠습니다.")]},
    "none": {"messages": []},
    "none_prompt": {"messages": [], "add_generation_prompt": True},
    "empty_text": {"messages": [user(""), assistant(""), user(" \n ")], "add_generation_prompt": True},
    "special": {"messages": [user(SPECIAL), assistant(SPECIAL), user("ok")], "add_generation_prompt": True},
    "special_system": {"messages": [system(SPECIAL), user(SPECIAL)]},
    "think": {"messages": [user("Why?"), assistant("<think>\nLet me see\n</think>\n\nBecause."), user("Sure?"),
                           assistant("Yes.", reasoning_content="It is so.")]},
    "think_off": {"messages": [user("Why?")], "add_generation_prompt": True, "enable_thinking": False},
    "think_on": {"messages": [system("Custom. /no_think"), user("Why?")], "add_generation_prompt": True,
                 "enable_thinking": True},
    "tools": {"messages": [user("Torch on, please")], "tools": [TORCH, WEATHER], "add_generation_prompt": True},
    "tools_system": {"messages": [system("Use tools."), user("Weather in 서울?")], "tools": [WEATHER],
                     "add_generation_prompt": True},
    "tool_turns": {"messages": [
        user("Weather in Zürich?"), assistant("", tool_calls=[call("get_weather", {"city": "Zürich", "days": 2})]),
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef123", "content": "{\"celsius\": 21.5}"},
        assistant("21.5 °C"), user("Danke")], "tools": [WEATHER], "add_generation_prompt": True},
    "tool_none_content": {"messages": [
        user("Torch on"), {"role": "assistant", "content": None, "tool_calls": [call("torch", {"on": True})]},
        {"role": "tool", "name": "torch", "tool_call_id": "abcdef123", "content": {"ok": True}}], "tools": [TORCH],
        "add_generation_prompt": True},
    "tool_two_calls": {"messages": [
        user("Both"), assistant("Sure", tool_calls=[call("torch", {"on": False}), call("get_weather", {"city": "a\"b<c>"}, "xyzxyz789")]),
        {"role": "tool", "name": "torch", "tool_call_id": "abcdef123", "content": "done"},
        {"role": "tool", "name": "get_weather", "tool_call_id": "xyzxyz789", "content": "{\"t\": [1, 2.0, null]}"}],
        "tools": [TORCH, WEATHER], "add_generation_prompt": True},
    "tool_string_arguments": {"messages": [
        user("Torch"), assistant("", tool_calls=[call("torch", "{\"on\": true}")]),
        {"role": "tool", "name": "torch", "tool_call_id": "abcdef123", "content": "ok"}], "tools": [TORCH]},
    "tool_user_message": {"messages": [user("Hi")], "tools": [TORCH], "tools_in_user_message": False,
                          "date_string": "01 Jan 2025", "add_generation_prompt": True},
    "tool_bad_id": {"messages": [user("x"), assistant("", tool_calls=[call("torch", {"on": True}, "short")])],
                    "tools": [TORCH]},
    "builtin_tools": {"messages": [user("2**10?")], "builtin_tools": ["brave_search", "code_interpreter"],
                      "tools": [TORCH], "add_generation_prompt": True},
    "xml_tools": {"messages": [system("S"), user("u")], "xml_tools": ["<t/>"], "python_tools": ["def f(): ..."],
                  "add_generation_prompt": True},
    "not_alternating": {"messages": [user("a"), user("b")], "add_generation_prompt": True},
    "assistant_first": {"messages": [assistant("I start"), user("ok")]},
    "late_system": {"messages": [user("a"), system("late"), user("b")]},
    "unknown_role": {"messages": [user("a"), {"role": "narrator", "content": "b"}]},
    "no_content": {"messages": [{"role": "user"}]},
    "no_role": {"messages": [{"content": "x"}]},
    "parts": {"messages": [user([{"type": "text", "text": "part one"}, {"type": "text", "text": "two"}])]},
    "numbers": {"messages": [user(42), assistant(1.5)]},
    "odd_messages": {"messages": "text"},
    "keep_past": {"messages": [user("a"), assistant("<think>x</think>y"), user("b")], "keep_past_thinking": True},
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def dump(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), indent=0) + "\n", encoding="utf-8")


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/conformance/chat_templates"
    OUT.mkdir(parents=True, exist_ok=True)
    messages = CONVERSATIONS["system_turns"]["messages"]
    variables = {**template_snippets.VARIABLES, "messages": messages}
    dump("snippets.json", {"now": jinja_reference.NOW, "variables": variables, "cases": [
        {"source": source, **jinja_reference.render(source, variables)} for source in template_snippets.snippets()]})
    conversations = {name: {**TOKENS, **inputs} for name, inputs in CONVERSATIONS.items()}
    expected = {}
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        expected[path.name] = {name: jinja_reference.render(source, inputs) for name, inputs in conversations.items()}
    if expected:
        dump("conversations.json", {"now": jinja_reference.NOW, "conversations": conversations, "expected": expected})
    for name, results in expected.items():
        print(f"{name}: {sum('text' in r for r in results.values())} texts, {sum('text' not in r for r in results.values())} errors")


if __name__ == "__main__":
    main()

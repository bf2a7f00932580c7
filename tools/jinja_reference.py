"""Jinja2 as Transformers sets it up for chat templates: the reference of text/'s interpreter."""
import copy
import json
from datetime import datetime, timezone

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1753574400  # 2025-07-27 00:00:00 UTC, for strftime_now


class Generation(jinja2.ext.Extension):
    """{% generation %}, which marks what the assistant says and changes nothing in the text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


def _raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def _tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise_exception
    env.globals["strftime_now"] = lambda form: datetime.fromtimestamp(NOW, timezone.utc).replace(tzinfo=None).strftime(form)
    return env


ENVIRONMENT = environment()


def render(source, variables):
    """{"text": ...}, {"raised": message} from raise_exception, or {"error": what} for every other failure."""
    inputs = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False,
              "bos_token": "", "eos_token": "", **copy.deepcopy(variables)}
    try:
        text = ENVIRONMENT.from_string(source).render(**inputs)
        text.encode("utf-8")
        return {"text": text}
    except jinja2.exceptions.TemplateError as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"raised": str(error)}
        return {"error": f"{type(error).__name__}: {error}"}
    except Exception as error:  # whatever Python raises, the template has failed
        return {"error": f"{type(error).__name__}: {error}"}

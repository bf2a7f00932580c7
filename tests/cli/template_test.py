#!/usr/bin/env python3
"""`thimble template` prints the text that a chat template makes, and nothing else."""
import harness

MESSAGES = [{"role": "user", "content": "Hi 안녕"}, {"role": "assistant", "content": "Yes?\n"}]
TEMPLATE = """{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}{{ mood }}"""


class Template(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.template = self.write("chat.jinja", TEMPLATE)
        self.messages = self.write("messages.json", MESSAGES)

    def test_prints_the_text_and_nothing_else(self):
        self.assertEqual(self.thimble("template", self.template, "--messages", self.messages),
                         "<|user|>Hi 안녕<|assistant|>Yes?\n")

    def test_flags_reach_the_template(self):
        tools = self.write("tools.json", [{"name": "f"}])
        text = self.thimble("template", self.template, "--messages", self.messages, "--tools", tools, "--bos", "<s>",
                            "--eos", "</s>", "--add-generation-prompt", "--chat-template-kwargs", '{"mood": "fine"}')
        self.assertEqual(text, '<s><|user|>Hi 안녕</s><|assistant|>Yes?\n</s>[{"name": "f"}]<|assistant|>fine')

    def test_errors_name_the_file_and_the_line(self):
        bad = self.write("bad.jinja", "\n{% if %}")
        self.thimble_fails("template", bad, "--messages", self.messages, says=["bad.jinja", "line 2"])
        raising = self.write("raising.jinja", "{{ raise_exception('no system role') }}")
        self.thimble_fails("template", raising, "--messages", self.messages, says=["raising.jinja", "no system role"])
        self.thimble_fails("template", "absent.jinja", "--messages", self.messages, says="absent.jinja")
        self.thimble_fails("template", self.template, "--messages", "absent.json", says="absent.json")

    @harness.needs_smollm2
    def test_the_template_of_a_model(self):
        text = self.thimble("template", harness.SMOLLM2, "--messages", self.messages, "--add-generation-prompt")
        self.assertTrue(text.endswith("<|im_start|>user\nHi 안녕<|im_end|>\n<|im_start|>assistant\nYes?\n<|im_end|>\n"
                                      "<|im_start|>assistant\n"), text)


if __name__ == "__main__":
    harness.main()

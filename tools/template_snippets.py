"""Small templates for make_template_goldens.py: each shows one thing that templates do, or that fails."""

VARIABLES = {
    "name": "Ada", "empty": "", "n": 7, "zero": 0, "x": 2.5, "yes": True, "no": False, "nothing": None,
    "text": "  Hello, World!\n second line \t", "ko": "안녕하세요 세계", "html": "<a href=\"x\">Tom & 'Jerry'</a>",
    "emoji": "héllo 👋🏽 naïve", "words": ["pear", "Apple", "fig", "apple", "Banana"], "nums": [3, 1, 2, 10, -4],
    "mixed": [0, 1, "", "a", None, True, 2.0], "nested": [[1, [2, 3]], [4, []]],
    "d": {"b": 2, "a": 1, "C": 3, "items": "own"}, "people": [
        {"name": "Bob", "age": 30, "city": "Rome", "tags": ["x", "y"]}, {"name": "alice", "age": 25, "city": "Oslo"},
        {"name": "Carl", "age": 30, "city": "rome", "tags": []}],
    "deep": {"a": {"b": [{"c": "found"}]}},
    "tree": [{"v": 1, "kids": [{"v": 2, "kids": [{"v": 3, "kids": []}]}, {"v": 4, "kids": []}]}, {"v": 5, "kids": []}],
    "big": 12345678901234567890, "small": 1e-7, "huge": 1e22, "third": 0.1,
}

EXPRESSIONS = r"""
1
-7
1 + 2 * 3
(1 + 2) * 3
7 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
2 ** 10
2 ** -1
-2 ** 2
2 ** 3 ** 2
7.5 // 2
7.5 % 2
-7.5 % 2
1e3
1.5e-3
0x1F + 0b11 + 0o17
1_000_000
0.1 + 0.2
1 / 3
10 / 5
1e16
1e15
123456789.123456789
1e100
big
big + 1
small
huge
third
1 + 1.0
true + 1
True and False
1 and 0 and 2
0 or "" or "last"
not 0
not not "a"
1 < 2 < 3
1 < 3 < 2
1 == 1.0
"a" < "b"
"10" == 10
[1, 2] < [1, 3]
(1, 2) == (1, 2)
[1] == (1,)
{"a": 1} == {"a": 1.0}
none == none
1 != 2
"a" in "cat"
"a" not in "dog"
1 in [1, 2]
"a" in d
4 in range(0, 10, 2)
not 1 in [2]
"x" if yes else "y"
"x" if no
"x" if no else "y" if zero else "z"
1 if 2 if 0 else 3 else 4
"a" ~ 1 ~ none ~ true ~ 1.0 ~ [1]
"a" + "b"
"a" "b" 'c'
"ab" * 3
3 * "ab"
"ab" * -1
[1] + [2, 3]
[1, 2] * 2
(1,) + (2,)
()
(1,)
(1, 2)
[1, "a", none, true, 1.5]
{"a": 1, "b": [1, 2], 3: none}
["it's", 'say "hi"', "both ' and \"", "tab\t", "nl\n", "bs\\"]
["안녕", "👋", "\u00e9", "\x41", "\u200b"]
"\x41\u00e9\U0001F600\101\q"
'\'' ~ "\""
name
missing
missing is defined
missing or "fallback"
missing.x
missing()
missing + 1
missing == missing2
missing in [1]
missing ~ "!"
name.upper()
name.missing
name.missing.more
name["upper"]()
nums[0]
nums[-1]
nums[10]
nums[10].x
nums["0"]
nums.0
d.a
d["a"]
d["zzz"]
d.items()
d.keys()
d.values()
d.get("a")
d.get("q")
d.get("q", 5)
d["a"] is defined
deep.a.b[0].c
deep["a"]["b"][0]["c"]
deep.a.q.c
deep.q.c
nums[1:3]
nums[:2]
nums[-2:]
nums[::2]
nums[::-1]
nums[3:0:-1]
nums[5:1]
nums[-100:100]
nums[::-2]
name[::-1]
name[1:]
ko[0]
ko[-2:]
ko[::-1]
emoji[6]
ko|length
emoji|length
(1, 2, 3)[1:]
range(10)[2:8:3]|list
range(5)[-1]
nums[::0]
name[0:none]
range(3)
range(3)|list
range(2, 5)|list
range(10, 0, -3)|list
range(0)|list
range(1.5)
range(100001)
range(100000)|length
text|trim
text.strip()
text|trim|length
"xxaxx"|trim("x")
"xyaxy".strip("yx")
" a ".lstrip() ~ "|"
" a ".rstrip() ~ "|"
"a,b,,c".split(",")
"a b  c ".split()
"a b c d".split(" ", 2)
"a b c d".rsplit(" ", 1)
"a--b--c".split("--")
"".split()
"".split(",")
"abc".split("")
"a\nb\r\nc".splitlines()
"a\nb\n".splitlines(true)
"</think>x</think>y".split("</think>")[-1]
"a</think>\n\nb".split("</think>")[0].rstrip("\n")
"hello".startswith("he")
"hello".startswith(("x", "he"))
"hello".endswith("lo")
"hello".startswith("e", 1)
"hello".find("l")
"hello".rfind("l")
"hello".index("l")
"hello".index("z")
"hello".find("z")
"안녕하세요".find("하")
"hello".count("l")
"aaa".count("aa")
"abc".count("")
"hello".replace("l", "L")
"hello".replace("l", "L", 1)
"abc".replace("", "-")
"Hello".swapcase()
"hello world".title()
"they're here".title()
"HELLO".capitalize()
"hello".center(11, "*")
"hello".ljust(8) ~ "|"
"hello".rjust(8, ".")
"42".zfill(5)
"-42".zfill(5)
"a-b-c".partition("-")
"a-b-c".rpartition("-")
"abc".partition("-")
"prefix_x".removeprefix("prefix_")
"x.txt".removesuffix(".txt")
"abc".isalpha()
"123".isdigit()
"ab1".isalnum()
"  ".isspace()
"abc".islower()
"ABC".isupper()
"".isdigit()
"½".isdigit()
", ".join(["a", "b"])
"".join(("x", "y"))
"-".join("abc")
", ".join([1, 2])
"straße".upper()
"ß"|capitalize
"ŉ ǆ ﬁ"|upper
"ǆ ﬁ"|capitalize
"ΑΣ ΣΑΣ"|lower
"İ"|lower
"éa"|upper
"안녕 abc"|upper
"{} {}".format(1, "b")
"{0} {1} {0}".format("a", "b")
"{a} {b.c}".format(a=1, b={"c": 2})
"{a[x]}".format(a={"x": "y"})
"{:>5}|{:<5}|{:^5}".format("a", "b", "c")
"{:05d} {:+d} {:,}".format(42, 7, 1234567)
"{:.2f} {:e} {:g} {:%}".format(3.14159, 12345.678, 0.0001, 0.25)
"{:x} {:X} {:b} {:o} {:#x}".format(255, 255, 5, 8, 255)
"{!r} {!s}".format("a", "b")
"{{}}".format()
"{} {}".format(1)
"{:*^9}".format("mid")
"{:{}}".format("a", 4) ~ "|"
"%s and %s" % ("a", 1)
"%d %5.2f %x" % (42, 3.14159, 255)
"%(a)s-%(b)d" % {"a": "x", "b": 2}
"%s" % none
"%5s|%-5s|" % ("a", "b")
"%05d %+d" % (42, 7)
"%%"|format()
"%s %s"|format("a", "b")
"%(x)s"|format(x=1)
"%s" % (1, 2)
"%d" % "a"
"%r" % "a"
"%c%c" % ("a", 98)
name|upper
name|lower
"hELLO wORLD foo-bar (baz)"|title
"hELLO wORLD"|capitalize
5|upper
none|upper
missing|upper
name|replace("A", "B")
"aaa"|replace("a", "b", 2)
123|replace(2, "x")
words|join(", ")
words|join
nums|join("-")
people|join(", ", attribute="name")
[1, none, "a"]|join("|")
"abc"|join(".")
nothing|join
words|length
d|length
name|length
5|length
none|length
missing|length
words|count
words|first
words|last
[]|first
[]|last
name|first
name|last
d|first
d|last
range(5)|last
words|map("upper")|last
words|map("upper")|first
5|first
words|sort
words|sort(case_sensitive=true)
words|sort(reverse=true)
nums|sort
nums|sort(reverse=true)
people|sort(attribute="age")|map(attribute="name")|list
people|sort(attribute="age,name")|map(attribute="name")|list
people|sort(attribute="name", reverse=true)|map(attribute="name")|list
mixed|sort
words|unique|list
words|unique(case_sensitive=true)|list
[1, 1.0, true, 2]|unique|list
[[1], [1]]|unique|list
people|unique(attribute="age")|map(attribute="name")|list
nums|reverse|list
name|reverse
d|reverse|list
words|map("upper")|reverse|list
5|reverse
nums|sum
nums|sum(start=10)
people|sum(attribute="age")
[]|sum
["a"]|sum
[0.1, 0.2]|sum
[[1], [2]]|sum(start=[])
nums|min
nums|max
words|min
words|max
[]|min
people|max(attribute="age")
people|min(attribute="name")
words|max(case_sensitive=true)
["a", 1]|max
words|map("length")|list
words|map("replace", "p", "P")|list
words|map("nosuch")|list
people|map(attribute="name")|list
people|map(attribute="tags.0")|list
people|map(attribute="zip", default="none")|list
people|map(attribute="tags", default=[])|map("length")|list
words|map|list
none|map("upper")|list
mixed|select|list
mixed|reject|list
nums|select("odd")|list
nums|select("even")|list
nums|reject("greaterthan", 2)|list
nums|select("in", [1, 2])|list
nums|select(">", 1)|list
mixed|select("string")|list
mixed|select("none")|list
mixed|select("number")|list
mixed|select("boolean")|list
mixed|select("nosuch")|list
people|selectattr("tags")|map(attribute="name")|list
people|selectattr("age", "equalto", 30)|map(attribute="name")|list
people|selectattr("age", "==", 30)|list|length
people|rejectattr("age", "eq", 30)|map(attribute="name")|list
people|selectattr("tags", "defined")|list|length
people|selectattr("city", "in", ["Rome"])|map(attribute="name")|first
people|rejectattr("tags", "undefined")|list|length
people|selectattr|list
words|list
name|list
d|list
none|list
5|list
missing|list
name|default("z")
missing|default("z")
missing|default
empty|default("z")
empty|default("z", true)
none|default("z")
none|d("z", boolean=true)
missing.x|default("z")
people[0].zip|default("z")
deep.a.zz|default("q")
d|items|list
d|dictsort
d|dictsort(case_sensitive=true)
d|dictsort(reverse=true)
{"a": 3, "b": 1}|dictsort(by="value")
{"a": 3, "b": 1}|dictsort(false, "value", true)
d|dictsort(by="other")
[]|dictsort
missing|items|list
5|items|list
d|tojson
people|tojson
people|tojson(indent=2)
d|tojson(indent=4)
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}, [1, [2]]]|tojson(indent=1)
html|tojson
ko|tojson
emoji|tojson(ensure_ascii=true)
"\u0001\u001f\u007f\u2028\"\\/\b\f\n\r\t"|tojson
"\u007f👋"|tojson(ensure_ascii=true)
[1.0, 1e22, 1e-7, 0.1, 100000000000000000000.0, -0.0]|tojson
[true, false, none]|tojson
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
(1, 2)|tojson
d|tojson(separators=(",", ":"))
d|tojson(sort_keys=true)
d|tojson(indent=2, separators=(",", ": "))
d|tojson(indent="\t")
d|tojson(indent=0)
missing|tojson
range(3)|tojson
{"a": missing}|tojson
{(1, 2): 3}|tojson
"3"|int
"3.9"|int
"abc"|int
"abc"|int(5)
"0x1A"|int(base=16)
"ff"|int(0, 16)
"0b11"|int(base=0)
3.99|int
-3.99|int
true|int
none|int
[]|int(9)
" 42 "|int
"1_000"|int
missing|int
"1e3"|int
"3.5"|float
"abc"|float
"abc"|float(1.5)
"inf"|float
"nan"|float
3|float
none|float
missing|float
3.7|round
2.5|round
3.5|round
-2.5|round
3.14159|round(2)
2.675|round(2)
1234.5|round(-2)
5|round
15|round(-1)
25|round(-1)
3.2|round(0, "ceil")
3.7|round(0, "floor")
3.14159|round(2, "floor")
3.2|round(method="ceil")
3.2|round(method="other")
"a"|round
-5|abs
-5.5|abs
"a"|abs
true|abs
5|string
none|string ~ "!"
[1, "a"]|string
1.0|string
missing|string
html|escape
html|e
html|safe
html|escape|escape
html|forceescape
html|escape ~ "<"
html|escape + "<"
("<"|safe) + "<"
("<%s>"|safe) % "<"
("{}"|safe).format("<")
["<"|safe, "<"]
("<"|safe)|upper
"a b c"|wordcount
"안녕 하세요, foo_bar baz-qux!"|wordcount
nums|batch(2)|list
nums|batch(3, 0)|list
nums|slice(2)|list
nums|slice(3, "x")|list
[]|batch(2)|list
nums|slice(0)|list
people|groupby("age")|list|length
people|groupby("city")
people|groupby("city", case_sensitive=true)|map(attribute="grouper")|list
people|groupby("city")|map(attribute="list")|map("length")|list
people|groupby("zip", default="none")|map("first")|list
people|groupby("age")|map(attribute=0)|list
text|indent
text|indent(2, true)
"a\n\nb"|indent(2)
"a\n\nb"|indent(2, blank=true)
"a\nb"|indent("> ", true)
5|indent
"hello world foo"|truncate(9)
"hello world foo"|truncate(9, true)
"hello world foo"|truncate(5, true, "", 0)
"hello"|truncate(2)
"abc"|center(9) ~ "|"
"a b&c/d=é"|urlencode
{"a b": "c&d", "e": 1}|urlencode
d|attr("a")
name|nosuch
name is nosuch
1 is odd
2 is even
9 is divisibleby 3
9 is divisibleby(4)
name is string
5 is string
d is mapping
nums is mapping
nums is iterable
5 is iterable
name is iterable
none is iterable
nums is sequence
d is sequence
name is sequence
5 is sequence
missing is sequence
missing is iterable
5 is number
5.0 is number
true is number
"5" is number
true is boolean
1 is boolean
5 is integer
true is integer
5.0 is float
5 is float
none is none
missing is none
missing is undefined
name is defined
nothing is defined
true is true
1 is true
false is false
1 is sameas 1
none is sameas none
name is eq "Ada"
name is equalto("Ada")
name == "Ada" is true
5 is gt 3
5 is lt(3)
5 is ne 5
5 is ge 5 and 5 is le 5
1 is in [1, 2]
1 is not in [1, 2]
5 is not odd
name is lower
"abc" is lower
"ABC" is upper
range is callable
name is callable
("a"|safe) is escaped
"a" is escaped
"upper" is filter
"nosuch" is filter
"odd" is test
"a" is odd
none is odd
missing is odd
name is defined and name|length == 3
nums|length > 3 and nums[0] == 3
not name is defined
-nums|length
-nums[0]
-5|abs
(-5)|abs
+5
-"a"
1 + "a"
"a" + 1
"a" - "b"
1 / 0
1 // 0
1 % 0
1.0 / 0
none + 1
[] + ()
none < 1
"a" < 1
1 in 5
1 in "123"
1 < missing
{}[[]]
{[]: 1}
d.items.x
name()
5()
d.pop("a")
nums.append(1)
nums.sort()
d.update({"a": 2})
d.copy()
nums.index(2)
nums.index(99)
nums.count(2)
name.__class__
name.__class__.__mro__
d.__class__
name.format.__globals__
"{0.__class__}".format(1)
"{0.__class__.__mro__}".format(1)
namespace(a=1)
namespace(a=1).a
namespace({"a": 2}).a
namespace(a=1).b
dict(a=1, b=2)
dict([("a", 1)])
dict({"a": 1}, b=2)
dict(a=1).a
cycler("a", "b").next()
joiner("|")() ~ "x"
raise_exception("no way")
raise_exception("a 'b' " ~ 5)
strftime_now("%Y-%m-%d")
strftime_now("%d %b %Y %H:%M:%S %j %A %B")
strftime_now("%-d/%-m %% %e %I %p %f")
1, 2
1,
(1, 2)|first
[[1, 2], [3, 4]]|map("first")|list
[[1, 2], [3, 4]]|map("join", "+")|list
nums|map("string")|map("replace", "1", "x")|join(",")
"a" if missing is defined else "b"
none or d.get("x") or "z"
d.get("x") is none
"a\
b"
"안녕" < "안녕하"
"😀" > "z"
[1, [2, "x"]] == [1, [2, "x"]]
nested[0][1][1]
nested|string
{"a": {"b": {"c": 1}}}.a.b.c
[1, 2, 3,]
{"a": 1,}
[,]
{1 2}
1 +
)
"abc
1 2
a b
@
x.1.2
1.upper()
"a".upper().lower().title()
(name ~ "!")|upper|lower|replace("a", "b")
{"x": 1}.x
"%s" % [1, 2]
"%s-%s" % (name, n)
x|string
x|int + n
true == 1
true is sameas 1
1 is sameas true
[true] == [1]
1.0 == true
0.0 == -0.0
-0.0
1e400
"nan"|float == "nan"|float
nothing.x
nothing["x"]
nothing[0]
n.x
n[0]
yes.x
"abc"[1.0]
nums[true]
nums[none]
d[none]
d[1]
{1: "a"}[1.0]
{true: "a"}[1]
{"a": 1, "a": 2}
""|length == 0
[none]|length
name|string|length
name is string and n is number and d is mapping
people[0]["name"] ~ " is " ~ people[0].age
people|map(attribute="age")|sum / people|length
"yes" if people|selectattr("age", "gt", 29)|list else "no"
"yes" if people|selectattr("age", "gt", 99)|list|length > 0 else "no"
("a", "b") is sequence
(1, 2)|list
(1, 2)|length
"abc"|list|reverse|join
words|sort|first|upper
words|batch(2)|map("join", "-")|join(";")
words|join(d="+")
d|map("upper")|list
d|join(",")
"x" * 5 ~ "y"
10 - 2 - 3
2 * 3 % 4
100 // 7 // 2
1 - -1
1 --1
not 1 == 2
not (1 == 2)
(not 1) == 2
1 < 2 and 2 < 3 or false
1 if 1 else 2 if 0 else 3
(1 if 0 else 2) + 1
[1 if yes else 2, 3]
{"k" ~ 1: "v"}
d.values()|list
d.keys()|list
d.items()|list
d.items()|list|first|first
dict(d.items())|length
dict(d, z=9)|tojson
d.keys()|join(",")
d.values()|sum
d.values()|sort
"a" in d.keys()
1 in d.values()
("a", 1) in d.items()
d.keys() == {"a": 0, "b": 0, "C": 0}.keys()
d.items()|length
namespace(x=[1]).x[0]
name.upper is defined
name.upper is callable
[1, 2]|string|length
"[]"|string == []|string
loop
varargs
caller()
""" .strip("\n").split("\n")

TEMPLATES = [
    "", "plain", "a\n", "a\n\n", "\na", "{{ 1 }}\n", "{{ 1 }}\n\n", "a\r\nb\rc\n", "{# note #}x", "a{# note #}\nb",
    "a {#- note -#} b", "a\n  {# note #}\nb", "{#", "{# {{ x }} {% if %} #}y", "{{ '}}' }}", "{{ \"{{\" }}", "{ { } }",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "{% raw %}", "  {% raw %}\n x\n  {% endraw %}\ny",
    "{% if yes %}a{% endif %}", "{% if no %}a{% endif %}", "{% if no %}a{% else %}b{% endif %}",
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% elif zero %}c{% else %}d{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}", "{% if missing.x %}a{% endif %}", "{% if yes %}", "{% endif %}", "{% if %}x{% endif %}", "{% nosuch %}",
    "{% if yes %}\nline\n{% endif %}\nend", "  {% if yes %}\n  line\n  {% endif %}\nend", "a\n  {%- if yes %}\n  x\n  {%- endif %}\nb",
    "a   {%- if yes -%}   b   {%- endif -%}   c", "a\n\n\t {%- if yes -%}\n\n b {% endif %} c", "  {%+ if yes %}x{% endif %}", "{% if yes +%}\nx{% endif %}",
    "{{- 1 -}}  x  {{- 2 }}", "a\n{{- 1 }}\n  b", "  {{ 1 }}", "x {% if yes %} y {% endif %} z", "x\n   {% if yes %}y{% endif %}   \nz",
    "\u00a0{%- if yes %}a{% endif %}", "{%if yes%}a{%endif%}", "{%-if yes-%} a {%-endif-%}", "{% if yes: %}a{% endif %}",
    "{% for i in nums %}{{ i }},{% endfor %}", "{% for i in [] %}{{ i }}{% else %}none{% endfor %}", "{% for i in nums %}x{% else %}none{% endfor %}",
    "{% for i in missing %}x{% else %}none{% endfor %}", "{% for i in none %}x{% endfor %}", "{% for i in 5 %}x{% endfor %}", "{% for c in ko %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}", "{% for a, b in [(1, 2, 3)] %}x{% endfor %}",
    "{% for a, b in [(1,)] %}x{% endfor %}", "{% for a, b in nums %}x{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in ['xy', 'zw'] %}{{ b }}{{ a }}{% endfor %}",
    "{% for i in nums if i > 1 %}{{ loop.index }}:{{ i }} {% endfor %}", "{% for i in nums if i > 100 %}x{% else %}none{% endfor %}", "{% for i in nums if i is odd %}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for i in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for i in nums %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}", "{% for i in nums %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}", "{% for i in nums %}{{ loop.previtem + 1 }}{% endfor %}",
    "{% for i in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in nums %}{{ loop.cycle() }}{% endfor %}", "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }} {% endfor %}", "{% for i in nums %}{{ loop.changed(i, 1) }} {% endfor %}",
    "{% for i in nums|map('string') %}{{ loop.length }}{{ i }}{{ loop.revindex }} {% endfor %}", "{% for i in nums|select('odd') %}{{ loop.last }}{{ i }} {% endfor %}", "{% for i in nums|batch(2) %}{{ i|join('+') }};{% endfor %}",
    "{% for i in nums %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in nums %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in nums %}{% break %}{% else %}e{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [1, 2, 3] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}|{% endfor %}", "{% break %}", "{% continue %}",
    "{% for i in [1, 2] %}{% set outer = loop %}{% for j in 'ab' %}{{ outer.index }}{{ loop.index }}{{ j }} {% endfor %}{% endfor %}", "{% for i in [1] %}{{ loop.nosuch }}|{{ loop.nosuch.x }}{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}{% if n.kids %}({{ loop(n.kids) }}){% endif %}{% endfor %}", "{% for n in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}:{{ n.v }} {{ loop(n.kids) }}{% else %}-{% endfor %}", "{% for i in nums %}{{ loop(i) }}{% endfor %}",
    "{% for i in nums %}{% endfor %}{{ i }}", "{% set i = 'kept' %}{% for i in nums %}{% endfor %}{{ i }}", "{% set s = 0 %}{% for i in nums %}{% set s = s + i %}{{ s }} {% endfor %}{{ s }}",
    "{% set ns = namespace(s=0) %}{% for i in nums %}{% set ns.s = ns.s + i %}{% endfor %}{{ ns.s }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}", "{% set ns = namespace(found=false) %}{% for p in people %}{% if p.age == 25 %}{% set ns.found = p.name %}{% endif %}{% endfor %}{{ ns.found }}",
    "{% set d.a = 1 %}", "{% set missing.a = 1 %}", "{% set ns = namespace(a=1) %}{% set ns.a, b = 5, 6 %}{{ ns.a }}{{ b }}", "{% set ns = namespace(l=[]) %}{% for i in nums %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l }}",
    "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 'xy' %}{{ a }}{{ b }}", "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set a = 1, 2 %}{{ a }}", "{% set (a, b) = (1, 2) %}{{ b }}", "{% set a = b = 1 %}", "{% set 5 = 1 %}", "{% set true = 1 %}", "{% set a.b.c = 1 %}",
    "{% set a %}x{{ 1 }}y{% endset %}[{{ a }}]", "{% set a | upper %}x{{ 'b' }}{% endset %}{{ a }}", "{% set a | upper | replace('X', '-') %}xyx{% endset %}{{ a }}", "{% set a %}{% set b = 1 %}{% endset %}{{ b }}", "{% set a %}{% endset %}{{ a is string }}{{ a|length }}",
    "{% if yes %}{% set a = 1 %}{% endif %}{{ a }}", "{% if no %}{% set a = 1 %}{% endif %}{{ a is defined }}", "{{ a }}{% set a = 1 %}{{ a }}", "{% set name = name ~ '!' %}{{ name }}", "{% set name = 'x' %}{% for i in [1] %}{{ name }}{% set name = 'y' %}{{ name }}{% endfor %}{{ name }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with a, b = 1, 2 %}{% endwith %}",
    "{% filter upper %}a{{ name }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}", "{% filter trim %}  x  {% endfilter %}|", "{% filter nosuch %}x{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter upper %}{% set z = 1 %}{% endfilter %}{{ z }}",
    "{% macro m() %}x{% endmacro %}{{ m() }}{{ m() }}", "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "{% macro m(a) %}[{{ a.x }}]{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=2) }}", "{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}", "{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(x=1, y=2) }}", "{% macro m(a, a2) %}{{ a }}{{ varargs|length }}{{ kwargs|length }}{% endmacro %}{{ m(1, 2, 3, z=1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% set b = 9 %}{% macro m(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(a, a) %}{{ a }}{% endmacro %}", "{% macro m(5) %}{% endmacro %}",
    "{% set g = 1 %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 2 %}{{ m() }}", "{% macro m() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ m() }}", "{% macro m() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ m() }}{{ q }}", "{{ m() }}{% macro m() %}{% endmacro %}", "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * fact(n - 1)|int }}{% endif %}{% endmacro %}{{ fact(10) }}", "{% macro a(n) %}{% if n %}{{ b(n - 1) }}a{% endif %}{% endmacro %}{% macro b(n) %}{% if n %}{{ a(n - 1) }}b{% endif %}{% endmacro %}{{ a(5) }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}-{{ b }}{% endcall %}", "{% macro m(x) %}{{ x }}{{ caller() }}{% endmacro %}{% call m('p') %}{{ name }}{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro m() %}{% if caller is defined %}c{% endif %}{{ caller }}{% endmacro %}{{ m() }}", "{% macro m(n) %}{{ n }}{% if n %}{% call m(n - 1) %}{% endcall %}{% endif %}{{ caller is defined }}{% endmacro %}{{ m(2) }}", "{% call name() %}{% endcall %}", "{% call 5 %}{% endcall %}", "{% macro m(caller=none) %}{{ caller() }}{% endmacro %}{% call m() %}q{% endcall %}",
    "{% macro m(a, b) %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}{% endmacro %}{{ m() }}{{ m }}", "{% macro m() %}  x  {% endmacro %}{{ m()|trim }}|{{ m()|length }}", "{% macro m(*a) %}{% endmacro %}", "{% macro m() %}a{% endmacro %}{{ m is callable }}{{ m ~ '' }}",
    "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(1, **{'b': 2}) }}", "{% macro m(a) %}{% endmacro %}{{ m(a=1, a=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(a=1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(**{'a': 1}, **{'b': 1}) }}", "{{ dict(**{'a': 1}) }}{{ dict(a=1, **{'b': 2}) }}", "{{ dict(a=1, **{'a': 2}) }}", "{{ dict(**5) }}", "{{ range(*[1, 4])|list }}", "{{ range(*5) }}",
    "{% generation %}x{{ name }}{% endgeneration %}", "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}", "{% for m in people %}{% generation %}{{ m.name }}{{ loop.index }}{% endgeneration %}\n{% endfor %}", "{% generation %}", "  {% generation %}\n  a\n  {% endgeneration %}\nb",
    "{% block b %}x{{ name }}{% endblock %}", "{% block b %}x{% endblock b %}", "{% print 1, 2 %}", "{% print name %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% do x %}",
    "{% set j = joiner(', ') %}{% for i in nums %}{{ j() }}{{ i }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set _ = c.reset() %}{{ c.next() }}", "{{ cycler() }}",
    "{% set ns = namespace(a=1) %}{{ ns['a'] }}{{ ns.a is defined }}{{ ns.b is defined }}{{ ns }}", "{% set ns = namespace(a=namespace(b=1)) %}{{ ns.a.b }}", "{% set ns = namespace() %}{% set ns.x %}body{% endset %}{{ ns.x }}", "{% for ns.a in nums %}{% endfor %}",
    "{% if messages[0]['role'] == 'system' %}a{% else %}b{% endif %}", "{{ messages|length }}{{ tools is none }}{{ add_generation_prompt }}{{ bos_token }}|", "{{ messages[0] }}", "{{ messages[0].role }}", "{{ documents is defined }}",
    "{{ raise_exception('x') if no }}ok", "{% if no %}{{ raise_exception('x') }}{% endif %}ok", "{{ 1 if no else raise_exception('stop: ' ~ name) }}", "{{ raise_exception() }}", "{{ raise_exception(none) }}",
    "{{ '{%' }}{{ '%}' }}{{ '#}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}}}", "{{ {'a':1}['a'] }}", "{{ [[1]] [0] [0] }}", "{{ nums [0] }}", "{{ name . upper () }}", "{{ name\n|\nupper }}", "{%\nif\nyes\n%}a{%\nendif\n%}",
    "{{ }}", "{{", "{{ 1", "{{ 1 }", "{% if yes %", "}} %} #}", "{{ 1 }}}", "{{{1}}}", "{{ (1 }}", "{{ [1) }}", "{{ 'a }}", "{{ 1 if }}", "{{ if }}", "{{ for }}", "{{ not }}", "{{ a. }}", "{{ a[ }}", "{{ a[] }}", "{{ a| }}", "{{ a is }}", "{{ f(a b) }}", "{{ 1 == }}", "{{ == 1 }}", "{{ *a }}", "{{ a ** }}", "{{ 'a' is string is string }}", "{{ a = 1 }}", "{{ lambda: 1 }}", "{{ a ? b : c }}", "{{ a && b }}", "{{ !a }}", "{{ a; b }}", "{{ $x }}", "{{ 0123 }}", "{{ 1__0 }}", "{{ 1_ }}", "{{ .5 }}", "{{ 5. }}", "{{ 1.5.5 }}", "{{ 'é' }}{{ é }}", "{% set é = 1 %}{{ é }}", "{{ 변수 }}", "{% set 변수 = 1 %}{{ 변수 + 1 }}", "{{ \"\\u12\" }}", "{{ '\\\\n' }}", "{{ 'a\nb' }}",
    "{% for m in people %}{{ '<|' ~ m.name ~ '|>\n' }}{{ m.city|trim + '\n' }}{% endfor %}{% if not add_generation_prompt %}end{% endif %}",
    "{%- for p in people -%}\n  {{- p.name }}\n  {%- if not loop.last %}, {% endif -%}\n{%- endfor -%}\n!", "{% for p in people %}\n  {% if p.tags is defined and p.tags %}\n    - {{ p.name }}\n  {% endif %}\n{% endfor %}\nend",
    "{%- set system = 'x' if yes else '' %}\n{{- system }}\n\n  text\n{%- if no %}a{%- else %}\n  b {%- endif %}\n", "{% for i in range(3) %}{% for j in range(i) %}{{ i * j }}{% if not loop.last %},{% endif %}{% endfor %}{% if not loop.last %};{% endif %}{% endfor %}",
    "{% set l = [] %}{% for i in nums %}{% set l = l + [i * 2] %}{% endfor %}{{ l }}", "{% set x = nums|first %}{% set nums = nums[1:] %}{{ x }}{{ nums }}", "{% for i in nums[::-1] %}{{ i }}{% set last = i %}{% endfor %}{{ last is defined }}", "{% for i in range(1, 4) %}{{ '%02d'|format(i) }} {% endfor %}",
    "{% set q = {'a': [1, {'b': 2}]} %}{{ q.a[1].b }}{{ q['a'][1]['b'] }}{{ q.a.1.b }}", "{% macro show(v) %}{% if v is mapping %}{ {%- for k, w in v.items() %}{{ k }}:{{ show(w) }}{% endfor %} }{% elif v is string %}{{ v }}{% elif v is iterable %}[{% for w in v %}{{ show(w) }} {% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{{ show(people[0]) }}{{ show(deep) }}",
]


def snippets():
    return [f"{{{{ {expression} }}}}" for expression in EXPRESSIONS] + TEMPLATES

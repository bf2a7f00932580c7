#!/usr/bin/env python3
"""Makes phone commands in everyday words, each with its answer as compact JSON, to train an adapter and to score it.

  tools/make_phone_commands.py OUT-DIR [--train 2500] [--heldout 200] [--seed 7]

Writes OUT-DIR/train.jsonl and OUT-DIR/heldout.jsonl, one {"messages": [system, user, assistant], "unseen": ...} a line.

What a score on the held-out part measures: a sixth of the phrasings and a quarter of the values of every open slot
(names, places, times, texts, ...) never occur in the training part. One half of the held-out part ("unseen":
"phrasing") is worded in held-out phrasings, the other half ("unseen": "values") is filled with held-out values only.
Actions, fields, and the words for on/off and days are the same in both parts. No held-out command occurs in the
training part, whatever its case and punctuation. The same seed gives the same bytes on every machine.
"""
import argparse
import json
import pathlib
import random
import re
import sys

SYSTEM = "Turn the phone command into JSON."
HELD_OUT_PHRASINGS, HELD_OUT_VALUES = 1 / 6, 1 / 4

# The grammar. In a phrasing: (a|b) is a choice, (a|) may be left out, {slot} is filled from SLOTS, and a leading
# "!" marks an order that polite words may surround ("could you ... please").
TOGGLE_ON = [
    "!(turn|switch) on {noun}", "!(turn|switch) {noun} on", "{noun} on", "!(enable|activate) {noun}", "!put {noun} on",
    "I (want|need) {noun} on", "I'd like to have {noun} on", "!make sure {noun} is on", "!start {noun}",
    "can I have {noun} on", "(time|it's time) to turn on {noun}", "!get {noun} (on|running|going)",
    "{noun} should be on", "!go ahead and turn on {noun}", "!let's have {noun} on", "!set {noun} to on",
    "!turn {noun} back on", "{noun} on (again|now)",
]
TOGGLE_OFF = [
    "!(turn|switch) off {noun}", "!(turn|switch) {noun} off", "{noun} off", "!(disable|deactivate) {noun}",
    "I (want|need) {noun} off", "I don't need {noun} (anymore|any more|now)", "!make sure {noun} is off", "!stop {noun}",
    "can I have {noun} off", "(time|it's time) to turn off {noun}", "no more {noun}", "!shut off {noun}",
    "{noun} should be off", "!go ahead and turn off {noun}", "!let's have {noun} off", "!set {noun} to off",
    "!turn {noun} back off", "{noun} off (again|now)",
]
TOGGLES = {
    "set_torch": ["(the|my|) torch", "(the|my|) flashlight", "the light of the phone"],
    "set_wifi": ["(the|my|) wifi", "(the|) Wi-Fi"],
    "set_bluetooth": ["(my|) bluetooth", "the bluetooth"],
    "set_airplane_mode": ["(the|) airplane mode", "flight mode"],
    "set_dark_mode": ["(the|) dark mode", "the dark theme", "night theme"],
    "set_do_not_disturb": ["do not disturb", "(the|) do not disturb mode"],
}

CALL = [
    "!call {callee}", "!ring {callee}", "!phone {callee}", "!give {callee} a (call|ring)", "!call {callee} on the phone",
    "!get {callee} on the (phone|line)", "I (want|need|have) to (call|speak to|talk to) {callee}", "!dial {callee}",
    "!make a call to {callee}", "!start a call with {callee}", "!put me through to {callee}", "!connect me with {callee}",
    "!place a call to {callee}", "call to {callee}", "!reach {callee} by phone", "I'd like to be connected with {callee}",
    "!connect me to {callee}", "!call up {callee}",
]
# (action, fixed fields, phrasings). A slot's value goes into the field of its name (see say()).
RULES = [
    ("set_alarm", {}, [
        "!wake me (up|) at {time}", "!wake me (up|) {day} at {time}", "!set an alarm for {time}", "alarm at {time}",
        "!set an alarm for {time} {day}", "I (have|need) to (be up|get up) at {time}", "!give me an alarm at {time}",
        "!create an alarm for {day} at {time}", "I want to (get up|wake up) at {time} {day}", "{time} alarm",
        "!make the alarm ring at {time}", "I need an alarm {day} at {time}", "!ring me awake at {time}",
        "!put an alarm on {time} for {day}", "{day} {time}, alarm", "don't let me sleep past {time}"]),
    ("set_timer", {}, [
        "!set a timer for {duration}", "!start a {duration} timer", "timer (for|of|) {duration}", "{duration} timer",
        "!count down {duration}", "!time {duration}", "I need a timer for {duration}", "!give me {duration} on the timer",
        "!let me know when {duration} (have passed|are over|are up)", "!start a countdown of {duration}",
        "!run the timer for {duration}", "!put {duration} on the clock", "countdown, {duration}"]),
    ("send_message", {}, [
        "!text {name} that {text}", "!tell {name} that {text}", "!message {name}: {text}", "!tell {name} {text}",
        "!send a message to {name} saying {text}", "!let {name} know that {text}", "!send {name} a text: {text}",
        "!send {name} a message that {text}", "!write to {name} that {text}", "text to {name}: {text}",
        "!write {name} a message: {text}", "!drop {name} a line that {text}", "message for {name}, {text}",
        "!say to {name} that {text}", "!text {name} {text}", "!inform {name} that {text}"]),
    ("set_volume", {}, [
        "!set the volume to {percent}", "!turn the volume to {percent}", "volume (at|to|) {percent}", "{percent} volume",
        "!put the (volume|sound) at {percent}", "!change the (volume|sound) to {percent}", "I want the volume at {percent}",
        "!make the volume {percent}", "!bring the (volume|sound) to {percent}", "sound level {percent}"]),
    ("change_volume", {"direction": "up"}, [
        "!turn (it|the volume|the sound|the music) up", "louder", "!make it louder",
        "!turn up the (volume|sound|music)", "volume up", "!raise the volume", "this is too quiet",
        "a bit louder", "!increase the (volume|sound)", "more volume", "!turn it up a (bit|little)",
        "!put the volume up", "I need it louder", "it should be louder", "the volume is too low", "!make this louder"]),
    ("change_volume", {"direction": "down"}, [
        "!turn (it|the volume|the sound|the music) down", "quieter", "!make it quieter", "this is too loud",
        "!turn down the (volume|sound|music)", "volume down", "!lower the volume", "it's way too loud",
        "a bit quieter", "!decrease the (volume|sound)", "less volume", "!make it less loud",
        "!put the volume down", "I need it quieter", "it should be quieter", "the volume is too high", "!make this quieter"]),
    ("set_brightness", {}, [
        "!set the brightness to {percent}", "!turn the brightness to {percent}", "brightness (at|to|) {percent}",
        "!make the (screen|display) {percent} bright", "screen brightness {percent}", "{percent} brightness",
        "!put the brightness at {percent}", "!change the screen brightness to {percent}", "I want {percent} brightness",
        "!dim the (screen|display) to {percent}", "!bring the brightness to {percent}"]),
    ("open_app", {}, [
        "!open {app}", "!launch {app}", "!start {app}", "!open the {app} app", "!show me {app}", "!go to {app}",
        "!start the {app} app", "I (want|need) to use {app}", "!bring up {app}", "!run {app}", "!switch to {app}",
        "!open up {app}", "I'd like to open {app}", "!fire up {app}", "!take me to the {app} app", "{app} app",
        "!pull up the {app} app", "!let me see {app}", "!get {app} open", "the {app} app", "!bring the {app} app up"]),
    ("play_music", {}, [
        "!play (some|me some|a little|) {music}", "!put on (some|) {music}", "!start playing {music}",
        "I (want|would like) to (hear|listen to) {music}", "!let me hear {music}", "{music}, play it",
        "play music: {music}", "I'm in the mood for {music}", "!put {music} on", "how about (some|) {music}",
        "!let's listen to {music}", "!stream (some|) {music}"]),
    ("media", {"command": "pause"}, [
        "!pause (the music|the song|it|this|)", "!stop the music", "!hold the music", "music off", "!pause playback",
        "!stop playing", "!make the music stop", "!interrupt the music",
        "!pause my music", "pause, please", "!stop (the|this) song", "no more music"]),
    ("media", {"command": "next"}, [
        "!skip (this|it|this song|this track)", "next (song|track)", "!play the next (song|track|one)",
        "I don't like this song, next", "!go to the next (song|track)", "!skip ahead", "another (song|track)",
        "!skip to the next (song|track)", "!give me the next (song|track)", "!jump to the next (song|track)", "!change the song"]),
    ("media", {"command": "previous"}, [
        "previous (song|track)", "!play the (last|previous) (song|track) again", "!go back (one|a) (song|track)",
        "!go to the previous (song|track)", "back to the (last|previous) song", "!play the one before",
        "the (song|track) before this one", "!repeat the last (song|track)", "!jump back (one|a) (song|track)",
        "!give me the previous (song|track)"]),
    ("navigate", {}, [
        "!navigate to {place}", "!take me to {place}", "!show me the way to {place}", "how do I get to {place}",
        "directions to {place}", "!give me directions to {place}", "!guide me to {place}", "route to {place}",
        "I (want|need|have) to (go|get) to {place}", "!bring me to {place}", "!find the way to {place}",
        "!drive me to {place}", "what's the (best|fastest) way to {place}", "!start navigation to {place}",
        "I'm lost, how do I get to {place}", "!plan a route to {place}", "!lead me to {place}"]),
    ("take_photo", {"camera": "front"}, [
        "!take a selfie", "selfie", "!take a (photo|picture) of me", "I want (a|to take a) selfie", "!shoot a selfie",
        "!take a (photo|picture) with the front camera", "!snap a selfie", "front camera (photo|picture)",
        "!make a selfie", "I need a selfie", "a selfie of us", "!use the front camera for a (photo|picture)"]),
    ("take_photo", {"camera": "back"}, [
        "!take a (photo|picture)", "!shoot a (photo|picture)", "!snap a (photo|picture)", "I want to take a (photo|picture)",
        "!take a (photo|picture) of (this|that|us|the view)", "!take a (photo|picture) with the (back|rear|main) camera",
        "!capture (this|that)", "one (photo|picture)",
        "!make a (photo|picture)", "I need a (photo|picture) of this", "!use the back camera for a (photo|picture)"]),
    ("take_screenshot", {}, [
        "!take a screenshot", "screenshot", "!capture the screen", "!make a screenshot", "!save (the|this|my) screen as a picture",
        "I need a screenshot", "!grab (the|this|my) screen", "!screenshot this"]),
    ("set_reminder", {}, [
        "!remind me to {task} at {time}", "!remind me at {time} to {task}", "!remind me {day} to {task}",
        "!remind me to {task} {day}", "!set a reminder to {task} at {time}", "at {time} remind me to {task}",
        "!set a reminder for {time} to {task}", "!don't let me forget to {task} {day}", "reminder {day}: {task}",
        "I need to {task} at {time}, remind me", "I have to {task} {day}, remind me", "reminder at {time}: {task}",
        "!create a reminder for {day} to {task}", "{day} I must {task}, remind me", "!make a reminder to {task} {day}"]),
    ("add_event", {}, [
        "!add {title} to my calendar {day} at {time}", "!put {title} in my calendar for {day} at {time}",
        "!schedule {title} for {day} at {time}", "!create an event {day} at {time}: {title}", "!book {title} {day} at {time}",
        "I have {title} {day} at {time}, add it to my calendar", "new event {day} {time}: {title}",
        "!add an appointment {day} at {time}: {title}", "!note {title} {day} at {time} in the calendar",
        "calendar: {title} {day} at {time}", "!plan {title} {day} at {time}", "!enter {title} for {day} at {time}"]),
    ("translate", {}, [
        "!translate {phrase} into {language}", "!translate {phrase} to {language}", "how do you say {phrase} in {language}",
        "what is {phrase} in {language}", "how do I say {phrase} in {language}", "!say {phrase} in {language}",
        "what's {language} for {phrase}", "!tell me how to say {phrase} in {language}", "{language} for {phrase}",
        "!put {phrase} into {language}", "{phrase} in {language}", "I need to say {phrase} in {language}"]),
    ("get_weather", {}, [
        "what's the weather (like|) in {city} {day}", "weather in {city} {day}", "how is the weather in {city} {day}",
        "will it rain in {city} {day}", "do I need an umbrella {day} in {city}", "!show me the weather for {city} {day}",
        "{city} weather {day}", "what will the weather be in {city} {day}", "!check the weather in {city} for {day}",
        "is it (sunny|cold|warm) in {city} {day}", "!give me the forecast for {city} {day}", "forecast {city} {day}"]),
    ("web_search", {}, [
        "!search (the web|online|) for {query}", "!google {query}", "!look up {query}", "!search {query}",
        "!find out about {query}", "I want to know more about {query}", "!look for {query} (online|on the internet)",
        "!do a (web|) search for {query}", "web search: {query}", "!see what the internet says about {query}"]),
]

FIELDS = ["on", "time", "day", "amount", "unit", "name", "number", "percent", "direction", "app", "query", "command",
          "place", "camera", "text", "title", "language", "city"]

# Values as they are answered.
WORDS = {
    "name": """Anna Ben Carlos Dana Elena Felix Grace Hannah Ivan Julia Kevin Laura Marco Nina Oscar Paula Quentin Rosa
        Sam Tina Uma Victor Wendy Yusuf Zoe Mom Dad Grandma Minji Hiroshi Fatima Liam Olivia Noah Emma Mateo Sofia
        Arjun Priya Chen Aisha Daniel Peter Martha Tom Lucy Henry Alice Jack Maria Omar Ingrid Sven Chloe""".split(),
    "city": """Paris London Berlin Madrid Rome Vienna Tokyo Seoul Sydney Chicago Boston Toronto Dublin Oslo Lisbon Athens
        Cairo Mumbai Lima Prague Denver Seattle Munich Hamburg Zurich Geneva Milan Warsaw Budapest Helsinki Miami
        Austin Dallas Nairobi Bangkok""".split(),
    "language": """French German Spanish Italian Korean Japanese Chinese Portuguese Dutch Polish Turkish Greek Arabic
        Hindi Swedish Danish Finnish Russian Czech Vietnamese Thai Norwegian""".split(),
}
LISTS = {
    "app": """camera; spotify; whatsapp; instagram; gmail; calculator; maps; calendar; settings; youtube; netflix;
        telegram; the browser; photos; notes; clock; contacts; facebook; tiktok; messages; uber; duolingo; zoom; slack;
        amazon; paypal; dropbox; discord; reddit; pinterest; linkedin; twitter; gallery; files; recorder; compass; music;
        podcasts; wallet; health""",
    "place": """home; work; the airport; the train station; the nearest gas station; the nearest pharmacy; the hospital;
        the city center; the beach; school; the gym; the supermarket; the post office; the library; Central Park;
        the main station; the closest parking lot; the university; Baker Street; the next charging station; the zoo;
        the town hall; Main Street; the harbor; the old bridge; the dentist; the nearest hotel; the football stadium;
        the museum of modern art; the bus stop; the nearest bank; Market Square; the bakery; the shopping mall;
        the national museum; Oak Avenue; the city park; the nearest hospital; Hill Road; the theater""",
    "text": """I'm (running|a bit|ten minutes) late; I'll be (home|there) (soon|at six|in an hour); dinner is ready;
        the meeting (is cancelled|was moved); I (love|miss) you; I'm (on my way|almost there|at the station);
        we need (milk|bread|eggs); the (train|bus|flight) is delayed; happy birthday; I forgot my keys; call me back;
        I can't come (today|tomorrow|tonight); the package (arrived|is here); see you (tomorrow|later|on Sunday);
        I'm stuck in traffic; thanks for the (help|gift|ride); we are waiting outside; the kids are asleep;
        my phone is almost dead; I found a parking spot; lunch is on me; the door is open; good luck with the exam;
        I left the (office|house); the doctor can see you now; please bring a jacket; I have the tickets;
        the game starts at eight; I'm at the (airport|hotel|gym); we won the (game|match); I got the job;
        the car is fixed; don't wait for me; I will pick up the (kids|cake|keys); the heating is broken;
        it's snowing here; the plan has changed; I'm feeling (better|sick)""",
    "task": """water the plants; (call|ring) the (doctor|bank|plumber); buy (milk|bread|eggs|flowers|batteries);
        take (out the trash|my pills|the medicine); pay the (rent|bills); feed the (cat|dog|fish); pick up the (kids|parcel);
        do the laundry; walk the dog; charge the car; book a table; send the (report|invoice); clean the kitchen;
        check the oven; return the books; renew my passport; book the flight; lock the door; wash the car;
        cancel the subscription; print the tickets; back up my laptop; order (pizza|a cake); sign the contract;
        iron my shirt; turn off the heating; visit grandma; empty the dishwasher; mow the lawn; answer the emails;
        get a haircut; fix the bike; pack my bag; study for the test""",
    "title": """dentist; lunch with (Anna|Ben|Maria|Tom); team meeting; yoga class; doctor; haircut; job interview;
        parents' evening; football practice; date night; piano lesson; budget review; dinner with (Lucy|Sam|Mom);
        book club; vet; car inspection; project kickoff; birthday party; swimming lesson; eye doctor; board meeting;
        coffee with (Nina|Paula|Jack); guitar lesson; massage; weekly review; opera; barbecue; physical therapy;
        house viewing; choir practice""",
    "phrase": """good morning; thank you; where is the station; how much is this; good night; I am hungry; see you later;
        the bill; I love you; where is the bathroom; excuse me; I don't understand; happy birthday; good luck;
        a table for two; I am lost; how are you; nice to meet you; one beer; I need a doctor; what time is it;
        have a nice day; can you help me; welcome; I am sorry; the food is great; how far is it; I am allergic to nuts;
        congratulations; a glass of water; good evening; I am from Canada""",
    "music": """jazz; classical music; the Beatles; Mozart; hip hop; rock music; piano music; Taylor Swift; my workout playlist;
        relaxing music; reggae; songs by Adele; country music; Bach; techno; my favorites; the new album by Coldplay; blues;
        Christmas songs; lullabies; folk music; Queen; heavy metal; movie soundtracks; salsa; the radio; Daft Punk;
        nature sounds; soul; my road trip playlist; songs by Elton John; dance music; indie rock; Beethoven; disco;
        guitar music; the latest hits; Frank Sinatra; Nirvana; opera""",
    "query": """pancake recipes; the height of Mount Everest; cheap flights to Rome; how to tie a tie; the best pizza in town;
        train times; black holes; used bikes; the world cup; vegan restaurants; how to remove coffee stains; the roman empire;
        electric cars; dog training tips; museums nearby; running shoes; solar panels; holiday homes; home workouts;
        the history of jazz; tax forms; garden ideas; northern lights; stock prices; learning the guitar; old maps;
        how to bake bread; the speed of light; good books for kids; hiking trails; concert tickets; chess openings;
        sourdough starters; phone reviews; the population of Iceland; camping gear""",
}
DAYS = [(spoken, day) for day in ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
        for spoken in [f"on {day.capitalize()}"]] + [("today", "today"), ("tomorrow", "tomorrow")]
ONES = "zero one two three four five six seven eight nine ten eleven twelve".split()
TENS = {10: "ten", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty",
        90: "ninety"}
VERBATIM = {"text", "task", "title", "phrase", "music", "query", "place"}  # answered as they were said

BEFORE = ["please ", "can you ", "could you ", "could you please ", "hey, ", "would you ", "can you please ",
          "I'd like you to ", "hey, can you ", "ok, "]
AFTER = [" please", ", please", ", thanks", " for me", " now", " quickly"]


class Random:
    """Draws from random.random() alone: the only stream that Python promises never to change."""

    def __init__(self, seed):
        self._next = random.Random(seed).random

    def chance(self, p):
        return self._next() < p

    def pick(self, items):
        return items[int(self._next() * len(items))]

    def shuffled(self, items):
        return [item for _, item in sorted(((self._next(), i), item) for i, item in enumerate(items))]


def items(text):
    return [" ".join(item.split()) for item in text.split(";")]


def all_slots():
    slots = {**WORDS, **{name: items(text) for name, text in LISTS.items()}}
    slots["time"] = [(hour, minute) for hour in range(5, 24) for minute in range(0, 60, 5)]
    slots["duration"] = [(n, unit) for unit, last in [("seconds", 60), ("minutes", 60), ("hours", 13)]
                         for n in range(2, last)]
    slots["percent"] = list(range(0, 101))
    slots["number"] = [(a, b) for a in range(211, 1000, 37) for b in range(1003, 10000, 311)]
    return slots


def all_phrasings():
    """Per group, the phrasings from which some are held out; each as the (action, fixed fields, text) of all its uses."""
    groups = []
    for on, phrasings in [(True, TOGGLE_ON), (False, TOGGLE_OFF)]:
        groups.append([[(action, {"on": on}, p.replace("{noun}", "(" + "|".join(flat(nouns)) + ")"))
                        for action, nouns in TOGGLES.items()] for p in phrasings])
    groups.append([[("call", {}, p.replace("{callee}", callee)) for callee in ["{name}", "{name}", "{number}"]]
                   for p in CALL])
    for action, fixed, phrasings in RULES:
        groups.append([[(action, fixed, p)] for p in phrasings])
    return groups


def flat(nouns):
    """Every noun that the choices spell: phrasings hold no choice inside a choice."""
    out = []
    for noun in nouns:
        match = re.match(r"\((.*?)\) ?(.*)", noun)
        out += [f"{article} {match[2]}".strip() for article in match[1].split("|")] if match else [noun]
    return out


def split(rng, values, share):
    """(the rest, the held-out share), by chance."""
    shuffled = rng.shuffled(values)
    cut = len(shuffled) - max(1, round(len(shuffled) * share))
    return shuffled[:cut], shuffled[cut:]


def choose(rng, phrasing):
    text = re.sub(r"\(([^()]*\|[^()]*)\)", lambda match: rng.pick(match[1].split("|")), phrasing)
    return re.sub(r"\s+", " ", text).strip()


def twelve_hours(value):
    """7:05 pm: the clock that people speak by. Another one would be arithmetic, which is the phone's part."""
    hour, minute = value
    return f"{(hour + 11) % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}"


def say_time(rng, value):
    """One of the ways to say a time that leave no doubt about the half of the day."""
    hour, minute = value
    if value == (12, 0) and rng.chance(0.5):
        return "noon"
    clock, half = twelve_hours(value).split()
    twelve = ONES[(hour + 11) % 12 + 1]
    part = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    styles = [f"{clock} {half}", f"{clock}{half}", f"{clock} {part}"]
    if minute == 0:
        styles += [f"{clock[:-3]} {half}", f"{clock[:-3]}{half}", f"{twelve} {part}", f"{clock[:-3]} o'clock {part}"]
    if minute == 30:
        styles += [f"half past {twelve} {part}"] * 2
    if minute == 15:
        styles += [f"quarter past {twelve} {part}"] * 2
    return rng.pick(styles)


def say_percent(rng, value):
    styles = [f"{value}%", f"{value} percent"]
    if value in TENS:
        styles += [f"{TENS[value]} percent"]
    if value == 100:
        styles += ["maximum", "full"]
    return rng.pick(styles)


def say(rng, slot, value):
    """(spoken, answer fields) of a value."""
    if slot == "time":
        return say_time(rng, value), {"time": twelve_hours(value)}
    if slot == "duration":
        number = ONES[value[0]] if value[0] <= 12 and rng.chance(0.4) else str(value[0])
        return f"{number} {value[1]}", {"amount": value[0], "unit": value[1]}
    if slot == "percent":
        return say_percent(rng, value), {"percent": value}
    if slot == "number":
        number = f"{value[0]} {value[1]}"
        return number, {"number": number}
    if slot == "day":
        return value[0], {"day": value[1]}
    if slot in VERBATIM:
        value = choose(rng, value)
        field = {"task": "text", "phrase": "text", "music": "query"}.get(slot, slot)
        return value, {field: value}
    if slot == "app" and rng.chance(0.5):
        return value.title(), {"app": value}
    return value, {slot: value}


def misspell(rng, words):
    """One longer word of the phrasing has two letters swapped, or one doubled."""
    long_words = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 4]
    if long_words:
        i = rng.pick(long_words)
        word, at = words[i], rng.pick(range(1, len(words[i]) - 2))
        words[i] = word[:at] + (word[at] + word[at:] if rng.chance(0.5) else word[at + 1] + word[at] + word[at + 2:])
    return words


def command(rng, rule, values):
    """(utterance, answer) of a phrasing, filled from `values`."""
    action, fixed, phrasing = rule
    order = phrasing.startswith("!")
    text = choose(rng, phrasing.lstrip("!"))
    if rng.chance(0.08):
        text = " ".join(misspell(rng, text.split(" ")))
    if order and rng.chance(0.3):
        text = rng.pick(BEFORE) + text
    # Behind a free text, "please" would belong to the text.
    if order and not text.endswith("}") and rng.chance(0.25) or text.endswith(("{time}", "{percent}")) and rng.chance(0.15):
        text += rng.pick(AFTER[:3])
    lower = rng.chance(0.35)
    text = text.lower() if lower else text[0].upper() + text[1:] if rng.chance(0.6) else text
    fields = dict(fixed)
    for slot in re.findall(r"\{(\w+)\}", text):
        spoken, answer = say(rng, slot, rng.pick(values[slot]))
        fields.update(answer)
        text = text.replace("{" + slot + "}", spoken if slot in VERBATIM or not lower else spoken.lower(), 1)
    text = re.sub(r"(some|a little) (the|my|songs)\b", r"\2", text)
    if rng.chance(0.15):
        question = text.lower().startswith(("what", "how", "will", "can", "could", "would", "is", "do i"))
        text += "?" if question and not phrasing.endswith("text}") else "."
    return text, {"action": action, **{key: fields[key] for key in FIELDS if key in fields}}


def normalised(utterance):
    return re.sub(r"[^a-z0-9]+", " ", utterance.lower()).strip()


def line(utterance, answer, **more):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": utterance},
                {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False, separators=(",", ":"))}]
    return {"messages": messages, **more}


def draw(rng, groups, values, count, taken):
    """`count` different commands, the groups in turn, and none of those in `taken`, to which they are added."""
    lines = []
    for attempt in range(100 * count):
        if len(lines) == count:
            return lines
        utterance, answer = command(rng, rng.pick(rng.pick(groups[attempt % len(groups)])), values)
        if normalised(utterance) not in taken:
            taken.add(normalised(utterance))
            lines.append(line(utterance, answer))
    raise SystemExit(f"make_phone_commands: the grammar has no {count} different commands left")


def has_open_slot(group):
    return any(slot != "day" for slot in re.findall(r"\{(\w+)\}", group[0][0][2]))


def dealt(groups):
    """Groups that spell many commands, more often than those that soon run out."""
    return [group for group in groups for _ in range(3 if has_open_slot(group) else max(2, len(group[0])))]


def make(n_train, n_heldout, seed):
    """(training lines, held-out lines)."""
    rng = Random(seed)
    seen, unseen = {"day": DAYS}, {"day": DAYS}
    for slot, values in all_slots().items():
        seen[slot], unseen[slot] = split(rng, values, HELD_OUT_VALUES)
    parts = [split(rng, group, HELD_OUT_PHRASINGS) for group in all_phrasings()]
    known, new = [group for group, _ in parts], [group for _, group in parts]
    taken = set()
    half = n_heldout // 2
    phrasing = draw(rng, dealt(new), seen, half, taken)
    values = draw(rng, [group for group in known if has_open_slot(group)], unseen, n_heldout - half, taken)
    heldout = [{**entry, "unseen": kind} for kind, part in [("phrasing", phrasing), ("values", values)] for entry in part]
    return draw(rng, dealt(known), seen, n_train, taken), heldout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=2500)
    parser.add_argument("--heldout", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    train, heldout = make(args.train, args.heldout, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, lines in [("train", train), ("heldout", heldout)]:
        (args.out / f"{name}.jsonl").write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in lines),
                                                encoding="utf-8")
    print(f"{len(train)} commands to train on and {len(heldout)} held out, in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

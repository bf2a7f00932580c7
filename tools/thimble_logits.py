"""`thimble logits` and its comparison with a reference's logits, for the scripts here. Not a command."""
import json
import subprocess

import numpy as np

# Token ids that every model with a vocabulary of 1,000 or more has.
SEQUENCES = [[1, 9, 198, 26, 35, 253, 53, 564, 111, 336, 351, 308, 345, 28, 701, 411],
             [504, 281, 796, 282, 913, 314]]


def thimble_logits(binary, model, ids, adapters=(), top=50):
    """[{"position", "ids", "logits"}] for each position, the ids by falling logit; weights are decoded, not rounded again."""
    command = [binary, "logits", str(model), "--ids", ",".join(map(str, ids)), "--positions", "all", "--top", str(top),
               "--compute", "f32", "--json"]
    for adapter in adapters:
        command += ["--adapter", str(adapter)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(entries, reference):
    """The largest difference of a logit, and at how many positions the first token differs.

    entries: as thimble_logits() returns them; reference: [n, vocabulary]. Tokens whose reference logits are nearer to
    each other than the found difference may swap places."""
    worst, other_first = 0.0, 0
    for entry in entries:
        row = reference[entry["position"]]
        difference = float(np.abs(row[entry["ids"]] - np.array(entry["logits"])).max())
        worst = max(worst, difference)
        other_first += bool(row.max() - row[entry["ids"][0]] > 2 * difference)
        # a token missing from our list must not belong there
        n = len(entry["ids"])
        missing = set(np.argpartition(-row, n)[:n].tolist()) - set(entry["ids"])
        if missing:
            worst = max(worst, float(row[list(missing)].max() - min(entry["logits"])))
    return worst, other_first


def read_ids(text):
    """"1,2,3" or a JSON file that holds one array of ids or several."""
    if text.endswith(".json"):
        with open(text) as file:
            ids = json.load(file)
        return ids if isinstance(ids[0], list) else [ids]
    return [[int(x) for x in text.split(",")]]

"""What of one OpenAPI document breaks the clients of another: `breaking.py OLD NEW`, exit status 1 where something does.

A client breaks where something is gone that it calls, sends or reads; where it must send what it did not know; and where
it reads what it never expected. The tools that are usually asked this are not to be had as packages.
"""

import json
import sys

METHODS = ("get", "put", "post", "delete", "patch")


def resolve(document, value):
    while isinstance(value, dict) and "$ref" in value:
        target = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        value = target
    return value if isinstance(value, dict) else {}


def types(schema):
    """The JSON types a schema admits; nothing where it admits any."""
    of = schema.get("type")
    return set([of] if isinstance(of, str) else of or [])


def words(schema):
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


class Comparison:
    def __init__(self, old, new):
        self.old, self.new, self.found = old, new, []

    def say(self, where, what):
        line = f"{where}: {what}"
        if line not in self.found:
            self.found.append(line)

    def documents(self):
        for path, item in self.old.get("paths", {}).items():
            for method in METHODS:
                if method not in item:
                    continue
                where = f"{method.upper()} {path}"
                new = self.new.get("paths", {}).get(path, {}).get(method)
                if new is None:
                    self.say(where, "is gone")
                else:
                    self.operation(where, item[method], new)

    def operation(self, where, old, new):
        if old.get("operationId") != new.get("operationId"):
            self.say(where, f"is called {new.get('operationId')}, and was {old.get('operationId')}")
        if not old.get("security") and new.get("security"):
            self.say(where, "asks for a credential")
        key = lambda p: (p["in"], p["name"])
        before = {key(p): p for p in (resolve(self.old, p) for p in old.get("parameters", []))}
        after = {key(p): p for p in (resolve(self.new, p) for p in new.get("parameters", []))}
        for name, parameter in before.items():
            if name not in after:
                self.say(where, f"does not take {name[1]} in {name[0]} any more")
            else:
                self.schema(f"{where}, {name[1]}", parameter.get("schema", {}), after[name].get("schema", {}), sent=True)
        for name, parameter in after.items():
            if parameter.get("required") and not before.get(name, {}).get("required"):
                self.say(where, f"requires {name[1]} in {name[0]}")
        self.body(where, resolve(self.old, old.get("requestBody")), resolve(self.new, new.get("requestBody")))
        for status, response in old.get("responses", {}).items():
            response = resolve(self.old, response)
            later = new.get("responses", {}).get(status)
            if later is None:
                if status.startswith("2"):
                    self.say(where, f"does not answer {status} any more")
                continue
            later = resolve(self.new, later)
            for name in response.get("headers", {}):
                if name not in later.get("headers", {}):
                    self.say(where, f"{status} lacks the header {name}")
            self.content(f"{where}, {status}", response, later, sent=False)

    def body(self, where, old, new):
        if new.get("required") and not old.get("required"):
            self.say(where, "requires a body")
        if old and not new:
            self.say(where, "takes no body any more")
        elif old:
            self.content(f"{where}, body", old, new, sent=True)

    def content(self, where, old, new, sent):
        for media, value in old.get("content", {}).items():
            later = new.get("content", {}).get(media)
            if later is None:
                self.say(where, f"{media} is gone")
            else:
                self.schema(where, value.get("schema", {}), later.get("schema", {}), sent)

    def schema(self, where, old, new, sent, seen=()):
        pair = (json.dumps(old, sort_keys=True), json.dumps(new, sort_keys=True))
        if pair in seen:
            return
        seen = (*seen, pair)
        old, new = resolve(self.old, old), resolve(self.new, new)
        one_of = [old.get("oneOf") or old.get("anyOf"), new.get("oneOf") or new.get("anyOf")]
        if any(one_of):
            return self.alternatives(where, one_of[0] or [old], one_of[1] or [new], sent, seen)
        before, after = types(old), types(new)
        # What is sent may be taken more widely, what is read may be answered more narrowly.
        narrowed = (before or {"any"}) - after if sent and after else set()
        widened = (after or {"any"}) - before if not sent and before else set()
        for kind in sorted(narrowed):
            self.say(where, f"does not take {kind} any more")
        for kind in sorted(widened):
            self.say(where, f"may be {kind}")
        before, after = words(old), words(new)
        if sent and after is not None and (before is None or before - after):
            self.say(where, f"takes fewer words: {sorted(map(str, after))}")
        if not sent and before is not None and (after is None or after - before):
            self.say(where, f"answers further words than {sorted(map(str, before))}")
        if sent:
            for bound, tighter in (("minimum", max), ("minLength", max), ("maximum", min), ("maxLength", min)):
                if bound in new and (bound not in old or tighter(old[bound], new[bound]) != old[bound]):
                    self.say(where, f"has a tighter {bound}: {new[bound]}")
            if "pattern" in new and old.get("pattern") != new["pattern"]:
                self.say(where, f"must match {new['pattern']}")
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, member in before.items():
            if name not in after:
                self.say(where, f"{name} is gone")
            else:
                self.schema(f"{where}.{name}", member, after[name], sent, seen)
        must = set(new.get("required", [])) - set(old.get("required", []))
        mustnt = set(old.get("required", [])) - set(new.get("required", []))
        for name in sorted(must if sent else mustnt):
            self.say(where, f"{name} is required now" if sent else f"{name} may be missing")
        for inner in ("items", "additionalProperties"):
            if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
                self.schema(f"{where}[]", old[inner], new[inner], sent, seen)

    def alternatives(self, where, old, new, sent, seen):
        def name(schema):
            return schema.get("$ref") or json.dumps(sorted(types(schema)))

        before, after = {name(s): s for s in old}, {name(s): s for s in new}
        for key in before.keys() & after.keys():
            self.schema(where, before[key], after[key], sent, seen)
        # A further problem is no news to a client: it has to expect codes that it does not know.
        problems = all("Problem" in key for key in after.keys() - before.keys())
        for key in sorted(before.keys() - after.keys()) if sent else []:
            self.say(where, f"does not take {key} any more")
        for key in sorted(after.keys() - before.keys()) if not sent and not problems else []:
            self.say(where, f"may be {key}")


def main():
    old, new = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:3])
    comparison = Comparison(old, new)
    comparison.documents()
    for line in comparison.found:
        print(line)
    sys.exit(1 if comparison.found else 0)


if __name__ == "__main__":
    main()

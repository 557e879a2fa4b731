"""Holds recorded calls of Stripe's API against the annotations of the official Python SDK: every answer has what its
class requires, and every request has the parameters of its method alone. Python's annotations do not tell what may be
null from what may be absent; `types.cjs` is stricter there.

    python annotations.py <record>...

A record has a line of JSON per call: {method, path, query, body, status, answer}.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import sys
import typing
from collections import Counter
from urllib.parse import parse_qsl

import stripe
import typing_extensions
from stripe._object_classes import get_object_class
from stripe._stripe_object import StripeObject
from stripe._list_object import ListObject

TEXTS = re.compile(r"-?\d+(\.\d+)?")
findings = Counter()
examples = {}


def find(kind, place, what, example):
    text = f"{kind}: {place}: {what}"
    findings[text] += 1
    examples.setdefault(text, example)


# --- What the annotations' names mean -----------------------------------------------------------------------------


class Names(dict):
    """The names of a module, those included that it imports for type checkers alone."""

    def __init__(self, module):
        super().__init__(vars(typing))
        self.update(vars(module))
        self.imports = {}
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in node.names:
                    self.imports[name.asname or name.name] = (node.module, name.name)

    def __missing__(self, name):
        module, name = self.imports[name]
        return getattr(importlib.import_module(module), name)


known_names = {}


def names_of(module_name):
    if module_name not in known_names:
        known_names[module_name] = Names(importlib.import_module(module_name))
    return known_names[module_name]


def meant(annotation, names):
    """An annotation with its outermost name resolved."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        # As the interpreter reads `A | B` today, whichever version wrote it.
        return meant(eval(as_unions(annotation), {"__builtins__": __builtins__}, names), names)
    return annotation


def as_unions(text):
    """`A|B` as `Union[A, B]`: names in quotes cannot be joined by `|`."""

    class Unions(ast.NodeTransformer):
        def visit_BinOp(self, node):
            self.generic_visit(node)
            both = ast.Tuple([node.left, node.right], ast.Load())
            return ast.Subscript(ast.Name("Union", ast.Load()), both, ast.Load())

    return ast.unparse(Unions().visit(ast.parse(text, mode="eval")))


remembered = {}


def kinds_of(annotation, names):
    """The constituents of a union, without wrappers that change nothing."""
    known = remembered.get((id(annotation), id(names)))
    if known is None:
        # The annotation is kept too: its address would be another's otherwise.
        known = remembered[id(annotation), id(names)] = (resolved(annotation, names), annotation)
    return known[0]


def resolved(annotation, names):
    annotation = meant(annotation, names)
    origin = typing.get_origin(annotation)
    if origin in (typing_extensions.NotRequired, typing_extensions.Required):
        return kinds_of(typing.get_args(annotation)[0], names)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return [kind for one in typing.get_args(annotation) for kind in kinds_of(one, names)]
    if origin is typing.ClassVar:
        return kinds_of(typing.get_args(annotation)[0], names)
    return [annotation]


# --- Values by annotations ----------------------------------------------------------------------------------------


def faults(value, annotation, names, place, sent):
    kinds = kinds_of(annotation, names)
    if any(kind in (typing.Any, object) for kind in kinds):
        return []
    if value is None:
        return [] if type(None) in kinds else [(place, "is null, and its type does not allow that")]
    if isinstance(value, list):
        for kind in kinds:
            if typing.get_origin(kind) is list:
                (rows,) = typing.get_args(kind)
                return [fault for row in value for fault in faults(row, rows, names, f"{place}[]", sent)]
        return [(place, "is a list, and its type is none")]
    if isinstance(value, dict):
        return best(value, kinds, names, place, sent)
    return plain(value, kinds, place, sent)


def plain(value, kinds, place, sent):
    literals = [one for kind in kinds if is_literal(kind) for one in typing.get_args(kind)]
    if value in literals:
        return []
    # An enum also takes any text, for the sake of later versions.
    is_enum = any(isinstance(one, str) and one for one in literals)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = (
        (isinstance(value, str) and str in kinds and not is_enum)
        or (isinstance(value, bool) and bool in kinds)
        or (isinstance(value, int) and is_number and int in kinds)
        or (is_number and float in kinds)
        or (isinstance(value, str) and any(getattr(kind, "__name__", "") == "Decimal" for kind in kinds))
    )
    if sent and isinstance(value, str) and not fits:
        fits = (
            (value in ("true", "false") and (bool in kinds or True in literals))
            or (TEXTS.fullmatch(value) and (int in kinds or float in kinds))
        )
    if fits:
        return []
    if is_enum and isinstance(value, str):
        return [(place, f"is {value!r}, none of {', '.join(map(str, literals))}")]
    return [(place, f"is {type(value).__name__ if not sent else value!r}, and its type is {str(kinds)[:80]}")]


def is_literal(kind):
    return typing.get_origin(kind) in (typing.Literal, typing_extensions.Literal)


def best(value, kinds, names, place, sent):
    if not sent and "object" in value and not place.startswith("event.data"):
        place = named(value, place)
    found = None
    for kind in kinds:
        own = fields_of(value, kind, names, place, sent)
        if own is not None and (found is None or len(own) < len(found)):
            found = own
    return [(place, "is an object, and its type is none")] if found is None else found


def fields_of(value, kind, names, place, sent):
    """The faults of an object by one kind; None where the kind is none of objects."""
    origin = typing.get_origin(kind)
    if origin is dict:
        _, rows = typing.get_args(kind)
        return [fault for own in value.values() for fault in faults(own, rows, names, f"{place}.*", sent)]
    if origin is ListObject:
        (rows,) = typing.get_args(kind)
        return [fault for row in value.get("data", []) for fault in faults(row, rows, names, place, sent)]
    if getattr(origin, "__name__", "") == "UntypedStripeObject" or getattr(kind, "__name__", "") == "UntypedStripeObject":
        return []
    if kind in (dict, StripeObject):
        return []
    if typing_extensions.is_typeddict(kind):
        return by_dict(value, kind, place, sent)
    if isinstance(kind, type) and issubclass(kind, StripeObject):
        if "object" in value and getattr(kind, "OBJECT_NAME", value["object"]) != value["object"]:
            return None
        return by_class(value, kind, place)
    return None


def by_class(value, kind, place):
    found = []
    if value.get("deleted") is True:
        return found
    names = names_of(kind.__module__)
    # What the SDK itself calls otherwise, such as `from`, it names here.
    renamed = getattr(kind, "_field_remappings", {})
    for name, annotation in vars(kind).get("__annotations__", {}).items():
        wire = renamed.get(name, name)
        if typing.get_origin(annotation) is typing.ClassVar or name.startswith("_") and wire == name:
            continue
        kinds = kinds_of(annotation, names)
        if wire not in value:
            # An invoice that is to come has none, as the documentation of `invoice.upcoming` says against its type.
            if wire == "id" and kind is stripe.Invoice and value.get("status") == "draft":
                continue
            if type(None) not in kinds:
                found.append((f"{place}.{wire}", "is missing"))
            continue
        found += faults(value[wire], annotation, names, f"{place}.{wire}", False)
    return found


def by_dict(value, kind, place, sent):
    found = []
    names = names_of(kind.__module__)
    # The parameters of a few methods are a kind of the options that every call takes.
    fields = {
        name: annotation
        for name, annotation in kind.__annotations__.items()
        if name not in stripe.RequestOptions.__annotations__
    }
    for name, annotation in fields.items():
        if name in value:
            found += faults(value[name], annotation, names, f"{place}.{name}", sent)
        elif typing.get_origin(meant(annotation, names)) is not typing_extensions.NotRequired:
            found.append((f"{place}.{name}", "is missing"))
    return found + [(f"{place}.{name}", "is unknown") for name in value if name not in fields]


def named(value, otherwise):
    return value.get("object", otherwise)


# --- Which method sends what where --------------------------------------------------------------------------------


def routes():
    found = []
    for module in pkgutil.walk_packages(stripe.__path__, "stripe."):
        if not module.name.endswith("_service") or ".v2" in module.name:
            continue
        names = names_of(module.name)
        for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module.name)))):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "_request":
                    verb, address = call.args[0].value, call.args[1]
                    if isinstance(address, ast.Call):
                        address = address.func.value
                    pattern = re.sub(r"\\?\{\w+\\?\}", "[^/]+", re.escape(address.value))
                    params = [one.annotation for one in node.args.args if one.arg == "params"]
                    text = ast.unparse(params[0]) if params else "None"
                    name = f"{module.name.rsplit('._', 1)[-1]}.{node.name}"
                    found.append((verb.upper(), re.compile(pattern), pattern.count("[^/]+"), name, text, names))
    return sorted(found, key=lambda one: one[2])


def decoded(form):
    """A form as the value that was encoded: `a[b][0]=c`."""
    root = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        keys = [key.rstrip("]") for key in name.split("[")]
        at = root
        for key in keys[:-1]:
            at = at.setdefault(key or str(len(at)), {})
        at[keys[-1] or str(len(at))] = value
    return lists(root)


def lists(value):
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [lists(own) for own in value.values()]
    return {key: lists(own) for key, own in value.items()}


def main():
    all_routes = routes()
    seen = set()
    answers = 0
    for record in sys.argv[1:]:
        for line in open(record, encoding="utf-8"):
            call = json.loads(line)
            status = call["status"]
            example = f"{call['method']} {call['path']}?{call['query']} {call['body']}"[:300]
            refused = status is not None and 400 <= status < 500 and status != 402
            form = call["body"] if call["method"] == "POST" else call["query"]
            if not refused:
                own = [
                    one for one in all_routes
                    if one[0] == call["method"] and one[1].fullmatch(call["path"])
                ]
                if not own:
                    find("request", f"{call['method']} {call['path']}", "no method of the SDK sends this", example)
                elif (own[0][3], form) not in seen:
                    _, _, _, name, params, names = own[0]
                    seen.add((name, form))
                    sent = decoded(form)
                    if sent or params != "None":
                        kinds = kinds_of(params, names)
                        for place, what in best(sent, kinds, names, name, True):
                            find("request", place, what, example)
            if status == 200:
                answers += 1
                answer = call["answer"]
                rows = answer["data"] if answer.get("object") == "list" else [answer]
                for row in rows:
                    kind = get_object_class("V1", row["object"])
                    if kind is StripeObject:
                        find("answer", row["object"], "no class of the SDK is this object", example)
                        continue
                    for place, what in best(row, [kind], names_of(kind.__module__), row["object"], False):
                        find("answer", place, what, example)
                    if row["object"] == "event":
                        about = row["data"]["object"]
                        kind = get_object_class("V1", about["object"])
                        for place, what in best(about, [kind], names_of(kind.__module__), about["object"], False):
                            find("answer", place, what, example)
    for text in sorted(findings):
        print(f"{text} ({findings[text]} times, as in {examples[text]})", file=sys.stderr)
    print(f"Python's types: {len(seen)} different requests and {answers} answers, {len(findings)} findings")
    if not seen or not answers:
        sys.exit("nothing was recorded")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()

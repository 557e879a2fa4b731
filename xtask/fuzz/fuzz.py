"""Has schemathesis ask a running server, in every phase that it has, and hold each answer against the API's document.

usage: fuzz.py URL CASES [ARGUMENTS OF schemathesis]

CASES says how many random requests there are in about, evenly for all operations. The phases that are not random (examples,
the edges of each parameter) come on top, and so do ways from one answer to the next request.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
PHASES = "examples,coverage,fuzzing,stateful"
# What a document promises. Whether every impossible request is refused is asked by tests of our own: schemathesis does not
# know what a cursor is.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


def main():
    url, cases, more = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    os.environ["FUZZED_URL"] = url
    sys.path.insert(0, str(HERE))
    import hooks

    account = {"name": "Fuzzed", "workspace_name": "Fuzzed", "email": hooks.EMAIL, "password": hooks.PASSWORD}
    token = hooks.post("/v1/signup", account)["access_token"]
    library = hooks.post("/v1/libraries", {"name": "Fuzzed"}, token)["id"]
    gallery = {"library_id": library, "name": "Fuzzed", "download": "original"}
    hooks.post("/v1/galleries", gallery, token)

    document = json.loads((HERE / "../../docs/openapi.json").read_text())
    methods = {"get", "post", "patch", "put", "delete"}
    operations = sum(len(methods & item.keys()) for item in document["paths"].values())
    each = max(1, round(cases / operations))
    with tempfile.TemporaryDirectory() as folder:
        # From one answer to the next request: with what is refused the way would end at once.
        ways = f"""
            [phases.stateful]
            max-steps = 20
            [phases.stateful.generation]
            mode = "positive"
            max-examples = {max(100, each)}
        """
        (pathlib.Path(folder) / "schemathesis.toml").write_text(ways)
        command = [
            str(pathlib.Path(sys.executable).with_name("st")),
            "run", f"{url}/openapi.json", "--url", url,
            "--phases", PHASES, "--checks", CHECKS, "--mode", "all",
            "--max-examples", str(each), "--continue-on-failure",
            "--request-timeout", "30", "--warnings", "off",
            *more,
        ]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "NO_PROXY": "127.0.0.1"}
        status = subprocess.run(command, env=environment, cwd=folder).returncode
    sys.exit(status)


main()

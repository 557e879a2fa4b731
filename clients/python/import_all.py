"""Imports every module of the generated clients: `import_all.py FOLDER DOCUMENT`. Each operation must be there."""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

generated = Path(sys.argv[1])
document = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
sys.path[:0] = [str(generated), str(generated / "openapi-generator")]

operations = [
    operation
    for item in document["paths"].values()
    for method, operation in item.items()
    if method in ("get", "post", "put", "patch", "delete")
]
for name in ("rawdrive_client", "rawdrive_generated"):
    package = importlib.import_module(name)
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{name}.")]
    for module in modules:
        importlib.import_module(module)
    print(f"{name}: {len(modules)} modules")

for operation in operations:
    tag, operation_id = operation["tags"][0], operation["operationId"]
    importlib.import_module(f"rawdrive_client.api.{tag}.{operation_id}")
    api = importlib.import_module(f"rawdrive_generated.api.{tag}_api")
    assert hasattr(getattr(api, f"{tag.capitalize()}Api"), operation_id), operation_id
print(f"each of {len(operations)} operations is in both")

"""Checks a hub's compose file without an engine: its shape, by the compose specification as far as
the file uses it, and that it leads to files that are there.

Prints every mistake and ends with 1 when there is one.
"""

import pathlib
import re
import sys

import yaml

# Keys of a service that the file uses, with the type that the specification asks for.
SERVICE = {
    "image": str,
    "command": list,
    "working_dir": str,
    "hostname": str,
    "user": str,
    "restart": str,
    "stop_grace_period": str,
    "read_only": bool,
    "cap_drop": list,
    "security_opt": list,
    "ulimits": dict,
    "volumes": list,
    "ports": list,
    "networks": dict,
}
PORT = re.compile(r"(?:(?:\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):)?(\d+):(\d+)")


def mistakes(file):
    document = yaml.safe_load(file.read_text())
    if not isinstance(document, dict) or set(document) != {"name", "services"}:
        yield f"expected name and services, found {document!r}"
        return
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", document["name"]):
        yield f"{document['name']!r} is no name of a project"
    published = set()
    for name, service in document["services"].items():
        for key, value in service.items():
            if not isinstance(value, SERVICE.get(key, ())):
                yield f"{name}: {key}: {value!r}"
        if not re.fullmatch(r"[a-zA-Z0-9._-]+", name):
            yield f"{name!r} is no name of a service"
        if not re.fullmatch(r"\d+:\d+", service["user"]):
            yield f"{name}: user {service['user']!r}"
        volumes = dict(volume.split(":")[:2][::-1] for volume in service["volumes"])
        conf = pathlib.PurePath(service["command"][1])
        here = file.parent / volumes.get(str(conf.parent), "-") / conf.name
        if not here.is_file() or service["working_dir"] != str(conf.parent):
            yield f"{name}: {conf} leads to {here}, which is not there"
        elif "store_dir" not in (text := here.read_text()):
            yield f"{name}: {here} is no configuration: {text}"
        else:
            store = re.search(r'store_dir: "(.*)"', text).group(1)
            if str(conf.parent / store) not in volumes:
                yield f"{name}: {store} is kept nowhere"
        for port in service["ports"]:
            found = PORT.fullmatch(port) if isinstance(port, str) else None
            if not found:
                yield f"{name}: {port!r} is no port"
            elif found.group(1) in published:
                yield f"{name}: port {found.group(1)} is published twice"
            else:
                published.add(found.group(1))
        for network in service.get("networks", {}).values():
            if not all(isinstance(alias, str) for alias in network["aliases"]):
                yield f"{name}: {network!r}"


found = list(mistakes(pathlib.Path(sys.argv[1])))
print("\n".join(found))
sys.exit(1 if found else 0)

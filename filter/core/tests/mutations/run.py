#!/usr/bin/env python3
"""Breaks the core, one line at a time (list.txt), in a copy of it, and expects the simulation to fail with the words that
the list names: an invariant that cannot fail proves nothing.

    run.py [<words of a name>]      all, or those whose name contains the words; SEEDS=1500 runs each
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CORE = HERE.parent.parent
ROOT = CORE.parent.parent
COPY = ROOT / "target" / "mutations"


def mutations():
    """The blocks of the list."""
    text = (HERE / "list.txt").read_text()
    for block in re.split(r"(?m)^(?=\[)", text)[1:]:
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        fields = dict(line.split(" ", 1) for line in lines[1:])
        yield lines[0].strip("[]"), fields["file"], fields["-"], fields["+"], fields["says"]


def prepare():
    """A workspace with nothing but the core in it."""
    COPY.mkdir(parents=True, exist_ok=True)
    manifest = (ROOT / "Cargo.toml").read_text()
    manifest = re.sub(r"(?m)^members = .*", 'members = ["filter/core"]', manifest)
    (COPY / "Cargo.toml").write_text(manifest)
    shutil.copy(ROOT / "Cargo.lock", COPY)
    core = COPY / "filter" / "core"
    shutil.rmtree(core, ignore_errors=True)
    # With new times: Cargo would take a mutation of before for the present.
    shutil.copytree(CORE, core, ignore=shutil.ignore_patterns("fuzz", "mutations"), copy_function=shutil.copy)
    return core / "src"


def simulate():
    """Whether the simulation passes, and what it said."""
    command = ["cargo", "test", "--quiet", "--offline", "-p", "redis-sentinel-core", "--test", "simulation"]
    environment = {"SEEDS": "1500", **os.environ, "CARGO_TARGET_DIR": str(COPY / "target"), "RUST_BACKTRACE": "0"}
    run = subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True)
    return run.returncode == 0, run.stdout + run.stderr


def main():
    wanted = " ".join(sys.argv[1:])
    source = prepare()
    passed, said = simulate()
    if not passed:
        sys.exit(f"mutations: the simulation fails as it is\n{said[-3000:]}")
    survivors = 0
    for name, file, old, new, says in mutations():
        if wanted not in name:
            continue
        path = source / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"mutations: {name}: {file} has this line {text.count(old)} times: {old}")
        path.write_text(text.replace(old, new))
        passed, said = simulate()
        path.write_text(text)
        if passed or says not in said:
            survivors += 1
            print(f"SURVIVED  {name}: {'nothing failed' if passed else said[-1500:]}", flush=True)
        else:
            seed = re.search(r"SEED=(\S+)", said)
            print(f"killed    {name}: {says} ({seed.group(1) if seed else 'no seed'})", flush=True)
    if survivors:
        sys.exit(f"mutations: {survivors} survived")


if __name__ == "__main__":
    main()

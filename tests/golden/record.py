"""The command that records golden histories: those that are missing, those named, or `--all`."""

import subprocess
import sys
from pathlib import Path

from tests.golden import corpus
from tests.golden.scenes import SCENES


def wanted(arguments: list[str]) -> list[str]:
    """Choose the scenes to play: a history that is there stays, as old runs must replay on new code."""
    if arguments == ["--all"]:
        return list(SCENES)
    unknown = set(arguments) - set(SCENES)
    if unknown:
        raise SystemExit(f"There is no scene {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}.")
    there = {corpus.scene_of(path) for path in corpus.paths()}
    return arguments or [name for name in SCENES if name not in there]


def main(arguments: list[str]) -> int:
    """Play the scenes on servers of their own."""
    scenes = wanted(arguments)
    if not scenes:
        print("Every scene is recorded; name one to record it again.")
        return 0
    file = Path(__file__).with_name("recording.py")
    plays = [f"{file}::record[{name}]" for name in scenes]
    # A process of its own: pytest wants to be there before the modules that it rewrites.
    pytest = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-o", "python_functions=record"]
    return subprocess.call([*pytest, *plays], cwd=corpus.ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

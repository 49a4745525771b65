"""Run every benchmark in turn, each in a process of its own."""

import pkgutil
import subprocess
import sys

import bench


def main() -> int:
    names = sorted(
        module.name
        for module in pkgutil.iter_modules(bench.__path__)
        if not module.name.startswith("_")
    )
    wanted = sys.argv[1:] or names
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(names)}")
        return 2
    failed = 0
    for name in wanted:
        print(f"== {name}", flush=True)
        failed += (
            subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
            != 0
        )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())

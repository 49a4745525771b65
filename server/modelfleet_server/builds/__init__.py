"""Masters in, variants out: checked at the door, built, evaluated, all in limited children.

| module       | gives                                                                  |
|--------------|------------------------------------------------------------------------|
| `errors`     | why a file, a build or a child was refused                             |
| `domain`     | states of a build as a table; the child's jobs and answers             |
| `tables`, `service`, `worker` | builds as rows, and the thread that works them off    |
| `profiles`   | profiles from their files: the shipped ones and an operator's          |
| `recipes`    | what is tried for a profile, and the digests of recipes and tools      |
| `choosing`   | which candidate ships, and why: the gate, the objective, the front     |
| `children`   | starts `child` under limits: the only process that parses models       |
| `launcher`   | one such child: its pipes, its deadline, how it died                   |
| `verifying`  | builds a variant again, and says what differs                          |
| `emulation`, `scoring` | numbers as another processor computes them                   |
| `plain`      | a first run, on plain inputs                                           |
| `metrics`    | how good answers are, by the kind of task                              |
| `cleaning`, `fourbits` | steps that are done here and not by ONNX Runtime             |
| `toolchain`  | the tools' versions and the lock file that names them all              |
| `door`, `graph` | static checks of an ONNX file before anything loads it              |
| `datasets`   | evaluation and calibration sets                                        |
| `making`     | one build from end to end, of `steps`, `evaluate`, `golden`, `patches` |
| `workshop`   | what the catalog, which lies below, needs of builds                     |

What only the child imports may import numpy, onnx and onnxruntime: `making` and all that it
needs, `door`, `packing`. The server's own process never does.
"""

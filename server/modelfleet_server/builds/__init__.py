"""Masters in, variants out: checked at the door, built, evaluated, all in limited children.

| module       | gives                                                                  |
|--------------|------------------------------------------------------------------------|
| `errors`     | why a file, a build or a child was refused                             |
| `domain`     | states of a build as a table; the child's jobs and answers             |
| `tables`, `service`, `worker` | builds as rows, and the thread that works them off    |
| `recipes`    | which recipe makes which profile's variant                             |
| `children`   | starts `child` under limits: the only process that parses models       |
| `door`, `graph` | static checks of an ONNX file before anything loads it              |
| `datasets`   | evaluation and calibration sets                                        |
| `steps`, `evaluate`, `golden` | build, measure, and the golden inputs; only in the child |

Nothing but `door`, `graph`, `datasets`, `steps`, `evaluate`, `golden` and `child` imports
numpy, onnx or onnxruntime: the server itself never does.
"""

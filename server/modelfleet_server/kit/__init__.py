"""What every slice of the server shares: database, errors, time, ids, paging, access.

| module     | gives                                                               |
|------------|---------------------------------------------------------------------|
| `db`       | `Database`: `read()`, `write()`; `after_commit`                     |
| `words`    | `words(State)`: a column that stores the values of a `StrEnum`      |
| `columns`  | `BigInt` (use it for every count, counter and `..._ms`)             |
| `errors`   | `AppError` and what a caller can do about each kind                 |
| `problems` | errors as `application/problem+json`                                |
| `access`   | `Role`, `Actor`, `require(Role.X)` and `OperatorDep` and its sisters |
| `api`      | `ReadDep`, `WriteDep`, `NowDep`, `given(Type)`                      |
| `parts`    | `Parts`: what the composition root made, found again by its type    |
| `paging`   | `PageDep`, `Page`, `fetch_page`                                     |
| `clock`, `ids` | the only readers of wall clock and randomness                   |
"""

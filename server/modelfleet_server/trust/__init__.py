"""What humans sign, and what the director may choose from it.

| module       | gives                                                                |
|--------------|----------------------------------------------------------------------|
| `director`   | signs assignments and deployments, once each; renews them            |
| `ceremony`   | begins a fleet                                                       |
| `online`     | the keys beside the server: snapshot, timestamp, director            |
| `approver`   | the approvers' encrypted key file; never read by the server          |
| `repository` | composes the next metadata of the roles; pure                        |
| `approving`  | the approver's side: a proposal in words, and its signatures         |
| `proposals`  | propose, attach signatures, publish                                  |
| `freshness`  | snapshot and timestamp, signed anew every day                        |
| `served`     | `/tuf/…`, a standard TUF repository                                  |
| `api`        | proposals and revocations                                            |
"""

"""What humans sign, and what the director may choose from it.

| module       | gives                                                                |
|--------------|----------------------------------------------------------------------|
| `director`   | has assignments and deployments signed, once each                    |
| `drafting`, `renewing` | composes them; has them signed anew                        |
| `ledger`     | what it signed: in force, and all before                             |
| `ceremony`   | begins a fleet                                                       |
| `gathering`  | a ceremony of several people, from hand to hand                      |
| `keyplan`    | who signs what from now on; pure                                     |
| `rekeying`   | proposes other keys, and the end of a recall                         |
| `online`     | the files of online keys: snapshot, timestamp, director, time        |
| `signer`     | the process that holds them, its rules, and how it is asked           |
| `lessons`    | shows the signer what people signed                                   |
| `approver`   | the approvers' encrypted key file; never read by the server          |
| `repository` | composes the next metadata of the roles; pure                        |
| `delegations` | who signs what: keys, thresholds, groups; pure                      |
| `rolefile`   | the files of roles: bytes to metadata and back; pure                 |
| `approving`, `changes` | the approver's side: a proposal in words, its signatures   |
| `proposing`  | composes proposals: releases, renewals                               |
| `recalling`  | composes recalls: of a release, of files, of a range of versions     |
| `flooring`   | proposes the lowest version of a model                               |
| `proposals`  | attach signatures, publish, withdraw                                 |
| `publishing` | snapshot and timestamp, outbox; signed anew every day                |
| `view`       | what a device that is up to date would know                          |
| `served`     | `/tuf/…`, a standard TUF repository                                  |
| `api`        | proposals and recalls                                                |
| `key_api`    | other keys, floors, and the end of a recall                          |
"""

"""Evidence from reference devices: candidates run where they will run.

A profile may ask that so many enrolled devices with the label `role=reference` have run a
candidate before it counts (`prove: reference_devices`). Such a device asks by HTTP; it gets
a document that the director signed, and answers with a result that it signed itself. How
good the answers are is judged here, beside those of the master.
"""

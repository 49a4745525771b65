"""What the device says: a chain of signed reports, kept until they are acknowledged."""

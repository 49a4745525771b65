"""What a person at the device does: install, why, history, rollback, doctor."""

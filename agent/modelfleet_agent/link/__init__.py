"""How the device hears and fetches: MQTT session, inbox of documents, downloads."""
